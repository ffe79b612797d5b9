"""Who becomes the parent of orphans; in a process of its own, since that holds for all of one."""

from __future__ import annotations

import subprocess
import sys

import pytest

_BEFORE = {
    "as it is": "",
    "another Python": "import _ctypes\ndef none(*a): raise TypeError\n_ctypes.call_function = none",
    "no such file in /proc": """
real = os.open
def without(path, *more, **rest):
    if "/children" in str(path):
        raise FileNotFoundError(2, "no", path)
    return real(path, *more, **rest)
os.open = without
""",
}
_SCRIPT = """
import os, subprocess
from minionize.worker.orphans import Orphans
{before}
adopted = Orphans("m").adopt()
child = subprocess.run(["sh", "-c", "sleep 60 >/dev/null & echo $!"], stdout=-1).stdout
with open(f"/proc/{{int(child)}}/stat") as file:
    parent = int(file.read().rpartition(")")[2].split()[1])
os.kill(int(child), 9)
print(adopted, parent == os.getpid())
"""


@pytest.mark.parametrize("case", _BEFORE)
def test_orphans_become_ours_where_they_can_be_seen(case: str) -> None:
    script = _SCRIPT.format(before=_BEFORE[case])
    ran = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    expected = "False False\n" if case.startswith("no such file") else "True True\n"
    assert (ran.stdout, ran.stderr) == (expected, "")

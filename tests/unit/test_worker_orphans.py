"""Who becomes the parent of orphans, in a process of its own, since that holds for all of one; and
whose these are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from minionize.worker.orphans import Orphans

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


def test_whose_a_process_is_can_be_told_while_it_becomes_another_program(tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.write_text('#!/bin/sh\nexec "$0"\n')
    again.chmod(0o755)
    mine = {"MINION_ID": "m", "MINION_PARAM_ID": "7"}
    child = subprocess.Popen([str(again)], env={**os.environ, **mine}, start_new_session=True)
    try:
        orphans = Orphans("m")
        assert {orphans._param_of(child.pid) for _ in range(3000)} == {b"7"}
    finally:
        child.kill()
        child.wait()
    assert orphans._param_of(child.pid) is None


_HANDED_ON = """
import os, subprocess, time
from minionize.worker.orphans import Orphans

orphans = Orphans("m")
assert orphans.adopt()
script = "(until test -e go; do sleep 0.01; done; sleep 60 &) &"
mine = {**os.environ, "MINION_ID": "m", "MINION_PARAM_ID": "7"}
subprocess.run(["sh", "-c", script], env=mine, stdout=subprocess.DEVNULL, start_new_session=True)
read = orphans._children

def ended(name):
    with open(f"/proc/{int(name)}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "Z"

def read_and_be_late():
    found = read()
    if not os.path.exists("go"):
        open("go", "w").close()
        while not any(map(ended, found)):
            time.sleep(0.01)
    return found

orphans._children = read_and_be_late
orphans.sort([])
left = orphans.of(0, "7")
print(len(left))
for pid in left:
    os.kill(pid, 9)
"""


def test_what_an_orphan_leaves_that_ends_while_it_is_looked_at_is_found(tmp_path: Path) -> None:
    """As a daemon that forks twice does."""
    ran = subprocess.run(
        [sys.executable, "-c", _HANDED_ON],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert (ran.stdout, ran.stderr) == ("1\n", "")


_TWICE = """
import os, time
from minionize.worker.orphans import Orphans

orphans = Orphans("m")
assert orphans.adopt()
missed = 0
for _ in range(300):
    main = os.fork()
    if not main:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.setsid()
        if os.fork():
            os._exit(0)
        time.sleep(0.5)
        os._exit(0)
    os.waitpid(main, 0)
    until = time.monotonic() + 0.005
    while time.monotonic() < until:
        orphans.sort([main])
        missed += not orphans.of(main, "7")
print(missed)
"""


def test_a_daemon_that_forks_twice_is_seen_all_the_time() -> None:
    """Also at the moment in which one of the two is about to end, and shows no environment."""
    mine = {**os.environ, "MINION_ID": "m", "MINION_PARAM_ID": "7"}
    ran = subprocess.run(
        [sys.executable, "-c", _TWICE], check=False, capture_output=True, text=True, env=mine
    )
    assert (ran.stdout, ran.stderr) == ("0\n", "")

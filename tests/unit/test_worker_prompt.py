"""Short slices: for the minion itself, not for what it starts, and only where nobody chose."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ASK = """
import re, subprocess, sys
from pathlib import Path
from minionize.worker.prompt import ask_for_short_slices
def slice_of(text):
    found = re.search(r"se.slice *: *([0-9]+)", text)
    return int(found[1]) if found else None
before = slice_of(Path("/proc/self/sched").read_text())
granted = ask_for_short_slices()
after = slice_of(Path("/proc/self/sched").read_text())
child = slice_of(subprocess.run(["cat", "/proc/self/sched"], capture_output=True, text=True).stdout)
print(granted, before, after, child)
"""


def ask(*prefix: str) -> list[str]:
    ran = subprocess.run(
        [*prefix, sys.executable, "-c", ASK], capture_output=True, text=True, check=True
    )
    return ran.stdout.split()


def nice_here() -> int:
    """Of whoever runs the tests."""
    return os.getpriority(os.PRIO_PROCESS, 0)


@pytest.fixture
def _slices() -> None:
    """Skips where the kernel does not tell the slice of a process."""
    try:
        told = re.search("se.slice", Path("/proc/self/sched").read_text())
    except OSError:
        told = None
    if not told or tuple(map(int, re.findall("[0-9]+", os.uname().release)[:2])) < (6, 12):
        pytest.skip("this kernel knows no slices that a process chooses, or does not tell them")


@pytest.mark.usefixtures("_slices")
def test_the_minion_gets_short_slices_and_its_programs_do_not() -> None:
    granted, before, after, child = ask()
    if granted == "False":
        pytest.skip("not granted here")
    assert int(after) == 100_000 < int(before)
    assert child == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may be nice below 0")
def test_who_chose_how_it_is_scheduled_is_left_alone() -> None:
    assert ask("nice", "-n", str(-5 - nice_here()))[0] == "False"


def test_a_nice_minion_stays_as_nice() -> None:
    script = (
        "import os; from minionize.worker.prompt import ask_for_short_slices;"
        "ask_for_short_slices(); print(os.getpriority(os.PRIO_PROCESS, 0))"
    )
    ran = subprocess.run(
        ["nice", "-n", "7", sys.executable, "-c", script],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ran.stdout.strip() == str(min(19, 7 + nice_here()))

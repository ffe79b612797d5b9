"""What the environment of a minion may hold, and no param is blamed for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from services.command_line import Ran, environment, fill

_EXEC = """
import ctypes, sys
env = open(sys.argv[1], 'rb').read().split(b'\\0')
argv = [word.encode() for word in sys.argv[2:]]
array = lambda words: (ctypes.c_char_p * (len(words) + 1))(*words, None)
ctypes.CDLL(None).execve(argv[0], array(argv), array(env))
"""
"""Python refuses such an environment, so the C library is asked."""


def run(folder: Path, more: list[bytes], name: str, *args: str) -> Ran:
    """One of our commands in this environment and `more`, whatever is in that."""
    env = [f"{name}={value}".encode() for name, value in environment().items()]
    (folder / "env").write_bytes(b"\0".join([*env, *more]))
    ours = [sys.executable, "-c", f"from minionize.cli.start import {name}; {name}()", *args]
    return subprocess.run(
        [sys.executable, "-c", _EXEC, "env", *ours], cwd=folder, capture_output=True, text=True,
        timeout=180, check=False,
    )  # fmt: skip


ODD = {
    "without a name": b"=x",
    "a name alone": b"just-a-word",
    "not UTF-8": b"ODD=\xff\xfe\x80",
    "a name that is not UTF-8": b"\xff\xfe=1",
    "twice": b"PATH=/nowhere",
    "a name with blanks": b"a b =1",
    "a function of bash": b"BASH_FUNC_f%%=() {  :\n}",
    "several lines": b"LINES_=a\nb\nc",
    "large": b"LARGE=" + b"x" * 120_000,
}


@pytest.mark.parametrize("odd", ODD)
def test_programs_and_functions(tmp_path: Path, odd: str) -> None:
    fill(f"file:{tmp_path}/q", 1, 2)
    ran = run(tmp_path, [ODD[odd]], "minionize", "-q", "q", "env", "-u", "x", "echo")
    assert (ran.returncode, sorted(ran.stdout.split())) == (0, ["1", "2"]), ran.stderr
    *notes, _last = ran.stderr.splitlines()
    assert len(notes) == (odd == "without a name"), ran.stderr
    assert not notes or "a variable without a name" in notes[0]
    (tmp_path / "mod.py").write_text("def f(x):\n    return x\n")
    fill(f"file:{tmp_path}/p", 1, 2)
    ran = run(tmp_path, [ODD[odd]], "minionize", "-q", "p", "--call", "mod:f")
    assert ran.returncode == 0 and "2 done in" in ran.stderr, ran.stderr


def test_bytes_reach_the_program(tmp_path: Path) -> None:
    fill(f"file:{tmp_path}/q", 1)
    ran = run(
        tmp_path, [b"ODD=\xff\xfe"], "minionize", "-q", "q", "sh", "-c",
        'printf %s "$ODD" | od -An -tx1', "x",
    )  # fmt: skip
    assert (ran.returncode, ran.stdout.split()) == (0, ["ff", "fe"]), ran.stderr


def test_an_environment_that_leaves_no_room_for_arguments(tmp_path: Path) -> None:
    """The minion itself could be started with it, but what it adds is too much."""
    fill(f"file:{tmp_path}/q", *(f"{i}" * 40_000 for i in range(3)))
    # A quarter of an 8 MiB stack is what arguments and environment may take.
    large = [b"LARGE%d=" % i + b"x" * 120_000 for i in range(17)]
    ran = run(tmp_path, large, "minionize", "-q", "q", "--max-failures-in-a-row", "3", "true")
    assert ran.returncode == 70, ran.stderr
    assert "the environment is too large" in ran.stderr
    again = run(tmp_path, [], "minionize", "-q", "q", "sh", "-c", "echo $MINION_ATTEMPT", "x")
    assert (again.returncode, again.stdout) == (0, "1\n" * 3), again.stderr


def test_a_launch_of_minions_here(tmp_path: Path) -> None:
    fill(f"file:{tmp_path}/q", 1)
    ran = run(tmp_path, [b"=x"], "minion", "launch", "local", "-q", "q", "-n", "1", "echo")
    assert ran.returncode == 0, ran.stderr
    ran = run(tmp_path, [b"=x"], "minion", "wait", "-q", "q", "--timeout", "60s")
    assert ran.returncode == 0 and "1 done, 0 dead" in ran.stdout, (ran.stdout, ran.stderr)

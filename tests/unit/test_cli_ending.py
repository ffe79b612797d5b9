"""What a command says of errors that nobody expected."""

from __future__ import annotations

import subprocess
import sys

import pytest

from minionize.cli.ending import told


def test_a_missing_right_is_said_with_its_file_and_remedy(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = PermissionError(13, "Permission denied", "/shared/q/report")
    assert told(error, "minion status") == 70
    said = capsys.readouterr().err
    assert said.startswith("minion status: /shared/q/report: Permission denied: you need the right")
    assert "unexpected" not in said and said.count("\n") == 1


def _ends(code: str) -> subprocess.CompletedProcess[str]:
    """A process that ends quickly with 3, after `code`."""
    last = "from minionize.cli.ending import finish\nfinish(body, 'x', quickly=lambda: True)\n"
    return subprocess.run(
        [sys.executable, "-c", code + last], check=False, capture_output=True, text=True
    )


def test_a_quick_end_still_does_what_was_left_for_the_end() -> None:
    code = """
import atexit, sys
class Last:
    def __del__(self): print("taken apart")
last = Last()
atexit.register(lambda: (print("registered"), print("error", end="", file=sys.stderr)))
def body():
    print("out", end=" ")
    return 3
"""
    ended = _ends(code)
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "out registered\n", "error")


def test_an_end_is_not_quick_while_a_thread_of_somebody_else_is_at_work() -> None:
    code = """
import threading
let_go = threading.Event()
def slow():
    let_go.wait()
    print("thread")
def body():
    threading.Thread(target=slow).start()
    import atexit
    threading._register_atexit(let_go.set)
    return 3
"""
    ended = _ends(code)
    assert (ended.returncode, ended.stdout) == (3, "thread\n"), ended.stderr

"""A scheduler's commands: what is told of one that fails, and of one that does not answer."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from services.processes import until

from minionize.errors import LaunchRefused, UsageError
from minionize.launch import commands

DEAF = 'trap "" HUP INT TERM; echo $$ >pid; exec sleep 600'


@pytest.fixture(autouse=True)
def patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands, "SILENT_S", 60.0)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a person hears, of one who is deaf; patience is short."""
    lines: list[str] = []

    def tell(line: str) -> None:
        _pid()
        lines.append(line)

    monkeypatch.setattr(commands, "tell", tell)
    monkeypatch.setattr(commands, "SILENT_S", 1.0)
    monkeypatch.setattr(commands, "PATIENCE_S", 3.0)
    return lines


def _pid() -> int:
    """Of the deaf one, as soon as it is deaf."""
    return int(until(lambda: Path("pid").exists() and Path("pid").read_text().endswith("\n")
                     and Path("pid").read_text()))  # fmt: skip


def test_what_answers_at_once_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(commands, "tell", told.append)
    assert commands.run(["sh", "-c", "echo 12; echo so >&2"], "OAR") == "12\n"
    assert told == []


def test_a_command_that_is_not_here() -> None:
    with pytest.raises(UsageError, match=r"^oarsubb is not found: launch where the commands"):
        commands.run(["oarsubb"], "OAR")


@pytest.fixture
def in_the_background() -> Iterator[None]:
    """As a shell without job control starts what has an `&` behind it."""
    keys = (signal.SIGINT, signal.SIGQUIT)
    before = [signal.signal(key, signal.SIG_IGN) for key in keys]
    yield
    for key, handler in zip(keys, before, strict=True):
        signal.signal(key, handler)


@pytest.mark.usefixtures("in_the_background")
@pytest.mark.parametrize("may_be_killed", [True, False])
def test_one_that_does_not_answer_is_told_and_ended(
    told: list[str], monkeypatch: pytest.MonkeyPatch, may_be_killed: bool
) -> None:
    """Also one that is another user's by now, as OAR's are, and that heeds no hang-up."""
    if not may_be_killed:
        monkeypatch.setattr(subprocess.Popen, "kill", _refused)
    with pytest.raises(LaunchRefused) as caught:
        commands.run(["sh", "-c", DEAF], "OAR")
    assert str(caught.value) == (
        "sh did not answer within 3 s: see whether OAR is up, then try again"
    )
    assert told == ["waiting for OAR: sh has not answered for 1 s; it is given 3 s"]
    until(lambda: _gone(_pid()), "it is still there")


def _refused(_process: subprocess.Popen[str]) -> None:
    raise PermissionError(1, "Operation not permitted")


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exit 3", "sh: exit 3"),
        ("echo no; exit 1", "sh: no"),
        ("echo no; echo '  never ' >&2; exit 1", "sh: never"),
        ("printf 'sh: error: a\\n\\nsh: fatal: b\\n' >&2; exit 1", "sh: a; b"),
        ("printf 'sh: error: x\\nsh: fatal: it is down (1)\\ny\\n' >&2; exit 1",
         "sh: it is down (1): see whether it is up"),
    ],
)  # fmt: skip
def test_what_it_says_against_it_is_one_line(script: str, message: str) -> None:
    with pytest.raises(commands.Refused) as caught:
        commands.run(["sh", "-c", script], "OAR", [("is down", "see whether it is up")])
    assert str(caught.value) == message


def test_what_is_long_is_cut() -> None:
    with pytest.raises(commands.Refused) as caught:
        commands.run(["sh", "-c", "yes no | head -c 100000 >&2; exit 1"], "OAR")
    assert 400 < len(str(caught.value)) < 600
    assert len(caught.value.said) == 100_000


def test_ctrl_c_ends_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(_line: str) -> None:
        _pid()
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "tell", pressed)
    monkeypatch.setattr(commands, "SILENT_S", 1.0)
    with pytest.raises(KeyboardInterrupt):
        commands.run(["sh", "-c", DEAF], "OAR")
    until(lambda: _gone(_pid()), "it is still there")

"""`minionize` with closed streams, full disks, vanished folders, terminals, signals."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from services.command_line import (
    Run,
    command,
    environment,
    fill,
    runner,
)
from services.processes import until

from minionize.contracts.engine import EngineOptions
from minionize.engines.registry import open_queue


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return runner(tmp_path)


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams(tmp_path: Path, closed: str) -> None:
    """What is closed stays without effect: nothing else is written to in its place."""
    fill(f"file:{tmp_path}/q", 1, 2)
    script = 'echo "$1"; echo "$1" >&2; echo "$1" > "$1"'
    cmd = command("-q", "q", "sh", "-c", script, "x")
    ran = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", *cmd],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == ("" if ">&-" in closed.replace("2>&-", "") else "1\n2\n")
    assert (tmp_path / "2").read_text() == "2\n"
    # The queue is as it should be.
    ran = subprocess.run(
        cmd,
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=180,
    )
    assert ran.stdout == ""


def into_a_full_disk(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """What `minionize ARGS` does when its output can't be written."""
    with open("/dev/full", "w") as full:
        return subprocess.run(
            command(*args),
            cwd=folder,
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=180,
        )


def test_output_that_cant_be_written(run: Run, tmp_path: Path) -> None:
    for args in (["--help"], ["--from", "jobs", "--dry-run", "echo"]):
        (tmp_path / "jobs").write_text("1\n")
        ran = into_a_full_disk(tmp_path, *args)
        assert ran.returncode == 70
        assert ran.stderr.startswith("minionize: no space left")
        assert len(ran.stderr.splitlines()) == 1


def test_runs_whose_output_cant_be_written(tmp_path: Path) -> None:
    fill(f"file:{tmp_path}/q", 1, 2, 3)
    ran = into_a_full_disk(tmp_path, "-q", "q", "echo")
    assert ran.returncode == 75
    assert ran.stderr.count("its output could not be passed on") == 1
    queue = open_queue(f"file:{tmp_path}/q", EngineOptions())
    assert queue.stats().waiting == 3
    queue.close()


def test_a_queue_that_is_removed_while_a_minion_runs(tmp_path: Path) -> None:
    fill(f"file:{tmp_path}/q", *range(1000))
    with subprocess.Popen(
        command("-q", "q", "sh", "-c", "touch began; sleep 0.2"),
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    ) as minion:
        until((tmp_path / "began").exists)
        while (tmp_path / "q").exists():
            shutil.rmtree(tmp_path / "q", ignore_errors=True)
        try:
            _, said = minion.communicate(timeout=180)
        finally:
            minion.kill()
    assert minion.returncode == 2, said
    assert "was removed while it was in use" in said


def test_a_beat_file_that_cant_be_touched_is_told_once(run: Run) -> None:
    ran = run("--from", "-", "--beat-file", "no/where", "echo", input="1\n2\n")
    assert (ran.returncode, ran.stdout) == (0, "1\n2\n"), ran.stderr
    assert ran.stderr.count("--beat-file no/where can't be touched") == 1


def test_a_folder_that_vanished(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    ran = subprocess.run(
        ["sh", "-c", 'rmdir "$PWD"; exec "$@"', "sh", *command("echo")],
        cwd=gone,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert ran.returncode in (2, 70)
    assert "Traceback" not in ran.stderr and len(ran.stderr.splitlines()) == 1


def test_a_terminal(tmp_path: Path) -> None:
    """A live line that is cleared before output, and no escape sequence of a param's."""
    import pty

    (tmp_path / "jobs").write_text('"\\u001b]0;evil\\u0007"\n1\n')
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        script = 'sleep 1; echo "$1"; test "$1" = 2 || exit 65'
        told = ("--from", "jobs", "--format", "jsonl")
        cmd = command(*told, "sh", "-c", script, "x", "{id}")
        os.execve(cmd[0], cmd, environment())
    shown = b""
    try:
        while piece := os.read(fd, 4096):
            shown += piece
    except OSError:  # EIO is how a terminal ends
        pass
    os.close(fd)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    assert b"1 done, 1 dead" in shown
    assert b"\r\x1b[K" in shown
    assert b"evil" not in shown.replace(b"\\x1b]0;evil", b"")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, -2), (signal.SIGTERM, 75)])
def test_signals_while_waiting(tmp_path: Path, number: int, status: int) -> None:
    minion = subprocess.Popen(
        command("--wait", "echo"), cwd=tmp_path, env=environment(), stderr=subprocess.PIPE
    )
    assert minion.stderr is not None
    assert b"waiting" in minion.stderr.readline()
    minion.send_signal(number)
    _, said = minion.communicate(timeout=180)
    assert (minion.returncode, said) == (status, b"")

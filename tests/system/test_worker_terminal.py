"""A minion on a terminal: `--tty` hands it to the run, Ctrl-C and the live line."""

from __future__ import annotations

import contextlib
import os
import pty
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import minionize
from minionize.contracts.engine import EngineOptions
from minionize.engines.registry import open_queue
from minionize.values import Stats
from minionize.worker.live import Progress, waits_for
from minionize.worker.signals import is_readable

# From 3.12 on a fork beside threads (those of xdist) is warned about; the child only execs.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ROOT = str(Path(minionize.__file__).parent.parent)
MAIN = "from minionize.cli.minionize import main; main()"


class OnTerminal:
    """A minion whose terminal we hold the other end of."""

    def __init__(self, folder: Path, *args: str) -> None:
        pid, fd = pty.fork()
        if pid == 0:
            os.chdir(folder)
            env = {**os.environ, "PYTHONPATH": ROOT, "TERM": "xterm"}
            os.execve(sys.executable, [sys.executable, "-c", MAIN, "-q", "q", *args], env)
        self.pid, self.fd = pid, fd
        self.seen = ""
        self.status: int | None = None

    def until(self, text: str) -> None:
        deadline = time.monotonic() + 180
        while text not in self.seen:
            assert time.monotonic() < deadline, self.seen
            self._read()

    def _read(self) -> bool:
        if not is_readable(self.fd, 0.2):
            return True
        try:
            piece = os.read(self.fd, 4096)
        except OSError:  # its other end is closed
            return False
        self.seen += piece.decode(errors="replace")
        return bool(piece)

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def end(self) -> int:
        """How it ended, as waitstatus_to_exitcode says."""
        deadline = time.monotonic() + 180
        while self._read():
            assert time.monotonic() < deadline, self.seen
        if self.status is None:
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status

    def close(self) -> None:
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)
        os.close(self.fd)


Start = Callable[..., OnTerminal]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[OnTerminal] = []

    def start(params: list[str], *args: str) -> OnTerminal:
        queue = open_queue(f"file:{tmp_path}/q", EngineOptions(minion_id="filler"))
        queue.put(params)
        queue.close()
        started.append(OnTerminal(tmp_path, *args))
        return started[-1]

    yield start
    for each in started:
        each.close()


def test_a_run_may_ask_at_the_terminal(start: Start) -> None:
    script = (
        'test -t 0 && test -t 1 && test -t 2; echo "name of $1?"; read name; echo "it is $name"'
    )
    minion = start(["a", "b"], "--tty", "sh", "-c", script, "x")
    for param in "ab":
        minion.until(f"name of {param}?")
        minion.type(f"<{param}>\n")
        minion.until(f"it is <{param}>")
    assert minion.end() == 0
    assert "2 done" in minion.seen


def test_ctrl_c_at_a_run_with_the_terminal_ends_the_minion_too(
    start: Start, tmp_path: Path
) -> None:
    minion = start(["a", "b"], "--tty", "sh", "-c", "echo ready; exec sleep 600", "x")
    minion.until("ready")
    minion.type("\x03")
    assert minion.end() == -2
    queue = open_queue(f"file:{tmp_path}/q", EngineOptions(minion_id="looks"))
    assert queue.stats().waiting == 2
    queue.close()


def test_ctrl_c_at_a_minion_ends_it_by_int(start: Start) -> None:
    minion = start(["a", "b"], "sh", "-c", "echo ready; exec sleep 600", "x")
    minion.until("ready")
    minion.type("\x03")
    assert minion.end() == -2
    assert "Traceback" not in minion.seen


def test_the_live_line_is_gone_in_the_end(start: Start) -> None:
    minion = start(["a", "b"], "sh", "-c", "sleep 1", "x")
    minion.until("\r\x1b[K")
    assert minion.end() == 0
    assert "left" in minion.seen
    assert minion.seen.rstrip().rpartition("\x1b[K")[2].startswith("minionize: 2 done in ")


def test_what_an_idle_minion_waits_for() -> None:
    stats = Stats(waiting=0, delayed=1, running=2, due_in_s=4.0)
    assert waits_for(stats) == "2 running elsewhere, 1 due in 4 s"
    assert waits_for(stats._replace(paused=True)) == "the queue is paused: minion resume"
    assert waits_for(Stats(feeders=1)) == "1 feeding"
    assert Progress().text(3, stats, 0) == "idle: 2 running elsewhere, 1 due in 4 s"
    more = stats._replace(waiting=5, done=3)
    assert Progress().text(3, more, 0) == "3 done, 8 left"
    assert Progress().text(3, more, 0, loading=True) == "loading the function"
    paused = Progress().text(3, more._replace(paused=True), 0)
    assert paused == "idle: the queue is paused: minion resume"


def test_the_live_line_tells_rate_and_time_left() -> None:
    progress = Progress()
    stats = Stats(put=100, waiting=90, delayed=0, running=0, done=10, dead=0)
    progress.see(stats, 0.0)
    later = stats._replace(waiting=70, done=30)
    progress.see(later, 10.0)
    assert progress.text(30, later, 1) == "30 done, 70 left, 2/s, 35 s to go"
    assert progress.text(30, None, 1) == "30 done here, 1 running"

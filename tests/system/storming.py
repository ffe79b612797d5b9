"""What the tests of storms share: a queue, real minions on it, and a log of every run.

A run writes one line, `ID MINION`, with a single write to a file opened for appending; so what
was run, by whom and in which order can be counted afterwards, whoever was killed meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import minionize
from minionize.contracts.engine import EngineOptions, Queue
from minionize.engines.registry import open_queue
from minionize.events import Event, Kind
from minionize.status.read import Faults, read_events
from minionize.values import Entry, Param, State, Stats

ROOT = str(Path(minionize.__file__).parent.parent)
MAIN = "from minionize.cli.minionize import main; main()"
MINION_MAIN = "from minionize.cli.minion import main; main()"
PATIENCE_S = 180.0
Process = subprocess.Popen[bytes]

FUNCTIONS = """
import os, time

_minion = os.environ["MINION_ID"]
_log = os.open(os.environ["STORM_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def note(number):
    "Most take well under a millisecond, one in a thousand far longer."
    os.write(_log, b"%d %s\\n" % (number, _minion.encode()))
    time.sleep(0.05 if number % 1000 == 500 else 0.0002)
"""

NOTE = 'echo "$MINION_PARAM_ID $MINION_ID" >>"$STORM_LOG"'
"""A line of shell that notes a run, in one write."""


class Field:
    """A folder with a queue, minions that work on it, and the log of what they ran."""

    def __init__(self, folder: Path, seed: int = 0, queue: Path | None = None) -> None:
        """`queue`: where the queue is, if not in `folder`."""
        self.folder = folder
        self.seed = seed
        self.chance = random.Random(seed)
        self.queue = queue or folder / "q"
        self.log = folder / "runs"
        self.log.touch()
        self.minions: list[Process] = []
        self.errors: dict[int, Path] = {}
        """What each minion wrote to stderr, by pid of the minion."""
        self.plan: list[str] = []
        """What was done to whom, for the message of a failure."""
        self._began = time.monotonic()
        (folder / "tmp").mkdir()
        (folder / "storm_functions.py").write_text(FUNCTIONS)
        ours = ("MINION_", "OAR_", "SLURM_", "PBS_")
        env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        self.env = {
            **env,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}",
            "TMPDIR": str(folder / "tmp"),
            "STORM_LOG": str(self.log),
        }

    # ---- the queue, as a person sees it
    def put(self, params: Iterable[Param]) -> None:
        queue = self._open("feeder")
        try:
            queue.put(params)
        finally:
            queue.close()

    def stats(self) -> Stats:
        queue = self._open("looks")
        try:
            return queue.stats()
        finally:
            queue.close()

    def entries(self, *states: State) -> list[Entry]:
        queue = self._open("looks")
        try:
            return [entry for state in states for entry in queue.scan(state)]
        finally:
            queue.close()

    def _open(self, name: str) -> Queue:
        return open_queue(f"file:{self.queue}", EngineOptions(minion_id=name))

    # ---- processes
    def minion(self, *args: str, wrap: Iterable[str] = (), **more: Any) -> Process:
        """Start a minion on the queue; `wrap` comes before its command line."""
        return self._start([*wrap, sys.executable, "-c", MAIN, "-q", str(self.queue), *args], more)

    def script(self, script: str, *args: str, **more: Any) -> Process:
        """A minion that runs a script of the shell; `$1` is the param."""
        return self.minion(*args, "sh", "-c", script, "x", **more)

    def command(self, *args: str, **more: Any) -> Process:
        """Another of minion's commands."""
        return self._start([sys.executable, "-c", MINION_MAIN, *args], more)

    def _start(self, argv: list[str], more: dict[str, Any]) -> Process:
        path = self.folder / f"errors.{len(self.errors)}"
        more.setdefault("stdout", subprocess.DEVNULL)
        with open(path, "wb") as errors:
            minion = subprocess.Popen(
                argv, cwd=self.folder, env=self.env, stderr=errors, stdin=subprocess.DEVNULL, **more
            )
        self.minions.append(minion)
        self.errors[minion.pid] = path
        return minion

    def said(self, minion: Process) -> str:
        return self.errors[minion.pid].read_text()

    def kill(self, minion: Process) -> None:
        minion.kill()
        minion.wait()

    def ended(self, minion: Process) -> int:
        """Its exit status, once it ended."""
        try:
            return minion.wait(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(self.about(f"did not end: {self.said(minion)}")) from None

    def alive(self) -> list[Process]:
        return [minion for minion in self.minions if minion.poll() is None]

    def close(self) -> None:
        for minion in self.alive():
            with contextlib.suppress(ProcessLookupError):
                minion.send_signal(signal.SIGCONT)
            minion.kill()
            minion.wait()

    # ---- what happened
    def did(self, what: str) -> None:
        self.plan.append(f"{time.monotonic() - self._began:.3f} {what}")

    def about(self, what: str) -> str:
        """A message of a failure, with all that it takes to do the same again."""
        plan = "\n".join(self.plan[-400:])
        return f"{what}\nseed {self.seed}; seconds and what was done:\n{plan}"

    def runs(self) -> list[tuple[int, str]]:
        """Every run: id and minion, in the order of their starts."""
        found = []
        for line in self.log.read_text().splitlines():
            number, minion = line.split()
            found.append((int(number), minion))
        return found

    def lives(self) -> dict[str, list[int]]:
        """What each minion ran, in order."""
        lives: dict[str, list[int]] = defaultdict(list)
        for number, minion in self.runs():
            lives[minion].append(number)
        return lives

    def events(self) -> list[Event]:
        faults = Faults()
        return [event for _, event in read_events(self.queue / "report", faults)]

    def reported_its_end(self, minion: Process) -> bool:
        """Whether its last event is in the report: it was done with all its work."""
        return any(
            event.kind is Kind.END and source.pid == minion.pid
            for source, event in read_events(self.queue / "report", Faults())
        )

    def assert_nobody_charged(self) -> None:
        """Nothing in the report or among the dead tells of a failed attempt."""
        for event in self.events():
            assert event.attempt in (0, 1), self.about(f"charged: {event}")
            assert not event.charged and event.kind is not Kind.DEAD, self.about(
                f"charged: {event}"
            )

    def assert_all_done(self, count: int) -> None:
        """The queue says that all are done, and every one of them was run."""
        stats = self.stats()
        assert (stats.put, stats.done, stats.dead) == (count, count, 0), self.about(str(stats))
        assert stats.drained, self.about(str(stats))
        missing = set(range(1, count + 1)) - {number for number, _ in self.runs()}
        assert not missing, self.about(f"lost: {sorted(missing)[:50]}")


def pid_of(minion_id: str) -> int:
    """The pid in a minion's id, `HOST-PID-HEX`."""
    return int(minion_id.rsplit("-", 2)[1])


def until(condition: Callable[[], Any], why: Callable[[], str] = str) -> Any:
    """Wait for it; what it returned in the end."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, why()
        time.sleep(0.01)
    return found


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"

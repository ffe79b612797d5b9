"""What the tests of Redis share: a server, minions on a stream there, and a log of all runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from services.redis import RedisServer, lacking

import minionize
from minionize.contracts.engine import EngineOptions
from minionize.engines.redis import open_queue
from minionize.engines.redis.people import RedisQueue
from minionize.values import Entry, Param, State, Stats

ROOT = str(Path(minionize.__file__).parent.parent)
MAIN = "from minionize.cli.minionize import main; main()"
MINION_MAIN = "from minionize.cli.minion import main; main()"
PATIENCE_S = 180.0
AOF = ("--appendonly", "yes", "--appendfsync", "always")

RUN = 'echo "$1" >>runs; sleep 0.02; echo "$1" >>ends'
"""A line of shell for a run: `$1` is the param."""

KIND = "valkey"

Process = subprocess.Popen[bytes]


@contextmanager
def at_work(
    folder: Path, needs_server: Callable[[str], NoReturn], *options: str
) -> Iterator[RedisServer]:
    """A server of this test's own; the test is skipped, or fails, where there is none."""
    if why := lacking(KIND):
        needs_server(why)
    with RedisServer(folder / "server", KIND, *options) as server:
        yield server


class RedisField:
    """A folder, a queue, and minions that write there what they run."""

    def __init__(self, folder: Path, server: RedisServer, stream: str = "q") -> None:
        self.folder = folder
        self.server = server
        self.url = server.url(stream)
        self.processes: list[Process] = []
        self.errors: dict[int, Path] = {}
        for name in ("runs", "ends"):
            (folder / name).touch()
        drop = ("MINION_", "REDIS_")
        env = {name: text for name, text in os.environ.items() if not name.startswith(drop)}
        self.env = {**env, "PYTHONPATH": ROOT}

    def put(self, params: Iterable[Param]) -> int:
        queue = self.queue()
        count = queue.put(params)
        queue.close()
        return count

    def queue(self) -> RedisQueue:
        return open_queue(self.url, EngineOptions(minion_id="looks"))

    def stats(self) -> Stats:
        queue = self.queue()
        try:
            return queue.stats()
        finally:
            queue.close()

    def dead(self) -> list[Entry]:
        queue = self.queue()
        try:
            return list(queue.scan(State.DEAD))
        finally:
            queue.close()

    def minion(self, *options: str, url: str = "", run: str = RUN, **env: str) -> Process:
        """A minion that runs a line of shell for each param."""
        argv = ["-c", MAIN, *options, "sh", "-c", run, "x"]
        return self.start(argv, MINION_QUEUE=url or self.url, **env)

    def command(self, *args: str, url: str = "", **env: str) -> Process:
        """One of minion's commands."""
        return self.start(["-c", MINION_MAIN, *args], MINION_QUEUE=url or self.url, **env)

    def start(self, argv: list[str], **env: str) -> Process:
        path = self.folder / f"said.{len(self.processes)}"
        with path.open("wb") as said:
            process = subprocess.Popen(
                [sys.executable, *argv], cwd=self.folder, env={**self.env, **env},
                stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            )  # fmt: skip
        self.processes.append(process)
        self.errors[process.pid] = path
        return process

    def said(self, process: Process) -> str:
        return self.errors[process.pid].read_text()

    def ended(self, process: Process) -> int:
        """Its exit status, once it ended."""
        try:
            return process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not end: {self.said(process)}") from None

    def lines(self, name: str) -> list[str]:
        return (self.folder / name).read_text().splitlines()

    def until_done(self, count: int) -> None:
        """Wait until so many runs ended."""
        until(lambda: len(self.lines("ends")) >= count, lambda: str(self.lines("ends")[-3:]))

    def until_joined(self, count: int) -> None:
        """Wait until so many minions are at the queue: one that joins words a break otherwise."""
        until(lambda: self.stats().minions == count, lambda: f"{self.stats().minions} of {count}")

    def assert_all_done(self, count: int) -> None:
        """Each was run to its end, and the queue knows."""
        missing = set(map(str, range(count))) - set(self.lines("ends"))
        assert not missing, f"lost: {sorted(missing)[:20]}"
        stats = self.stats()
        assert (stats.put, stats.done, stats.dead, stats.running) == (count, count, 0, 0), stats
        assert stats.drained

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()


def until(condition: Callable[[], object], why: Callable[[], str] = str) -> None:
    """Wait for it."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, why()
        time.sleep(0.01)

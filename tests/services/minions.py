"""Real minions on a queue that lives on a server, and the log of what they ran."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import minionize
from minionize.contracts.engine import EngineOptions
from minionize.engines.registry import open_engine, open_queue
from minionize.errors import EngineUnavailable
from minionize.values import Entry, Param, State, Stats
from services.processes import until
from services.proxy import Proxy

ROOT = str(Path(minionize.__file__).parent.parent)
MAIN = "from minionize.cli.minionize import main; main()"
MINION_MAIN = "from minionize.cli.minion import main; main()"
Process = subprocess.Popen[bytes]
SEEN = ': >"seen-$MINION_ID"; '
"""Begins a script whose minions can be waited for, each of them."""


def assert_not_reached(url: str, env: Mapping[str, str], proxy: Proxy) -> None:
    """A minion that holds nothing knows that the server behind `proxy` is away, whatever it
    calls, and that it is back. `url` leads through the proxy, to a queue without params."""
    engine = open_engine(url, EngineOptions(lease_s=20, minion_id="sees", env=env))
    asked: list[Callable[[], object]] = [
        lambda: engine.lease(1, 0.2),
        lambda: engine.extend([]),
        engine.stats,
    ]
    with contextlib.closing(engine):
        for _ in range(3):
            engine.stats()
            proxy.cut()
            seen_by_s = time.monotonic() + 60
            while all(map(_reached, asked)):
                assert time.monotonic() < seen_by_s, "the cut is not seen"
            for each in asked * 2:
                assert not _reached(each), "what could not ask says that it did"
            proxy.mend()
            until(lambda: all(map(_reached, asked)), lambda: "it does not come back")


def _reached(call: Callable[[], object]) -> bool:
    try:
        call()
    except EngineUnavailable:
        return False
    return True


class Minions:
    """Minions, in a folder of their own."""

    def __init__(self, folder: Path, url: str, env: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.url = url
        self.log = folder / "runs"
        self.log.touch()
        self._more = dict(env or {})
        self._env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", **self._more}
        self._started: list[Process] = []
        self._said: dict[int, Path] = {}

    def put(self, params: Iterable[Param]) -> None:
        with contextlib.closing(open_queue(self.url, EngineOptions(env=self._more))) as queue:
            queue.put(params)

    def stats(self) -> Stats:
        with contextlib.closing(open_queue(self.url, EngineOptions(env=self._more))) as queue:
            return queue.stats()

    def dead(self) -> list[Entry]:
        with contextlib.closing(open_queue(self.url, EngineOptions(env=self._more))) as queue:
            return list(queue.scan(State.DEAD))

    def script(self, script: str, *options: str, url: str = "") -> Process:
        """A minion that runs a script of the shell; `$1` is the param."""
        return self.minion(*options, "sh", "-c", script, "x", url=url)

    def minion(self, *args: str, url: str = "", **env: str) -> Process:
        return self.start(MAIN, "-q", url or self.url, *args, **env)

    def start(self, main: str, *args: str, **env: str) -> Process:
        path = self.folder / f"said.{len(self._started)}"
        with path.open("wb") as said:
            process = subprocess.Popen(
                [sys.executable, "-c", main, *args], cwd=self.folder, env={**self._env, **env},
                stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            )  # fmt: skip
        self._started.append(process)
        self._said[process.pid] = path
        return process

    def ended(self, minion: Process, timeout_s: float = 180.0) -> tuple[int, str]:
        """Its exit status, once it ended, and all that it said."""
        try:
            status = minion.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not end: {self.said(minion)}") from None
        return status, self.said(minion)

    def said(self, minion: Process) -> str:
        return self._said[minion.pid].read_text()

    def ran(self) -> Counter[str]:
        """How often each param was run, from the lines that runs wrote into the log."""
        return Counter(self.log.read_text().split())

    def until_ran(self, count: int) -> None:
        """Wait until so many runs wrote their lines."""
        until(lambda: self.ran().total() >= count, lambda: f"{self.ran().total()} runs of {count}")

    def until_each_ran(self, count: int) -> None:
        """Wait until so many minions have run something; their scripts begin with SEEN."""
        until(
            lambda: len(list(self.folder.glob("seen-*"))) >= count,
            lambda: f"{sorted(self.folder.glob('seen-*'))} of {count} minions",
        )

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait()

"""A crew of functions, driven as the worker drives it, and a function that does what it is told."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from minionize.callbacks.func import FuncCallback
from minionize.contracts.crew import Outcome
from minionize.errors import Reject, RetryLater
from minionize.values import Lease, to_text
from minionize.worker.functions.crew import FunctionCrew

DEADLINE_S = 60.0


ENVIRONMENT = ("MINION_ID", "MINION_SLOT", "MINION_DEADLINE", "MINION_PARAM", "FROM_TEST")


def leases(*params: Any) -> list[Lease]:
    return [Lease(str(n), to_text(param)) for n, param in enumerate(params, 1)]


class Driven:
    """A crew, driven as the worker drives it."""

    def __init__(self, func: Callable[..., Any] | FuncCallback, slots: int, **options: Any) -> None:
        self.lines: list[str] = []
        # Its own: a guard ends whatever carries the id, in other tests beside this one too.
        self.minion_id = f"minion-{os.urandom(6).hex()}"
        self.wake_fd, self.wake = os.pipe()
        os.set_blocking(self.wake_fd, False)
        self._results = os.path.join(tempfile.gettempdir(), f"results-{self.minion_id}")
        options.setdefault("results", self._results)
        callback = func if isinstance(func, FuncCallback) else FuncCallback(func)
        self.crew = FunctionCrew(
            callback,
            slots=slots,
            env=options.pop("env", dict(os.environ)),
            minion_id=self.minion_id,
            wake_fd=self.wake_fd,
            lines=self.lines.append,
            **options,
        )
        self.outcomes: list[Outcome] = []

    def until(self, done: Callable[[], object]) -> None:
        """Wait on the crew until `done()`."""
        end = time.monotonic() + DEADLINE_S
        while not done():
            assert time.monotonic() < end, (self.outcomes, self.lines)
            self.outcomes += self.crew.wait(0.1)

    def ready(self) -> Driven:
        """Wait until each slot has the function."""
        self.until(lambda: self.crew.room(None) == self.crew.slots)
        return self

    def run(self, todo: list[Lease], seconds_each: float | None = 1e-5) -> dict[str, Outcome]:
        """Run all of these; outcomes by id, each exactly once."""
        waiting = list(todo)
        end = time.monotonic() + DEADLINE_S
        while len(self.outcomes) < len(todo):
            assert time.monotonic() < end, (self.outcomes[-3:], self.lines)
            room = self.crew.room(seconds_each)
            if room and waiting:
                self.crew.start(waiting[:room])
                del waiting[:room]
            self.outcomes += self.crew.wait(0.2)
        by_id = {outcome.lease.id: outcome for outcome in self.outcomes}
        assert len(by_id) == len(self.outcomes)
        return by_id

    def close(self) -> None:
        self.crew.close()
        shutil.rmtree(self._results, ignore_errors=True)
        os.close(self.wake_fd)
        os.close(self.wake)


@contextmanager
def made() -> Iterator[Callable[..., Driven]]:
    """What makes crews, which end with the test."""
    crews: list[Driven] = []

    def make(func: Callable[..., Any] | FuncCallback, slots: int = 1, **options: Any) -> Driven:
        crews.append(Driven(func, slots, **options))
        return crews[-1]

    yield make
    for driven in crews:
        driven.close()


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def double(value: int) -> int:
    return 2 * value


def evil(order: dict[str, Any]) -> Any:
    """Does what the param says."""
    kind = order.get("do")
    if kind == "segfault":
        ctypes.string_at(0)
    elif kind == "sleep":
        time.sleep(order["for"])
    elif kind == "hold the GIL":
        re.match(r"(a+)+$", "a" * 60 + "b")
    elif kind == "_exit":
        os._exit(order["status"])
    elif kind == "exit":
        sys.exit(order["status"])
    elif kind == "raise":
        raise ValueError(order["text"])
    elif kind == "later":
        raise RetryLater(order.get("delay_s"))
    elif kind == "reject":
        raise Reject("no such place")
    elif kind == "print":
        print(order["text"])
        print("to stderr", file=sys.stderr)
    elif kind == "close":
        sys.stdout.close()
        os.close(1)
        os.close(2)
    elif kind == "replace":
        sys.stdout = None
    elif kind == "fork":
        os.fork()
    elif kind == "interrupt":
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)
    elif kind == "return":
        return order["value"]
    elif kind == "return object":
        return {"loss": 0.5, "nets": [1, object()]}
    elif kind == "return set":
        return {1, 2}
    elif kind == "return much":
        return "x" * 100_000
    elif kind == "pid":
        return os.getpid()
    elif kind == "environment":
        return {name: os.environ.get(name) for name in ENVIRONMENT}
    elif kind == "die of KILL":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "kill parent":
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(10)
    elif kind == "leave a child":
        return subprocess.Popen(["sleep", "1000"]).pid
    elif kind == "touch and sleep":
        with open(order["path"], "w") as file:
            file.write(str(os.getpid()))
        try:
            time.sleep(100)
        finally:
            with open(order["path"] + ".cleaned", "w") as file:
                file.write("yes")
    return None

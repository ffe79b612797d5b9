"""A worker's loop over a queue in memory, with a crew whose runs end at once."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from minionize.contracts.crew import Outcome, Verdict
from minionize.contracts.engine import Engine, EngineOptions, Queue
from minionize.engines.registry import open_engine, open_queue
from minionize.events import Event
from minionize.settings import Settings
from minionize.values import Clock, Failure, Lease, State
from minionize.worker.loop import Worker
from minionize.worker.signals import Stopping
from minionize.worker.summary import Summary

names = itertools.count()
Does = Callable[[Lease], Outcome]


def done(lease: Lease) -> Outcome:
    return Outcome(lease, Verdict.DONE, 0, 0.001)


def failed(lease: Lease) -> Outcome:
    return Outcome(lease, Verdict.FAILED, 0, 0.001, 3, reason="exit 3", detail="line\noops\n")


class Crew:
    """Runs `does` at once for each lease; what gives None goes on until it is ended."""

    def __init__(self, does: Callable[[Lease], Outcome | None], slots: int = 1) -> None:
        self.slots = slots
        self.does = does
        self.ran: list[Lease] = []
        self.log: list[str] = []
        self._ready: list[Outcome] = []
        self._long: dict[str, tuple[Lease, float]] = {}
        self.ends = threading.Event()
        """Set: what goes on ends well."""
        self.closed = False

    def room(self, seconds_each: float | None) -> int:
        return self.slots - len(self._long) - len(self._ready)

    def start(self, leases: Sequence[Lease]) -> None:
        assert 0 < len(leases) <= self.room(None)
        for lease in leases:
            self.ran.append(lease)
            outcome = self.does(lease)
            if outcome is None:
                self._long[lease.id] = (lease, time.monotonic())
            else:
                self._ready.append(outcome)

    def running(self) -> Sequence[tuple[Lease, float]]:
        now = time.monotonic()
        return [(lease, now - began) for lease, began in self._long.values()]

    def wait(self, timeout_s: float) -> list[Outcome]:
        if not self._ready:
            time.sleep(min(timeout_s, 0.05))
        while self.ends.is_set() and self._long:
            self._ready.append(done(self._long.popitem()[1][0]))
        ready, self._ready = self._ready, []
        return ready

    def revoke(self, older_than_s: float) -> list[Lease]:
        return []

    def abort(self, ids: Collection[str]) -> None:
        self.log.append(f"abort {sorted(ids)}")
        self._end(ids)

    def terminate(self) -> None:
        self.log.append("terminate")
        self._end(list(self._long))

    def kill(self) -> None:
        self._end(list(self._long))

    def _end(self, ids: Collection[str]) -> None:
        for id_ in ids:
            if id_ in self._long:
                self._ready.append(Outcome(self._long.pop(id_)[0], Verdict.ABORTED, 0, 1.0))

    def close(self) -> None:
        self.closed = True


class Events:
    wants_events = True
    results_folder: str | None = None

    def __init__(self) -> None:
        self.seen: list[Event] = []
        self.beats = 0

    def report(self, events: Sequence[Event]) -> None:
        self.seen += events

    def beat(self, running: int) -> None:
        self.beats += 1

    def close(self) -> None:
        return

    def kinds(self) -> list[str]:
        return [event.kind.value for event in self.seen]


class Around:
    """An engine that does what another one does, but for what a subclass says."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


class Made:
    """A queue, and a minion of it."""

    def __init__(
        self, does: Callable[[Lease], Outcome | None], slots: int, **settings: Any
    ) -> None:
        self.url = f"memory:worker-{next(names)}"
        self.queue: Queue = open_queue(self.url, EngineOptions(minion_id="feeder"))
        self.settings = Settings(slots=slots, **settings)
        self.crew = Crew(does, slots)
        self.events = Events()
        self.lines: list[str] = []
        self.stopping = Stopping()
        self.wrap: Callable[[Engine], Engine] = lambda engine: engine
        self.clock: Clock | None = None

    def run(self) -> Summary:
        options = EngineOptions(minion_id="m1", lease_s=self.settings.lease_s)
        engine = self.wrap(open_engine(self.url, options))
        worker = Worker(
            engine,
            self.crew,
            self.events,
            self.settings,
            lines=self.lines.append,
            clock=self.clock,
            stopping=self.stopping,
        )
        summary = worker.run()
        assert self.crew.closed
        return summary

    def dead(self) -> dict[str, Failure | None]:
        return {entry.text: entry.failure for entry in self.queue.scan(State.DEAD)}


def make_one(
    does: Callable[[Lease], Outcome | None], params: Sequence[Any], slots: int = 1, **settings: Any
) -> Made:
    """With these params in its queue."""
    made = Made(does, slots, **settings)
    made.queue.put(params)
    return made


Make = Callable[..., Made]

"""What the suite must know of an engine: how to open it, crash it, and let time pass."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from types import TracebackType
from typing import TypeVar

from minionize.contracts.engine import Engine, EngineOptions, Queue
from minionize.engines import registry
from minionize.values import Clock, Lease, Param, SystemClock

SelfBackend = TypeVar("SelfBackend", bound="Backend")


class ManualClock:
    """A clock that the test moves; both its times move together, and sleeping moves them."""

    def __init__(self) -> None:
        self._now_s = 1000.0

    def advance(self, seconds: float) -> None:
        """Let this much time pass."""
        self._now_s += seconds

    def monotonic(self) -> float:
        return self._now_s

    def time(self) -> float:
        return 1.7e9 + self._now_s

    def sleep(self, seconds: float) -> None:
        time.sleep(0)
        self._now_s += seconds


class Backend(ABC):
    """One empty queue, its minions, and the time they live in. Make a subclass for your engine.

    Engines that measure time with `options.clock` need nothing more than a URL; one whose broker
    has a clock of its own sets a short `lease_s` and overrides `advance` with a real sleep.
    """

    lease_s = 60.0
    patience_s = 30.0
    """How long, in real seconds, the suite waits for what has to come before it fails."""
    streams = True
    """`put` keeps its memory bounded."""
    shares_between_threads = True
    """Several minions of one process may use the queue at once, each from its own thread."""

    def __init__(self, url: str, *, env: dict[str, str] | None = None) -> None:
        self.url = url
        self.env = env or {}
        self.clock = ManualClock()
        self._handles: list[Engine | Queue] = []
        self._count = 0

    def engine(self, clock: Clock | None = None) -> Engine:
        """A new minion on the queue."""
        engine = registry.open_engine(self.url, self._options(clock))
        self._handles.append(engine)
        return engine

    def queue(self, clock: Clock | None = None) -> Queue:
        """A person's face of the queue."""
        queue = registry.open_queue(self.url, self._options(clock))
        self._handles.append(queue)
        return queue

    @abstractmethod
    def crash(self, handle: Engine | Queue) -> None:
        """`handle` is used no more, as if its process had been killed: nothing is written,
        given back or closed in an orderly way."""

    def advance(self, seconds: float) -> None:
        """Let this much time pass for the engine."""
        self.clock.advance(seconds)

    def close(self) -> None:
        """Close what is open and remove the queue."""
        for handle in self._handles:
            handle.close()

    def forget(self, handle: Engine | Queue) -> None:
        """`handle` crashed: `close` must leave it alone."""
        self._handles = [other for other in self._handles if other is not handle]

    def __enter__(self: SelfBackend) -> SelfBackend:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _options(self, clock: Clock | None) -> EngineOptions:
        self._count += 1
        return EngineOptions(
            lease_s=self.lease_s,
            minion_id=f"minion-{self._count}",
            host="here",
            pid=self._count,
            slots=2,
            clock=clock or self.clock,
            env=self.env,
        )

    # What tests say often.

    def kill(self, handle: Engine | Queue) -> None:
        """Crash `handle` and forget it."""
        if handle.traits.ack_lag_s:
            self.advance(handle.traits.ack_lag_s)
        self.forget(handle)
        self.crash(handle)

    def filled(self, params: Iterable[Param]) -> Queue:
        """The queue's face, after putting `params`."""
        queue = self.queue()
        queue.put(params)
        return queue

    def outlast_lease(self, *alive: tuple[Engine, Collection[Lease]]) -> None:
        """Let more than a lease pass, while the `alive` (each with all it holds) extend theirs."""
        for _ in range(6):
            self.pass_time(self.lease_s / 4 + 0.01, *alive)

    def pass_time(self, seconds: float, *alive: tuple[Engine, Collection[Lease]]) -> None:
        """Let `seconds`, at most a quarter of a lease, pass; then the `alive` extend theirs."""
        self.advance(seconds)
        for engine, leases in alive:
            lost = engine.extend(leases)
            assert not lost, f"extended in time and lost all the same: {lost}"

    def get(self, engine: Engine, count: int, held: Collection[Lease] = ()) -> list[Lease]:
        """Lease exactly `count` params, or fail. `held` is what `engine` holds already."""
        leases: list[Lease] = []
        until = time.monotonic() + self.patience_s
        while len(leases) < count:
            leases += engine.lease(count - len(leases), self._look_s)
            if len(leases) < count:
                assert time.monotonic() < until, f"only {len(leases)} of {count} params came"
                self.pass_time(self._look_s, (engine, [*held, *leases]))
        return leases

    def nothing(self, engine: Engine, held: Collection[Lease] = ()) -> None:
        """Fail if `engine` gets anything now."""
        for _ in range(3):
            leases = engine.lease(10, self._look_s)
            assert not leases, f"nothing was to be had, and yet: {leases}"
            self.pass_time(self._look_s, (engine, held))

    @property
    def _look_s(self) -> float:
        """How long a look for params takes: time passes for delays and leases too."""
        return min(0.3, self.lease_s / 20)


REAL_TIME = SystemClock()
"""For tests with threads, whose waits would make a manual clock run wild."""

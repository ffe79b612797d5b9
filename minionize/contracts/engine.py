"""The engine contract: what a minion and what a person can ask of a queue.

`minionize.testing` states every sentence of it as a test and runs over every engine.

Only `EngineUnavailable` (worth a retry) and other `MinionizeError`s escape from any method;
a driver's own errors are translated at the edge, with the cause kept.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import NamedTuple, Protocol, runtime_checkable

from minionize.values import (
    Clock,
    Entry,
    Failure,
    Lease,
    MinionInfo,
    Orders,
    Param,
    Policy,
    State,
    Stats,
    SystemClock,
)


class Traits(NamedTuple):
    """What this engine's broker can do; the worker, the suite and the README go by it."""

    counts: bool = True
    """`stats()` is exact; otherwise drained means idle for `idle_s`."""
    delays: bool = True
    """A delayed give-back stays away for its delay."""
    counts_crashes: bool = True
    """A crash is charged to the params that were marked `started`, and only to them."""
    scans: bool = True
    """`scan` lists params in every state; otherwise in some states at most, and raises
    NotSupported for the others."""
    keeps_done: bool = False
    """`scan(State.DONE)` and `requeue(..., State.DONE)` work, so reports need not hold params."""
    steers: bool = True
    """`steer` reaches the minions."""
    folder: str | None = None
    """The queue's own folder, where reports and checkpoints can live beside it."""
    durable: bool = True
    """What `put` returned for outlives this process."""
    ack_lag_s: float = 0.0
    """Where acks travel in the background: what was acked in the last `ack_lag_s` before a crash
    may come again, whatever was called since; not what was marked `started`."""


_NOTHING: Mapping[str, str] = MappingProxyType({})


class EngineOptions(NamedTuple):
    """How an engine is opened; the URL says which queue."""

    lease_s: float = 60.0
    """A lease that is not extended for this long is lost."""
    create: bool = True
    """`put` may make the queue if it is missing. Nothing else ever makes one."""
    minion_id: str = ""
    """Who leases; unique among all minions of the queue, `[A-Za-z0-9._-]+`."""
    host: str = ""
    pid: int = 0
    slots: int = 1
    """For people who look at the queue: how many params this minion runs at once."""
    clock: Clock = SystemClock()
    env: Mapping[str, str] = _NOTHING
    """Settings of drivers (`EXECO_PERSISTENCE_DIR`, `REDIS_PASSWORD`), read by `settings`."""


class Engine(Protocol):
    """A minion's face of a queue. Used by one thread at a time."""

    traits: Traits
    url: str
    """The queue's URL without credentials, for messages."""

    def lease(self, limit: int, wait_s: float) -> Sequence[Lease]:
        """Take up to `limit` params, waiting at most `wait_s` for the first.

        May return fewer, and `[]` never means finished (ask `stats().drained`). With
        `wait_s=0` it may even return `[]` without looking, when it looked just before.
        Given-back params go before new ones, as a preference. A suspect comes alone in its
        sequence or with other suspects; the worker runs each of them singly. Nothing is
        leased while the queue is paused.
        """

    def ack(self, leases: Collection[Lease]) -> None:
        """The work is done. May be repeated, never raises for a lost lease.

        Durable at the next lease that brings something, extend, stats or close at the latest
        (at once for a lease that was marked `started`); until then a crash of this minion may
        repeat the work.
        A late ack of a lost lease may or may not settle the param; it never harms the holder.
        """

    def nack(
        self,
        leases: Collection[Lease],
        *,
        delay_s: float = 0.0,
        charge: bool = True,
        later: bool = False,
    ) -> None:
        """Give back, to be leased again by any minion after `delay_s`.

        `charge`: a failed attempt, `attempt` grows by one and `laters` begins at 0 again.
        `later`: the program asked for it, `laters` grows by one (with `charge=False`).
        Neither: nothing changes (and a suspect stays a suspect; the other two end that).
        Durable when it returns. May be repeated; for a lease that was settled, given back or
        lost before it does nothing, so a late nack leaves the new holder alone.
        """

    def bury(self, leases: Collection[Lease], failure: Failure) -> None:
        """Make dead letters of them: kept with the reason first, then gone from here.

        Durable when it returns. May be repeated, never raises for a lost lease.
        """

    def extend(self, leases: Collection[Lease]) -> Collection[Lease]:
        """The heartbeat: renew these leases for another `lease_s`; returns the lost ones.

        `leases` is everything this minion holds; it is called at least every `lease_s` / 4,
        also with nothing held, since a minion without leases is alive too. What returns has
        reached the broker, at least if the last call did not: patience ends by it.
        EngineUnavailable with `renewed` says that they are renewed, though nothing else can
        be done now.
        """

    def started(self, leases: Collection[Lease]) -> None:
        """These are running now: if the minion dies, each is charged one crash.

        Durable when it returns. Called before a suspect starts, and for every run that
        outlasts a beat; short runs are never marked.
        """

    def orders(self) -> Orders:
        """What people told the minions; costs nothing, as of the last lease or extend."""

    def stats(self) -> Stats:
        """What the queue holds, freshly read; where that is nothing (`traits.counts`), the broker
        is asked for something else if the last call did not reach it."""

    def close(self) -> None:
        """Make acks durable, give back what is still held (uncharged) and leave the queue.

        May be repeated. Nothing else may be called after it.
        """


@runtime_checkable
class TellsIdle(Protocol):
    """An engine that also knows who else is idle. Without it idle minions wait for the end."""

    def idle_before(self, enough: int) -> int | None:
        """How many other minions that hold nothing, and are alive for sure, have ids that sort
        before this one's; may stop counting at `enough`. None: can't be told now.

        All minions of the queue go by the same order, so the first of them know that they are:
        a dead minion must not be counted (its lease may not be over yet), an idle one may be
        missed.
        """


@runtime_checkable
class SeesTheEnd(Protocol):
    """An engine that sees the end of a queue while it waits. Without it minions ask in turns."""

    def looks_drained(self) -> bool:
        """Whether the queue looked drained in the last `lease`, and `stats` was not asked since.

        Costs nothing, and may be wrong either way: only `stats` decides.
        """


@runtime_checkable
class TellsPolicies(Protocol):
    """An engine or queue whose broker may drop, delay or hide params by policies of its own."""

    def policies(self) -> Sequence[Policy]:
        """Those that are in force and can do this queue harm. Raises only what opening the queue
        raises: policies that can't be asked for are one of `Harm.UNKNOWN`.

        An engine tells what it learned when it joined, which costs nothing; a queue asks.
        """


@runtime_checkable
class MovesOut(Protocol):
    """An engine that tells what was moved to another queue from what is done."""

    def moved(self, leases: Collection[Lease]) -> None:
        """These are in another queue now. They are settled and count as purged: they were not
        done here, so that nothing runs them here again as done ones.

        Durable when it returns. May be repeated, never raises for a lost lease.
        """


@runtime_checkable
class TellsForgotten(Protocol):
    """An engine whose queue keeps what is done until a person has it forgotten."""

    forgotten_below: int
    """Params with lower ids (which are numbers) are not kept when they are done, so reports must
    hold them. 0: none. As of the last visit."""


class Queue(Protocol):
    """A person's face of a queue: fill it, look into it, steer it."""

    traits: Traits
    url: str

    @property
    def made(self) -> Sequence[str]:
        """What was missing and is made by this object, so that filling can say so: `stream q`,
        `subscription minions`, in the broker's own words. Grows at the first `put` or
        `feeding`, and only with `EngineOptions.create`."""

    def put(self, params: Iterable[Param]) -> int:
        """Put params; returns how many. All or nothing, durable when it returns.

        Streams: never holds all of them in memory. If `params` raises, nothing was put.
        BadParam for what is no JSON.
        """

    def put_texts(self, texts: Iterable[str]) -> int:
        """`put` for params that are JSON texts already, each without line breaks; unchecked."""

    def feeding(self) -> AbstractContextManager[None]:
        """While it is entered, no minion calls the queue drained. Makes the queue if missing.

        A feeder that dies is forgotten after its lease. Slow feeders call `put` at least
        every quarter of the lease, with nothing if there is nothing.
        """

    def scan(self, state: State) -> Iterator[Entry]:
        """The params in `state`, oldest first where there is an order. Memory bounded.

        NotSupported where the engine can't. A snapshot only roughly: params move meanwhile.
        """

    def look_up(self, ids: Collection[str]) -> dict[str, Entry]:
        """The params of these ids, with their states, as far as they are found."""

    def requeue(self, ids: Collection[str] | None = None, state: State = State.DEAD) -> int:
        """Put dead letters (all, or those of `ids`) back to work, counts reset; returns how many.

        `State.DONE` runs finished params again, where `traits.keeps_done`. NotSupported for
        other states. Ids that are not in `state` are passed over.
        """

    def purge(self, state: State | None = None) -> int:
        """Drop the params in `state` (WAITING, DELAYED, DEAD), or in all three: all that no minion
        runs and that are not done; returns how many. They count as purged. NotSupported for
        other states."""

    def steer(self, *, paused: bool | None = None, stop: bool = False) -> None:
        """Pause or resume leasing, or tell the minions at work now to stop."""

    def minions(self) -> Sequence[MinionInfo]:
        """Minions and feeders alive, as far as the queue knows them."""

    def stats(self) -> Stats:
        """What the queue holds, freshly read. NoSuchQueue if it is missing."""

    def close(self) -> None:
        """Let go of files and connections. May be repeated."""


@runtime_checkable
class ForgetsDone(Protocol):
    """A queue that keeps what is done, by ids that are numbers, and can let go of the oldest."""

    def settled_below(self) -> int:
        """No param with a lower id runs now, or waits for its first run."""

    def forget_done(self, below: int, put_before_s: float) -> int:
        """Let go of the done params with ids lower than `below` that were put before
        `put_before_s` (Unix time); returns how many. They stay counted as done. Some may stay:
        those that are kept together with others. Dead letters and what was given back lose
        nothing."""

    def forgotten_below(self) -> int:
        """Of the params with lower ids, those that are done are not kept; 1 where all are kept."""


class Driver(Protocol):
    """What an engine's module (or a third party's entry point in group `minionize.engines`,
    named as its scheme) offers. `address` is the URL after `scheme:` (all of it for a built-in
    engine with several schemes)."""

    def open_engine(self, address: str, options: EngineOptions) -> Engine:
        """Join the queue as a minion. NoSuchQueue if it is missing."""

    def open_queue(self, address: str, options: EngineOptions) -> Queue:
        """A person's face of it; a missing queue is an error only when it is read."""

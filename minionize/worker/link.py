"""The queue as the loop sees it: what is held, what is to be settled, and patience.

Acks and give-backs are gathered and told in batches. When the queue can't be reached, what was
to be told is kept and told later; the loop goes on meanwhile.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence

from minionize.contracts.engine import Engine, SeesTheEnd, TellsIdle
from minionize.errors import EngineUnavailable
from minionize.values import Clock, Failure, Lease, Stats
from minionize.worker.checkpoints import Checkpoints
from minionize.worker.decisions import Settlement
from minionize.worker.taking import FIRST_RETRY_S, Taking, give_up, trying_again

GATHER_S = 0.02
"""An ack waits for others this long at most."""
_ID = operator.attrgetter("id")
_LAST_RETRY_S = 10.0
LONG_BUSY_S = 30.0
"""Who was not let in for so long says it, though others are."""


class Link:
    """An engine, the leases that this minion holds, and what it has to tell about them."""

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        *,
        lease_s: float,
        reconnect_s: float,
        say: Callable[[str], None],
        checkpoints: Checkpoints | None = None,
    ) -> None:
        """`say` is told when the queue can't be reached and when it can again. `checkpoints` are
        told what is acked."""
        self.engine = engine
        self.held: dict[str, Lease] = {}
        """Everything leased and not settled yet, by id."""
        self.marked: set[str] = set()
        """Ids of those that the queue knows as started."""
        self.acks: list[Lease] = []
        self._nacks: dict[tuple[float, bool, bool], list[Lease]] = {}
        self._buries: list[tuple[Lease, Failure]] = []
        self.flush_at: float | None = None
        """When to flush; None while there is nothing to tell."""
        self._clock = clock
        self._lease_s = lease_s
        self._reconnect_s = reconnect_s
        self._say = say
        self._checkpoints = checkpoints
        self._down_since: float | None = None
        self._lost_since: float | None = None
        """Down, and no other process was seen to reach it since."""
        self._told_down = False
        self._held_up = False
        """It is down for us since acks had to wait for something else."""
        self._retry_at = 0.0
        self._retry_s = FIRST_RETRY_S
        self._renewed_at = clock.monotonic()
        # What could not be written, though the queue can be read and leases renewed: a full disk.
        # Only writing it tells that the queue is well again.
        self._unflushed = False
        self._unmarked: set[str] = set()
        """Ids of what could not be marked as started."""
        self._taking = Taking(clock, reconnect_s=reconnect_s, url=engine.url, say=say)
        self._given_up: list[Lease] = []
        """Given up while the queue could not be asked. If the queue kept them for us, since others
        could not reach it either, they are stuck until we give them back."""

    @property
    def down(self) -> bool:
        """Whether the queue could not be reached when last asked."""
        return self._down_since is not None

    @property
    def busy(self) -> bool:
        """Whether it is only down for us, who were not let in: others reach it."""
        return self._down_since is not None and self._lost_since is None

    @property
    def retry_at(self) -> float:
        """When it may be asked again, while it is down."""
        return self._retry_at

    @property
    def gathered(self) -> int:
        """How many of the held leases came to an end that the queue was not told yet."""
        if self.flush_at is None:
            return 0
        return len(self.acks) + len(self._buries) + sum(map(len, self._nacks.values()))

    @property
    def all_ended(self) -> bool:
        """Whether there is something to tell, and nothing in hand that it could wait for."""
        return self.flush_at is not None and self.gathered == len(self.held)

    def gathered_ids(self) -> set[str]:
        """Their ids."""
        ended = [*self.acks, *(lease for lease, _ in self._buries)]
        for leases in self._nacks.values():
            ended += leases
        return {lease.id for lease in ended}

    def expired(self, now: float) -> bool:
        """Whether the leases must be given up, since they could not be renewed in time."""
        return bool(self.held) and now - self._renewed_at > self._lease_s

    @property
    def take_at(self) -> float:
        """When it may be asked for params again."""
        return max(self._retry_at if self.down else 0.0, self._taking.retry_at)

    def lease(self, limit: int, wait_s: float) -> Sequence[Lease]:
        """Up to `limit` params; they are held from now on."""
        if self._waits() or self._unflushed or self._taking.waits():
            return ()
        if not self.held:
            self._renewed_at = self._clock.monotonic()
        try:
            self._return_given_up()
            leases = self.engine.lease(limit, wait_s)
        except EngineUnavailable as error:
            if error.busy or not self._taking.fails_alone(error, holds=bool(self.held)):
                self._failed(error)
            return ()
        self._taking.works()
        if leases:
            self._reached()
            self.held.update(zip(map(_ID, leases), leases, strict=True))
            if self._checkpoints is not None:
                self._checkpoints.begin(leases)
        return leases

    def settled(self, lease: Lease, settlement: Settlement, now: float) -> None:
        """Tell this about `lease` with the next flush."""
        if settlement.kind == "ack":
            self.acks.append(lease)
        elif settlement.kind == "nack":
            key = (settlement.delay_s, settlement.charge, settlement.later)
            self._nacks.setdefault(key, []).append(lease)
        elif settlement.failure is not None:
            self._buries.append((lease, settlement.failure))
        self.gather(now)

    def gather(self, now: float) -> None:
        """From now on there is something to tell: it waits for more, but no longer than that."""
        if self.flush_at is None:
            self.flush_at = now + GATHER_S

    def give_back(self, leases: Iterable[Lease], now: float, delay_s: float = 0.0) -> None:
        """Give these back uncharged with the next flush."""
        back = Settlement("nack", delay_s=delay_s)
        for lease in leases:
            self.settled(lease, back, now)

    def take_back_acks(self) -> list[Lease]:
        """What was to be acked, and is not: to be settled otherwise."""
        acks, self.acks = self.acks, []
        return acks

    def flush(self, *, last: bool = False, acks_wait: str = "") -> bool:
        """Tell the queue what gathered. False if it could not be told all of it now. `last`: ask
        even while it is down. `acks_wait`: why acks can't be told now; patience is as with a queue
        that can't be reached."""
        if self.flush_at is None:
            return True
        if self._waits() and not last:
            return False
        writes = bool(self._buries or self._nacks)
        try:
            if self.acks and not acks_wait:
                self.engine.ack(self.acks)
                if self._checkpoints is not None:
                    self._checkpoints.settled(self.acks)
                self._forget(self.acks)
                self.acks.clear()
            while self._buries:
                lease, failure = self._buries[-1]
                self.engine.bury([lease], failure)
                self._forget([lease])
                self._buries.pop()
            while self._nacks:
                key, leases = next(iter(self._nacks.items()))
                delay_s, charge, later = key
                self.engine.nack(leases, delay_s=delay_s, charge=charge, later=later)
                self._forget(leases)
                del self._nacks[key]
            if self.acks:
                self._held_up = True
                raise EngineUnavailable(acks_wait)
        except EngineUnavailable as error:
            self._unflushed = True
            self._failed(error)
            return False
        self.flush_at = None
        self._unflushed = False
        if writes:
            self._unmarked.clear()
        return True

    def extend(self) -> list[Lease]:
        """The heartbeat. Returns the leases that were lost; they are held no more."""
        if self._waits():
            return []
        asked_at = self._clock.monotonic()
        try:
            self._return_given_up()
            lost = list(self.engine.extend(self.held.values()))
        except EngineUnavailable as error:
            if error.renewed:
                self._renewed_at = asked_at
            self._failed(error)
            return []
        self._renewed_at = asked_at
        self._reached()
        self._forget(lost)
        return lost

    def give_up_all(self) -> list[Lease]:
        """All leases are lost, since they could not be renewed; what is not settled yet."""
        lost = list(self.held.values())
        self._given_up += lost
        self.held.clear()
        self.marked.clear()
        self.acks.clear()
        self._nacks.clear()
        self._buries.clear()
        self._unflushed = False
        self._unmarked.clear()
        self.flush_at = None
        return lost

    def started(self, leases: Sequence[Lease]) -> bool:
        """Mark these as running. False if the queue could not be told."""
        if self._waits():
            return False
        try:
            self.engine.started(leases)
        except EngineUnavailable as error:
            self._unmarked.update([lease.id for lease in leases])
            self._failed(error)
            return False
        self._unmarked.clear()
        self.marked.update([lease.id for lease in leases])
        return True

    def stats(self) -> Stats | None:
        """What the queue holds, or None if it could not be asked."""
        if self._waits():
            return None
        try:
            stats = self.engine.stats()
        except EngineUnavailable as error:
            self._failed(error)
            return None
        self._reached()
        return stats

    def looks_drained(self) -> bool:
        """Whether it is worth while to ask for the stats now; see contracts.engine.SeesTheEnd."""
        return isinstance(self.engine, SeesTheEnd) and self.engine.looks_drained()

    def idle_before(self, enough: int) -> int | None:
        """How many idle minions come before this one; see contracts.engine.TellsIdle."""
        if not isinstance(self.engine, TellsIdle) or self._waits():
            return None
        try:
            return self.engine.idle_before(enough)
        except EngineUnavailable as error:
            self._failed(error)
            return None

    def _return_given_up(self) -> None:
        """Uncharged; those that are another's by now stay with it."""
        if self._given_up:
            self.engine.nack(self._given_up, charge=False)
            self._given_up.clear()

    def _forget(self, leases: Iterable[Lease]) -> None:
        forget = self.held.pop
        for id_ in map(_ID, leases):
            forget(id_, None)
        if self.marked:
            self.marked.difference_update([lease.id for lease in leases])
        if self._unmarked:
            self._unmarked.intersection_update(self.held)

    def _waits(self) -> bool:
        return self._down_since is not None and self._clock.monotonic() < self._retry_at

    def _reached(self) -> None:
        """It did something that can't be done without it; what an engine only notes, or says
        without looking, does not count. Nor does what needs no room on a full disk."""
        if self._given_up or (self.held and (self._unflushed or self._unmarked)):
            return
        self._unflushed = False
        self._unmarked.clear()
        if self._down_since is not None:
            away_s = self._clock.monotonic() - self._down_since
            self._down_since = self._lost_since = None
            self._retry_s = FIRST_RETRY_S
            self._taking.else_works()
            if self._told_down:
                self._told_down = False
                again = f"{self.engine.url}: reached again"
                if self._held_up:
                    again = "the report can be written again"
                self._say(f"{again} after {away_s:.0f} s")
            self._held_up = False

    def _failed(self, error: EngineUnavailable) -> None:
        """Wait a little longer each time; give up after `reconnect_s` in which no other process was
        seen to reach it either."""
        # Slow to import, and a queue that can be reached needs none.
        import random

        now = self._clock.monotonic()
        if self._down_since is None:
            self._down_since = now
        if error.busy:
            self._lost_since = None
            self._retry_s = FIRST_RETRY_S
            if now - self._down_since >= LONG_BUSY_S:
                self._tell_down(f"{error}; waiting on")
        elif self._lost_since is None:
            self._lost_since = now
            self._tell_down(trying_again(error, self._reconnect_s))
        else:
            give_up(error, now - self._lost_since, self._reconnect_s)
        self._retry_at = now + self._retry_s * random.uniform(0.5, 1.0)
        self._retry_s = min(_LAST_RETRY_S, self._lease_s / 4, 2 * self._retry_s)

    def _tell_down(self, why: str) -> None:
        """Once, until it is reached."""
        if not self._told_down:
            self._told_down = True
            self._say(why)

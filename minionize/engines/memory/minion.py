"""A minion's face of a queue in memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from minionize.contracts.engine import EngineOptions, Traits
from minionize.engines.memory.store import Holder, Item, Store
from minionize.values import Failure, Lease, Orders, State, Stats


class MemoryEngine:
    """A minion's face."""

    def __init__(self, store: Store, options: EngineOptions) -> None:
        self.traits = Traits(keeps_done=store.keep, durable=False)
        self.url = f"memory:{store.name}"
        self._store = store
        self._options = options
        self._clock = options.clock
        self._me = Holder(options)
        with store.lock:
            store.minions.append(self._me)
            self._orders = Orders(store.paused, store.stops)

    def lease(self, limit: int, wait_s: float) -> Sequence[Lease]:
        store, clock = self._store, self._clock
        with store.lock:
            until_s = clock.monotonic() + wait_s
            while True:
                now_s = self._visit()
                taken = [] if store.paused or limit <= 0 else store.take(limit, self._me)
                left_s = until_s - now_s
                if taken or left_s <= 0:
                    break
                # A lease of a dead minion ends without a word from anywhere: look again.
                look_s = min(left_s, 0.25)
                if store.delayed:
                    look_s = min(look_s, max(store.delayed[0][0] - now_s, 0.0))
                store.pause_for(look_s, clock)
        return [
            Lease(
                item.id,
                item.text,
                item.attempt,
                item.crashes,
                item.laters,
                item.suspect,
                item.serial,
            )
            for item in taken
        ]

    def ack(self, leases: Collection[Lease]) -> None:
        with self._store.lock:
            for item in self._mine(leases):
                self._store.settle(item)

    def moved(self, leases: Collection[Lease]) -> None:
        with self._store.lock:
            for item in self._mine(leases):
                self._store.move_out(item)

    def nack(
        self,
        leases: Collection[Lease],
        *,
        delay_s: float = 0.0,
        charge: bool = True,
        later: bool = False,
    ) -> None:
        now_s = self._clock.monotonic()
        with self._store.lock:
            for item in self._mine(leases):
                if charge:
                    item.attempt += 1
                    item.laters = 0
                elif later:
                    item.laters += 1
                if charge or later:
                    item.suspect = False
                self._store.release(item, delay_s, now_s)

    def bury(self, leases: Collection[Lease], failure: Failure) -> None:
        with self._store.lock:
            for item in self._mine(leases):
                self._store.let_go(item)
                item.state = State.DEAD
                item.failure = failure
                self._store.dead[item.id] = item

    def extend(self, leases: Collection[Lease]) -> Collection[Lease]:
        with self._store.lock:
            self._visit()
            held = self._me.held
            return [
                lease
                for lease in leases
                if lease.id not in held or held[lease.id].serial != lease.token
            ]

    def started(self, leases: Collection[Lease]) -> None:
        with self._store.lock:
            for item in self._mine(leases):
                item.marked = True

    def orders(self) -> Orders:
        return self._orders

    def stats(self) -> Stats:
        with self._store.lock:
            return self._store.stats(self._clock.monotonic())

    def close(self) -> None:
        with self._store.lock:
            if self._me in self._store.minions:
                now_s = self._clock.monotonic()
                for item in list(self._me.held.values()):
                    self._store.release(item, 0.0, now_s)
                self._store.minions.remove(self._me)

    def _visit(self) -> float:
        """A heartbeat, in time or not: who comes too late finds that its leases are gone."""
        now_s = self._clock.monotonic()
        self._store.tick(now_s)
        self._me.beat()
        if self._me not in self._store.minions:
            self._store.minions.append(self._me)
        self._orders = Orders(self._store.paused, self._store.stops)
        return now_s

    def _mine(self, leases: Collection[Lease]) -> list[Item]:
        """The params of those leases that this minion still holds."""
        self._store.tick(self._clock.monotonic())
        held = self._me.held
        found = {lease.id: held.get(lease.id) for lease in leases}
        return [
            item
            for lease in leases
            if (item := found.pop(lease.id, None)) is not None and item.serial == lease.token
        ]

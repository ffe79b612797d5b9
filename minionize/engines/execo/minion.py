"""A minion's face of an execo sweep."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from minionize.contracts.engine import Traits
from minionize.engines.execo.ledger import Ledger, Record
from minionize.engines.execo.room import Room
from minionize.values import Failure, Lease, Orders, Stats

TRAITS = Traits(keeps_done=True)


class ExecoEngine:
    """Takes from the sweep with get_next_batch, acks with done_batch, gives back with
    cancel_batch; never skips."""

    def __init__(self, room: Room) -> None:
        self.traits = TRAITS
        self.url = room.url
        self._room = room
        self._key = room.new_key()
        self._acked: dict[str, Lease] = {}
        self._nothing_at: object = None
        self._nothing_s = 0.0
        self._orders = Orders()
        self._closed = False
        with self._visit():
            room.save()

    def lease(self, limit: int, wait_s: float) -> Sequence[Lease]:
        clock = self._room.clock
        until_s = clock.monotonic() + wait_s
        pause_s = 0.02
        while True:
            with self._visit() as ledger:
                leases = [] if ledger.paused or limit <= 0 else self._take(ledger, limit)
            left_s = until_s - clock.monotonic()
            if leases or left_s <= 0:
                return leases
            clock.sleep(min(pause_s, left_s))
            pause_s = min(pause_s * 2, 0.25)

    def ack(self, leases: Collection[Lease]) -> None:
        self._acked.update((lease.id, lease) for lease in leases)
        records = self._room.ledger.params  # as of the last visit: our own marks are in it
        if any(lease.id in records and records[lease.id].marked for lease in leases):
            with self._visit():
                pass

    def moved(self, leases: Collection[Lease]) -> None:
        """The sweep forgets them, as those that are purged."""
        with self._visit() as ledger:
            mine = self._mine(ledger, leases)
            if not mine:
                return
            room = self._room
            for id in mine:
                _let_go(ledger.params[id])
            room.give_back(mine)
            room.drop(mine)

    def nack(
        self,
        leases: Collection[Lease],
        *,
        delay_s: float = 0.0,
        charge: bool = True,
        later: bool = False,
    ) -> None:
        with self._visit() as ledger:
            mine = self._mine(ledger, leases)
            due = self._room.time() + delay_s if delay_s > 0 else 0.0
            for id in mine:
                record = ledger.params[id]
                if charge:
                    record.attempt += 1
                    record.laters = 0
                elif later:
                    record.laters += 1
                if charge or later:
                    record.suspect = False
                _let_go(record)
                record.due = due
            if mine:
                self._room.give_back(mine)

    def bury(self, leases: Collection[Lease], failure: Failure) -> None:
        with self._visit() as ledger:
            mine = self._mine(ledger, leases)
            for id in mine:
                _let_go(ledger.params[id])
                ledger.params[id].failure = (failure.reason, failure.detail)
            if mine:
                self._room.give_back(mine)

    def extend(self, leases: Collection[Lease]) -> Collection[Lease]:
        with self._visit() as ledger:
            self._room.beat(self._key)
            self._room.save(sync=False)
            mine = set(self._mine(ledger, leases))
            return [
                lease
                for lease in leases
                if lease.id not in mine or ledger.params[lease.id].serial != lease.token
            ]

    def started(self, leases: Collection[Lease]) -> None:
        with self._visit() as ledger:
            mine = self._mine(ledger, leases)
            for id in mine:
                ledger.params[id].marked = True
            if mine:
                self._room.save()

    def orders(self) -> Orders:
        return self._orders

    def stats(self) -> Stats:
        with self._visit():
            return self._room.stats()

    def close(self) -> None:
        if self._closed:
            return
        with self._visit() as ledger:
            held = ledger.held_by(self._key)
            for id in held:
                _let_go(ledger.params[id])
            self._room.leave(self._key)
            self._room.give_back(held)
        self._room.let_go()
        self._closed = True

    def abandon(self) -> None:
        """As if this process had been killed: nothing is written, and the lock that showed that
        it lives is free. For tests."""
        self._closed = True
        self._room.drop_lock(self._key)

    @contextmanager
    def _visit(self) -> Iterator[Ledger]:
        """A locked visit, which makes acks durable first."""
        with self._room.visit() as ledger:
            if self._key not in ledger.members and not self._closed:
                self._room.beat(self._key)
            self._orders = Orders(ledger.paused, ledger.stops)
            if self._acked:
                done = self._mine(ledger, self._acked.values())
                if done:
                    self._room.sweep.finish(done)
                    for id in done:
                        del ledger.params[id]
                    self._room.save(sync=False)  # execo's own file has it, and that one counts
                self._acked.clear()
            yield ledger

    def _take(self, ledger: Ledger, limit: int) -> list[Lease]:
        room = self._room
        now_s = room.clock.monotonic()
        if (
            not room.ready()
            and self._nothing_at == room.traces
            and now_s - self._nothing_s < room.options.lease_s / 4
        ):
            return []
        leases: list[Lease] = []

        def choose(todo: Collection[Any]) -> list[Any]:
            """The ledger first: what stands there in a dead minion's name comes back at once."""
            chosen = list(islice(room.choose(todo), limit))
            leases.extend(self._hold(ledger, combination) for combination in chosen)
            if chosen:
                room.beat(self._key)
                room.save()
            return chosen

        room.sweep.take(limit, choose)
        if not leases:
            room.sweep.read_all()  # others may have cancelled what this ParamSweeper saw taken
            room.sweep.take(limit, choose)
        if not leases:
            self._nothing_at, self._nothing_s = room.traces, now_s
        return leases

    def _hold(self, ledger: Ledger, combination: Any) -> Lease:
        """This minion has it from now on."""
        sweep = self._room.sweep
        id = sweep.id_of(combination)
        assert id is not None
        record = ledger.params.setdefault(id, Record())
        ledger.serial += 1
        record.holder, record.serial, record.marked = self._key, ledger.serial, False
        record.due = 0.0
        return Lease(
            id,
            sweep.texts[id],
            record.attempt,
            record.crashes,
            record.laters,
            record.suspect,
            ledger.serial,
        )

    def _mine(self, ledger: Ledger, leases: Collection[Lease]) -> list[str]:
        """The ids of those leases that this minion still holds."""
        return [
            lease.id
            for lease in {lease.token: lease for lease in leases}.values()
            if (record := ledger.params.get(lease.id)) is not None
            and record.holder == self._key
            and record.serial == lease.token
        ]


def _let_go(record: Record) -> None:
    record.holder, record.marked, record.serial = "", False, 0

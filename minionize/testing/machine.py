"""A Hypothesis state machine: any order of everything, against a model of where params may be."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from minionize.contracts.engine import Engine, Queue
from minionize.testing.backend import Backend
from minionize.testing.steering import total
from minionize.values import Failure, Lease, State

Pick = random.Random
"""Chosen by Hypothesis, so that what failed can be shrunk and repeated."""

NEAR_S = 0.05
"""How exact due times are taken: what is due within this may be seen as waiting or as delayed."""


@dataclass
class Known:
    """What the model knows of one param."""

    where: str = "free"
    """`free`, `held`, `fallen` (its minion died or slept: free as soon as that is noticed),
    `acked` (not yet durable), `done`, `dead` or `purged`."""
    maybe_gone: bool = False
    """It may be settled or dropped already, or come again."""
    attempt: int = 1
    crashes: int = 0
    laters: int = 0
    suspect: bool = False
    due_s: float = 0.0
    id: str = ""
    marked: bool = False

    def back(self) -> None:
        """Its minion died: what it is like if it comes again."""
        self.maybe_gone = self.maybe_gone or self.where == "acked"
        self.where = "fallen"
        self.suspect = True
        self.crashes += self.marked
        self.marked = False


@dataclass
class Minion:
    """A minion and what it holds, by param."""

    engine: Engine
    held: dict[int, Lease] = field(default_factory=dict)
    acked: set[int] = field(default_factory=set)
    late: list[Lease] = field(default_factory=list)
    """Leases that it had once."""


class EngineMachine(RuleBasedStateMachine):
    """Set `make_backend` in a subclass; its `TestCase` is what pytest runs."""

    make_backend: ClassVar[Callable[[], Backend]]
    most_minions: ClassVar[int] = 3

    def __init__(self) -> None:
        super().__init__()
        self.backend = type(self).make_backend()
        self.params: dict[int, Known] = {}
        self.minions: list[Minion] = []
        self.paused = False
        self.now_s = 0.0
        self.numbers = itertools.count()

    @initialize(count=st.integers(1, 4))
    def begin(self, count: int) -> None:
        self.queue: Queue = self.backend.queue()
        self.put(count)
        self.open()
        self.open()

    # What people do.

    # Few params, so that much befalls each of them; and seldom what ends them all.

    @rule(count=st.integers(0, 2))
    def put(self, count: int) -> None:
        new = [next(self.numbers) for _ in range(count)]
        assert self.queue.put(new) == count
        self.params.update((number, Known()) for number in new)

    @rule(paused=st.sampled_from([False, False, False, True]))
    def pause_or_resume(self, paused: bool) -> None:
        if self.queue.traits.steers:
            self.queue.steer(paused=paused)
            self.paused = paused

    @rule()
    def requeue(self) -> None:
        if not self.queue.traits.scans:
            return
        dead = self.all_that_are("dead")
        assert self.queue.requeue() == len(dead)
        for number in dead:
            self.params[number] = Known(id=self.params[number].id)

    @rule(
        what=st.sampled_from([State.DEAD, State.WAITING, State.DELAYED, None]),
        really=st.sampled_from([False, False, False, True]),
    )
    def purge(self, what: State | None, really: bool) -> None:
        if not (really and self.queue.traits.scans):
            return
        for known in self.params.values():
            late_s = self.now_s - known.due_s
            waits, delayed = late_s >= -NEAR_S, late_s <= NEAR_S and known.due_s > 0
            if known.where == "dead" and what in (None, State.DEAD):
                known.where = "purged"
            elif known.where == "free" and (
                what is None
                or (what is State.WAITING and waits)
                or (what is State.DELAYED and delayed)
            ):
                sure = what is None or waits != delayed
                known.where, known.maybe_gone = ("purged", False) if sure else ("fallen", True)
            elif known.where == "fallen" and what in (None, State.WAITING):
                known.maybe_gone = True
        self.queue.purge(what)

    # What minions do.

    @precondition(lambda self: len(self.minions) < self.most_minions)
    @rule()
    def open(self) -> None:
        self.minions.append(Minion(self.backend.engine()))

    @precondition(lambda self: self.minions)
    @rule(pick=st.randoms(use_true_random=False), limit=st.sampled_from([1, 2, 12]))
    def lease(self, pick: Pick, limit: int) -> None:
        minion = pick.choice(self.minions)
        leases = minion.engine.lease(limit, 0.0)
        if leases:  # else it may not even have looked
            self.fold(minion)
        assert len(leases) <= limit
        assert not (leases and self.paused)
        if minion.engine.traits.counts_crashes:
            assert len({lease.suspect for lease in leases}) <= 1
        for lease in leases:
            self.leased(minion, lease)

    @precondition(lambda self: any(minion.held for minion in self.minions))
    @rule(pick=st.randoms(use_true_random=False))
    def start(self, pick: Pick) -> None:
        minion, some = self.some_held(pick)
        minion.engine.started([minion.held[number] for number in some])
        for number in some:
            self.params[number].marked = True

    @precondition(lambda self: any(minion.held for minion in self.minions))
    @rule(pick=st.randoms(use_true_random=False))
    def ack(self, pick: Pick) -> None:
        minion, some = self.some_held(pick)
        minion.engine.ack(self.end(minion, some))
        for number in some:
            known = self.params[number]
            known.where = "done" if known.marked else "acked"
            if not known.marked:
                minion.acked.add(number)

    @precondition(lambda self: any(minion.held for minion in self.minions))
    @rule(
        pick=st.randoms(use_true_random=False),
        kind=st.sampled_from(["innocent", "innocent", "later", "failed"]),
        delay_s=st.sampled_from([0.0, 0.0, 0.02, 0.1, 0.4]),
    )
    def nack(self, pick: Pick, kind: str, delay_s: float) -> None:
        minion, some = self.some_held(pick)
        delay_s *= self.backend.lease_s
        leases = self.end(minion, some)
        minion.engine.nack(leases, delay_s=delay_s, charge=kind == "failed", later=kind == "later")
        for number in some:
            known = self.params[number]
            known.where, known.marked = "free", False
            known.due_s = self.now_s + delay_s if delay_s else 0.0
            known.attempt += kind == "failed"
            known.laters = {"failed": 0, "later": known.laters + 1}.get(kind, known.laters)
            known.suspect = known.suspect and kind == "innocent"

    @precondition(lambda self: any(minion.held for minion in self.minions))
    @rule(pick=st.randoms(use_true_random=False))
    def bury(self, pick: Pick) -> None:
        minion, some = self.some_held(pick)
        minion.engine.bury(self.end(minion, some), Failure("exit 3", "tail"))
        for number in some:
            self.params[number].where = "dead"

    @precondition(lambda self: any(minion.late for minion in self.minions))
    @rule(pick=st.randoms(use_true_random=False))
    def repeat(self, pick: Pick) -> None:
        """Leases of old, settled or lost long ago: nothing changes."""
        minion = pick.choice([minion for minion in self.minions if minion.late])
        # Best those whose params it holds again by now: they look most like the real ones.
        again = [lease for lease in minion.late if lease.param in minion.held]
        late = (again or minion.late)[-3:]
        minion.engine.nack(late)
        minion.engine.bury(late, Failure("late"))
        minion.engine.started(late)

    @rule(quarters=st.floats(0.05, 0.99))
    def time_passes(self, quarters: float) -> None:
        self.pass_time(quarters * self.backend.lease_s / 4, self.minions)

    @precondition(lambda self: self.minions)
    @rule(pick=st.randoms(use_true_random=False))
    def crash(self, pick: Pick) -> None:
        minion = pick.choice(self.minions)
        self.minions.remove(minion)
        self.backend.kill(minion.engine)
        for number in [*minion.held, *minion.acked]:
            self.params[number].back()

    @precondition(lambda self: self.minions)
    @rule(pick=st.randoms(use_true_random=False))
    def sleep(self, pick: Pick) -> None:
        """A minion that does not extend for longer than its lease, and then goes on."""
        minion = pick.choice(self.minions)
        others = [other for other in self.minions if other is not minion]
        before = {number: self.params[number].marked for number in minion.held}
        for number in [*minion.held, *minion.acked]:
            self.params[number].back()
        for _ in range(6):
            self.pass_time(self.backend.lease_s / 4 + 0.01, others)
        lost = {lease.token for lease in minion.engine.extend(list(minion.held.values()))}
        for number, lease in list(minion.held.items()):
            if lease.token in lost:
                del minion.held[number]
                minion.late.append(lease)
            else:  # nobody noticed: it still holds it, as it did before
                known = self.params[number]
                known.where, known.marked = "held", before[number]
                known.crashes -= before[number]
                known.suspect = lease.suspect
        minion.acked.clear()

    @precondition(lambda self: self.minions)
    @rule(pick=st.randoms(use_true_random=False))
    def close(self, pick: Pick) -> None:
        minion = pick.choice(self.minions)
        minion.engine.close()
        self.fold(minion)
        self.minions.remove(minion)
        self.backend.forget(minion.engine)
        for number in minion.held:
            known = self.params[number]
            known.where, known.marked, known.due_s = "free", False, 0.0

    @rule()
    def everybody_looks(self) -> None:
        for minion in self.minions:
            minion.engine.stats()
            self.fold(minion)

    # What must be true.

    @invariant()
    def counts_agree(self) -> None:
        if not self.params or not self.queue.traits.counts:
            return
        stats = self.queue.stats()
        assert stats.put == len(self.params) == total(stats)
        assert stats.paused is self.paused
        assert stats.dead == len(self.all_that_are("dead"))
        sure = len(self.all_that_are("done"))
        maybe = sum(known.maybe_gone for known in self.params.values())
        acked = len(self.all_that_are("acked"))
        assert stats.done is not None
        assert sure <= stats.done <= sure + maybe + acked
        held = len(self.all_that_are("held"))
        assert stats.running is not None
        fallen = len(self.all_that_are("fallen"))
        assert held <= stats.running <= held + fallen + acked
        if stats.drained:
            assert not held
            assert all(
                known.where in ("done", "dead", "purged", "acked") or known.maybe_gone
                for known in self.params.values()
            )

    def teardown(self) -> None:
        try:
            if self.params:
                self.finish()
        finally:
            self.backend.close()

    def finish(self) -> None:
        """Whatever happened, the rest can be done, and nothing else is left."""
        for minion in list(self.minions):
            minion.engine.close()
            self.fold(minion)
            self.backend.forget(minion.engine)
            for number in minion.held:
                self.params[number].where, self.params[number].due_s = "free", 0.0
                self.params[number].marked = False
        if self.queue.traits.steers:
            self.queue.steer(paused=False)
        self.paused = False
        last = Minion(self.backend.engine())
        for _ in range(20):
            self.pass_time(self.backend.lease_s / 4, [last])
        looks = 0
        while looks < 8:
            leases = last.engine.lease(5, 0.01)
            looks = 0 if leases else looks + 1
            for lease in leases:
                self.leased(last, lease)
            last.engine.ack(self.end(last, list(last.held)))
            for lease in leases:
                self.params[lease.param].where = "done"
            self.pass_time(self.backend.lease_s / 16, [last])
        left = {
            number: known
            for number, known in self.params.items()
            if known.where not in ("done", "dead", "purged") and not known.maybe_gone
        }
        assert not left, f"lost: {left}"
        assert last.engine.stats().drained is not False

    # How the model follows.

    def all_that_are(self, where: str) -> list[int]:
        return [number for number, known in self.params.items() if known.where == where]

    def some_held(self, pick: Pick) -> tuple[Minion, list[int]]:
        minion = pick.choice([minion for minion in self.minions if minion.held])
        return minion, pick.sample(list(minion.held), pick.randint(1, len(minion.held)))

    def end(self, minion: Minion, numbers: list[int]) -> list[Lease]:
        """These are held no longer; they can still be used late."""
        leases = [minion.held.pop(number) for number in numbers]
        minion.late += leases
        return leases

    def fold(self, minion: Minion) -> None:
        """What `minion` acked is durable now."""
        for number in minion.acked:
            self.params[number].where = "done"
        minion.acked.clear()

    def leased(self, minion: Minion, lease: Lease) -> None:
        known = self.params[lease.param]
        assert known.where in ("free", "fallen"), f"{lease} was {known}"
        if minion.engine.traits.delays:
            assert known.due_s <= self.now_s + NEAR_S, f"{lease} came before its time: {known}"
        assert known.id in ("", lease.id)
        assert (lease.attempt, lease.laters) == (known.attempt, known.laters), known
        if minion.engine.traits.counts_crashes:
            assert (lease.crashes, lease.suspect) == (known.crashes, known.suspect), known
        minion.held[lease.param] = lease
        known.id = lease.id
        known.where, known.maybe_gone, known.due_s = "held", False, 0.0

    def pass_time(self, seconds: float, alive: list[Minion]) -> None:
        held = [(minion.engine, list(minion.held.values())) for minion in alive]
        self.backend.pass_time(seconds, *held)
        self.now_s += seconds
        for minion in alive:
            self.fold(minion)

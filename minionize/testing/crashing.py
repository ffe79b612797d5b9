"""Sentences about minions that die: everything comes back, and only the guilty pay."""

from __future__ import annotations

import pytest

from minionize.contracts.engine import Engine
from minionize.testing.backend import Backend
from minionize.values import Lease


class Crashing:
    """Part of EngineContract."""

    def test_what_a_dead_minion_held_comes_back_uncharged(self, backend: Backend) -> None:
        backend.filled(range(20))
        victim, other = backend.engine(), backend.engine()
        held = backend.get(victim, 15)
        mine = backend.get(other, 5)
        backend.kill(victim)
        backend.outlast_lease((other, mine))
        back = backend.get(other, 15, mine)
        assert {lease.id for lease in back} == {lease.id for lease in held}
        assert {(lease.attempt, lease.crashes) for lease in back} == {(1, 0)}
        if other.traits.counts_crashes:
            assert all(lease.suspect for lease in back)

    def test_it_comes_back_to_minions_that_start_later(self, backend: Backend) -> None:
        backend.filled([1])
        victim = backend.engine()
        held = backend.get(victim, 1)
        backend.kill(victim)
        later = backend.engine()
        backend.outlast_lease((later, []))
        assert [lease.id for lease in backend.get(later, 1)] == [held[0].id]

    def test_a_crash_is_charged_to_what_was_started_and_to_nothing_else(
        self, backend: Backend
    ) -> None:
        backend.filled(range(10))
        victim = backend.engine()
        counts_crashes(victim)
        held = backend.get(victim, 10)
        victim.started(held[3:5])
        victim.started([])
        backend.kill(victim)
        other = backend.engine()
        backend.outlast_lease((other, []))
        back = {lease.id: lease for lease in backend.get(other, 10)}
        assert [back[lease.id].crashes for lease in held] == [0, 0, 0, 1, 1, 0, 0, 0, 0, 0]
        assert {lease.attempt for lease in back.values()} == {1}
        assert all(lease.suspect for lease in back.values())

    def test_crashes_add_up_and_attempts_are_counted_apart(self, backend: Backend) -> None:
        backend.filled([1])
        for crashes in range(3):
            victim = backend.engine()
            counts_crashes(victim)
            backend.outlast_lease((victim, []))
            (lease,) = backend.get(victim, 1)
            assert (lease.crashes, lease.attempt) == (crashes, crashes + 1)
            victim.nack([lease])
            (lease,) = backend.get(victim, 1)
            assert (lease.crashes, lease.suspect) == (crashes, False)
            victim.started([lease])
            backend.kill(victim)

    def test_suspects_come_with_suspects_only(self, backend: Backend) -> None:
        backend.filled(range(10))
        victim, other = backend.engine(), backend.engine()
        counts_crashes(victim)
        backend.get(victim, 4)
        backend.kill(victim)
        backend.outlast_lease((other, []))
        seen: list[Lease] = []
        while len(seen) < 10:
            leases = other.lease(10, 0.2)
            assert len({lease.suspect for lease in leases}) <= 1
            seen += leases
            backend.pass_time(0.1, (other, seen))
        assert sum(lease.suspect for lease in seen) == 4

    @pytest.mark.parametrize(
        ("charge", "later", "suspect"),
        [(True, False, False), (False, True, False), (False, False, True)],
        ids=["failed", "later", "innocent"],
    )
    def test_a_suspect_stays_one_until_a_run_ends(
        self, backend: Backend, charge: bool, later: bool, suspect: bool
    ) -> None:
        other, (lease,) = suspects(backend, 1)
        other.nack([lease], charge=charge, later=later)
        (again,) = backend.get(other, 1)
        assert again.suspect is suspect

    def test_a_suspect_that_was_not_started_stays_innocent(self, backend: Backend) -> None:
        first, leases = suspects(backend, 3)
        first.started(leases[:1])
        backend.kill(first)
        other = backend.engine()
        backend.outlast_lease((other, []))
        back = {lease.id: lease for lease in backend.get(other, 3)}
        assert [back[lease.id].crashes for lease in leases] == [1, 0, 0]
        assert all(lease.suspect for lease in back.values())

    @pytest.mark.parametrize("charge", [True, False])
    def test_a_mark_ends_when_it_is_given_back(self, backend: Backend, charge: bool) -> None:
        backend.filled([1])
        one, two = backend.engine(), backend.engine()
        counts_crashes(one)
        leases = backend.get(one, 1)
        one.started(leases)
        one.nack(leases, charge=charge)
        backend.get(two, 1)
        backend.kill(two)
        backend.outlast_lease((one, []))
        (lease,) = backend.get(one, 1)
        assert (lease.crashes, lease.suspect) == (0, True)

    def test_a_mark_ends_with_the_lease_it_was_made_for(self, backend: Backend) -> None:
        backend.filled([1])
        engine = backend.engine()
        counts_crashes(engine)
        leases = backend.get(engine, 1)
        engine.started(leases)
        engine.nack(leases, charge=False)
        backend.get(engine, 1)
        backend.kill(engine)
        other = backend.engine()
        backend.outlast_lease((other, []))
        assert [lease.crashes for lease in backend.get(other, 1)] == [0]

    def test_a_late_mark_charges_nobody(self, backend: Backend) -> None:
        backend.filled([1])
        slow, other = backend.engine(), backend.engine()
        counts_crashes(slow)
        old = backend.get(slow, 1)
        backend.outlast_lease((other, []))
        backend.get(other, 1)
        slow.started(old)
        backend.kill(slow)
        backend.kill(other)
        last = backend.engine()
        backend.outlast_lease((last, []))
        assert [lease.crashes for lease in backend.get(last, 1)] == [0]

    def test_a_minion_may_crash_with_nothing(self, backend: Backend) -> None:
        backend.filled([1])
        backend.kill(backend.engine())
        other = backend.engine()
        backend.outlast_lease((other, []))
        other.ack(backend.get(other, 1))
        assert other.stats().drained is not False


def counts_crashes(engine: Engine) -> None:
    """Skip where the broker can't."""
    if not engine.traits.counts_crashes:
        pytest.skip("this broker can't tell what ran in a crash")


def suspects(backend: Backend, count: int) -> tuple[Engine, list[Lease]]:
    """A minion that holds `count` suspects."""
    backend.filled(range(count))
    victim, other = backend.engine(), backend.engine()
    counts_crashes(victim)
    backend.get(victim, count)
    backend.kill(victim)
    backend.outlast_lease((other, []))
    leases = backend.get(other, count)
    assert all(lease.suspect for lease in leases)
    return other, leases

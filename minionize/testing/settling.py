"""Sentences about ack, nack and bury: what each does, how often, and how late."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from minionize.contracts.engine import Engine, MovesOut
from minionize.testing.backend import Backend
from minionize.values import Failure, Lease, State

EXIT_3 = Failure("exit 3", "boom\n\x1b[31mred")


class Settling:
    """Part of EngineContract."""

    def test_what_is_acked_never_comes_back(self, backend: Backend) -> None:
        queue = backend.filled(range(10))
        engine = backend.engine()
        leases = backend.get(engine, 10)
        engine.ack(leases[:4])
        engine.ack(leases[4:])
        engine.close()
        backend.nothing(backend.engine())
        stats = queue.stats()
        assert (stats.drained, stats.done) in ((True, 10), (None, None))

    def test_acks_may_be_repeated(self, backend: Backend) -> None:
        queue = backend.filled(range(3))
        engine = backend.engine()
        leases = backend.get(engine, 3)
        engine.ack([])
        engine.ack(leases[:2])
        engine.ack(leases[:2])
        engine.extend(leases[2:])
        engine.ack(leases)
        engine.ack(leases)
        assert engine.stats().drained is not False
        engine.ack(leases)
        engine.close()
        stats = queue.stats()
        assert (stats.put, stats.done) in ((3, 3), (None, None))

    def test_what_was_moved_out_is_not_done(self, backend: Backend) -> None:
        queue = backend.filled(range(8))
        engine = backend.engine()
        if not isinstance(engine, MovesOut):
            pytest.skip("it can't tell what was moved from what is done")
        leases = list(backend.get(engine, 7))
        moved, acked, held = [leases[0], *leases[2:5]], leases[1], leases[5:]
        engine.started(moved[1:2])
        engine.ack([acked])
        engine.moved(moved)
        engine.moved(moved)
        engine.moved([])
        stats = engine.stats()
        assert (stats.put, stats.purged, stats.done, stats.running) == (8, 4, 1, 2)
        # Durable, and no crash brings it back.
        backend.kill(engine)
        other = backend.engine()
        backend.outlast_lease((other, []))
        engine = other
        left: dict[str, Lease] = {}
        while len(left) < 3:
            some = backend.get(engine, 1)
            left.update((one.id, one) for one in some)
            engine.ack(some)
        assert {one.id for one in held} < left.keys()
        assert not left.keys() & {one.id for one in (*moved, acked)}
        stats = engine.stats()
        assert (stats.put, stats.purged, stats.done, stats.drained) == (8, 4, 4, True)
        assert not queue.look_up([one.id for one in moved])
        if queue.traits.keeps_done:
            assert queue.requeue(None, State.DONE) == 4
            assert queue.requeue([one.id for one in moved], State.DONE) == 0

    @pytest.mark.parametrize("by", ["lease", "extend", "stats", "close", "started before"])
    def test_acks_are_durable_by(self, backend: Backend, by: str) -> None:
        backend.filled([1, 2])
        engine = backend.engine()
        done, held = backend.get(engine, 2)
        if by == "started before":
            engine.started([done])
        engine.ack([done])
        steps: dict[str, Callable[[], object]] = {
            "lease": lambda: engine.lease(1, 0.01),
            "extend": lambda: engine.extend([held]),
            "stats": engine.stats,
            "close": engine.close,
        }
        steps.get(by, lambda: None)()
        if by == "close":
            backend.forget(engine)
        else:
            backend.kill(engine)
        other = backend.engine()
        backend.outlast_lease((other, []))
        (left,) = backend.get(other, 1)
        assert left.id == held.id
        other.ack([left])
        backend.nothing(other)

    def test_a_late_ack_harms_nobody(self, backend: Backend) -> None:
        queue = backend.filled([1])
        slow, other = backend.engine(), backend.engine()
        old = backend.get(slow, 1)
        backend.outlast_lease((other, []))
        new = backend.get(other, 1)
        slow.ack(old)
        slow.extend([])
        other.ack(new)
        other.close()
        slow.close()
        stats = queue.stats()
        assert (stats.put, stats.done, stats.running) in ((1, 1, 0), (None, None, None))

    @pytest.mark.parametrize(
        ("charge", "later", "attempt", "laters"),
        [(True, False, 2, 0), (False, True, 1, 1), (False, False, 1, 0)],
        ids=["a failed attempt", "later", "innocent"],
    )
    def test_given_back_params_count(
        self, backend: Backend, charge: bool, later: bool, attempt: int, laters: int
    ) -> None:
        backend.filled([{"a": [1, "ü\n"]}])
        one, two = backend.engine(), backend.engine()
        (first,) = backend.get(one, 1)
        one.nack([first], charge=charge, later=later)
        (second,) = backend.get(two, 1)
        assert (second.id, second.text) == (first.id, first.text)
        assert (second.attempt, second.laters) == (attempt, laters)
        assert (second.crashes, second.suspect) == (0, False)

    def test_laters_are_counted_in_a_row_only(self, backend: Backend) -> None:
        backend.filled([1])
        engine = backend.engine()
        (lease,) = backend.get(engine, 1)
        engine.nack([lease], charge=False, later=True)
        (lease,) = backend.get(engine, 1)
        engine.nack([lease], charge=False)
        (lease,) = backend.get(engine, 1)
        assert lease.laters == 1
        engine.nack([lease], charge=False, later=True)
        (lease,) = backend.get(engine, 1)
        assert (lease.laters, lease.attempt) == (2, 1)
        engine.nack([lease])
        (lease,) = backend.get(engine, 1)
        assert (lease.laters, lease.attempt) == (0, 2)

    def test_a_delay_keeps_it_away_until_it_is_over(self, backend: Backend) -> None:
        queue = backend.filled([1, 2])
        engine = backend.engine()
        if not engine.traits.delays:
            pytest.skip("this broker has no delays")
        away, held = backend.get(engine, 2)
        delay_s = backend.lease_s / 2
        engine.nack([away], delay_s=delay_s)
        stats = queue.stats()
        assert stats.delayed in (1, None)
        assert stats.due_in_s is None or 0 < stats.due_in_s <= delay_s
        assert stats.drained is not True
        backend.nothing(engine, [held])
        for _ in range(3):
            backend.pass_time(delay_s / 2, (engine, [held]))
        (again,) = backend.get(engine, 1, [held])
        assert (again.id, again.attempt) == (away.id, 2)

    def test_delays_of_all_lengths_end(self, backend: Backend) -> None:
        backend.filled(range(6))
        engine = backend.engine()
        leases = backend.get(engine, 6)
        for number, lease in enumerate(leases):
            engine.nack([lease], delay_s=backend.lease_s / 100 * 1.9**number)
        assert {lease.id for lease in backend.get(engine, 6)} == {lease.id for lease in leases}

    def test_part_of_what_is_held_can_be_given_back(self, backend: Backend) -> None:
        backend.filled(range(30))
        one, two = backend.engine(), backend.engine()
        leases = backend.get(one, 30)
        one.nack(leases[::3])
        one.ack(leases[1::3])
        again = backend.get(two, 10)
        assert {lease.id for lease in again} == {lease.id for lease in leases[::3]}
        assert {lease.attempt for lease in again} == {2}
        backend.nothing(two, again)
        assert not one.extend(leases[2::3])

    @pytest.mark.parametrize("what", ["nack", "bury"])
    def test_giving_back_and_burying_are_durable_at_once(self, backend: Backend, what: str) -> None:
        queue = backend.filled([1])
        engine = backend.engine()
        leases = backend.get(engine, 1)
        settle(engine, what, leases)
        backend.kill(engine)
        other = backend.engine()
        backend.outlast_lease((other, []))
        if what == "nack":
            (again,) = backend.get(other, 1)
            assert (again.attempt, again.crashes, again.suspect) == (2, 0, False)
        else:
            backend.nothing(other)
            assert queue.stats().dead in (1, None)

    @pytest.mark.parametrize("what", ["nack", "bury"])
    def test_giving_back_and_burying_may_be_repeated(self, backend: Backend, what: str) -> None:
        queue = backend.filled([1])
        engine = backend.engine()
        leases = backend.get(engine, 1)
        for _ in range(3):
            settle(engine, what, leases)
            settle(engine, what, [])
        stats = queue.stats()
        if what == "nack":
            assert [lease.attempt for lease in backend.get(engine, 1)] == [2]
        assert stats.put in (1, None)
        assert stats.dead in (int(what == "bury"), None)

    @pytest.mark.parametrize("what", ["nack", "bury"])
    def test_late_ones_leave_the_new_holder_alone(self, backend: Backend, what: str) -> None:
        queue = backend.filled([1])
        slow, other = backend.engine(), backend.engine()
        old = backend.get(slow, 1)
        backend.outlast_lease((other, []))
        new = backend.get(other, 1)
        settle(slow, what, old)
        assert not other.extend(new)
        assert queue.stats().dead in (0, None)
        other.nack(new)
        assert [lease.attempt for lease in backend.get(other, 1)] == [2]

    def test_a_lease_of_old_settles_nothing_of_the_same_minion_now(self, backend: Backend) -> None:
        backend.filled([1])
        engine = backend.engine()
        old = backend.get(engine, 1)
        engine.nack(old)
        new = backend.get(engine, 1)
        engine.nack(old)
        engine.bury(old, EXIT_3)
        assert not engine.extend(new)
        engine.nack(new)
        assert [lease.attempt for lease in backend.get(engine, 1)] == [3]

    def test_dead_letters_are_kept_with_their_reason(self, backend: Backend) -> None:
        queue = backend.filled([{"lr": 0.1}, 2])
        engine = backend.engine()
        leases = backend.get(engine, 2)
        (bad,) = (lease for lease in leases if lease.param != 2)
        engine.bury([bad], EXIT_3)
        engine.ack([lease for lease in leases if lease.param == 2])
        engine.close()
        backend.nothing(backend.engine())
        stats = queue.stats()
        assert (stats.dead, stats.done, stats.drained) in ((1, 1, True), (None, None, None))
        if not queue.traits.scans:
            pytest.skip("this broker can't list")
        (entry,) = queue.scan(State.DEAD)
        assert (entry.id, entry.text, entry.state) == (bad.id, bad.text, State.DEAD)
        assert entry.failure == EXIT_3


def settle(engine: Engine, what: str, leases: list[Lease]) -> None:
    """`what` is `nack` or `bury`."""
    if what == "nack":
        engine.nack(leases)
    else:
        engine.bury(leases, EXIT_3)

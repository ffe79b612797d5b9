"""Sentences about what people tell a queue, about its counts, and about leaving it."""

from __future__ import annotations

import pytest

from minionize.errors import NotSupported
from minionize.testing.backend import Backend
from minionize.testing.filling import one_in_each_state
from minionize.testing.settling import EXIT_3
from minionize.values import Orders, State, Stats


class Steering:
    """Part of EngineContract."""

    def test_put_is_the_sum_of_everything(self, backend: Backend) -> None:
        queue, _ = one_in_each_state(backend)
        stats = queue.stats()
        if not queue.traits.counts:
            pytest.skip("this broker can't count")
        assert stats.put == 5 == total(stats)
        assert stats[:6] == (5, 1, 1, 1, 1, 1)
        assert stats.drained is False
        assert not stats.paused

    def test_counts_stay_exact_through_a_crash(self, backend: Backend) -> None:
        queue = backend.filled(range(10))
        victim, other = backend.engine(), backend.engine()
        if not queue.traits.counts:
            pytest.skip("this broker can't count")
        held = backend.get(victim, 8)
        victim.started(held[:2])
        victim.ack(held[2:4])
        victim.extend(held[:2] + held[4:])
        victim.bury(held[4:5], EXIT_3)
        victim.nack(held[5:6])
        backend.kill(victim)
        backend.outlast_lease((other, []))
        backend.get(other, 4)
        stats = queue.stats()
        assert total(stats) == stats.put == 10
        assert (stats.done, stats.dead, stats.running) == (2, 1, 4)
        assert stats.drained is False

    def test_requeue_puts_dead_letters_back_with_counts_reset(self, backend: Backend) -> None:
        queue = backend.filled(range(4))
        if not queue.traits.scans:
            pytest.skip("this broker keeps no dead letters that can be listed")
        engine = backend.engine()
        leases = backend.get(engine, 4)
        engine.nack(leases)
        leases = backend.get(engine, 4)
        engine.bury(leases, EXIT_3)
        chosen = sorted(lease.id for lease in leases)[:2]
        assert queue.requeue([*chosen, chosen[0], "no-such-id"]) == 2
        assert queue.requeue(chosen) == 0
        assert queue.requeue([]) == 0
        back = backend.get(engine, 2)
        assert sorted(lease.id for lease in back) == chosen
        counts = {(lease.attempt, lease.crashes, lease.laters, lease.suspect) for lease in back}
        assert counts == {(1, 0, 0, False)}
        assert queue.requeue() == 2
        assert queue.requeue() == 0
        backend.get(engine, 2, back)
        stats = queue.stats()
        assert stats.dead in (0, None)
        assert stats.put in (4, None)

    def test_a_requeued_param_can_die_again(self, backend: Backend) -> None:
        queue = backend.filled([1])
        if not queue.traits.scans:
            pytest.skip("this broker keeps no dead letters that can be listed")
        engine = backend.engine()
        for _ in range(3):
            engine.bury(backend.get(engine, 1), EXIT_3)
            assert [entry.failure for entry in queue.scan(State.DEAD)] == [EXIT_3]
            assert queue.requeue() == 1
        engine.ack(backend.get(engine, 1))
        assert engine.stats().drained is not False

    def test_done_ones_run_again_where_they_are_kept(self, backend: Backend) -> None:
        queue = backend.filled(range(3))
        if not queue.traits.keeps_done:
            pytest.skip("what is done is not kept")
        engine = backend.engine()
        leases = backend.get(engine, 3)
        engine.ack(leases)
        engine.stats()
        assert queue.requeue([leases[0].id], State.DONE) == 1
        assert [lease.id for lease in backend.get(engine, 1)] == [leases[0].id]
        assert queue.requeue(None, State.DONE) == 2
        stats = queue.stats()
        assert total(stats) == stats.put == 3

    @pytest.mark.parametrize("state", [State.WAITING, State.DELAYED, State.DEAD])
    def test_purge_drops_one_state(self, backend: Backend, state: State) -> None:
        queue, ids = one_in_each_state(backend)
        assert queue.purge(state) == 1
        assert list(queue.scan(state)) == []
        assert queue.purge(state) == 0
        for other in {State.WAITING, State.DELAYED, State.RUNNING, State.DEAD} - {state}:
            assert [entry.id for entry in queue.scan(other)] == ids[other]
        if queue.traits.counts:
            stats = queue.stats()
            assert (stats.put, stats.purged, total(stats)) == (5, 1, 5)

    @pytest.mark.parametrize("state", [State.WAITING, State.DELAYED])
    def test_what_was_delayed_until_now_waits(self, backend: Backend, state: State) -> None:
        queue = backend.filled(range(3))
        if not queue.traits.scans or not queue.traits.delays:
            pytest.skip("this broker can't list, or knows no delays")
        engine = backend.engine()
        soon, late, held = backend.get(engine, 3)
        engine.nack([soon], delay_s=backend.lease_s / 10)
        engine.nack([late], delay_s=20 * backend.lease_s)
        backend.pass_time(backend.lease_s / 5, (engine, [held]))
        assert queue.purge(state) == 1
        assert queue.purge(state) == 0
        if queue.traits.counts:
            stats = queue.stats()
            assert (stats.waiting, stats.delayed) == ((0, 1) if state is State.WAITING else (1, 0))
            assert (stats.purged, total(stats)) == (1, 3)

    def test_what_was_never_leased_is_purged_and_counted(self, backend: Backend) -> None:
        queue = backend.filled(range(7))
        if not queue.traits.scans:
            pytest.skip("this broker can't list")
        engine = backend.engine()
        backend.get(engine, 2)
        assert queue.purge(State.WAITING) == 5
        if queue.traits.counts:
            stats = queue.stats()
            assert (stats.waiting, stats.running, stats.purged, total(stats)) == (0, 2, 5, 7)

    @pytest.mark.parametrize("state", [State.RUNNING, State.DONE])
    def test_what_runs_or_is_done_is_not_purged(self, backend: Backend, state: State) -> None:
        queue, _ = one_in_each_state(backend)
        with pytest.raises(NotSupported):
            queue.purge(state)
        with pytest.raises(NotSupported):
            queue.requeue(None, State.RUNNING)
        assert queue.stats().purged in (0, None)

    def test_purge_drops_all_that_nobody_runs(self, backend: Backend) -> None:
        queue, ids = one_in_each_state(backend)
        assert queue.purge() == 3
        assert [entry.id for entry in queue.scan(State.RUNNING)] == ids[State.RUNNING]
        if queue.traits.counts:
            stats = queue.stats()
            assert stats[:7] == (5, 0, 0, 1, 1, 0, 3)
        queue.put(["after"])
        engine = backend.engine()
        assert [lease.param for lease in backend.get(engine, 1)] == ["after"]

    def test_a_paused_queue_leases_nothing(self, backend: Backend) -> None:
        queue = backend.filled([1, 2])
        engine = backend.engine()
        if not engine.traits.steers:
            pytest.skip("this broker has no way to tell minions")
        (held,) = backend.get(engine, 1)
        queue.steer(paused=True)
        backend.nothing(engine, [held])
        assert engine.orders().paused
        assert queue.stats().paused
        assert queue.stats().drained is not True
        assert backend.engine().orders().paused
        engine.nack([held], charge=False)
        queue.steer(paused=False)
        backend.get(engine, 2)
        assert not engine.orders().paused
        assert not queue.stats().paused

    def test_stop_is_seen_with_the_next_beat(self, backend: Backend) -> None:
        queue = backend.filled([1])
        engine = backend.engine()
        if not engine.traits.steers:
            pytest.skip("this broker has no way to tell minions")
        found = engine.orders().stops
        queue.steer(stop=True)
        backend.pass_time(backend.lease_s / 4, (engine, []))
        assert engine.orders() == Orders(False, found + 1)
        assert backend.engine().orders().stops == found + 1
        queue.steer(paused=None)
        backend.pass_time(backend.lease_s / 4, (engine, []))
        assert engine.orders() == Orders(False, found + 1)

    def test_minions_and_feeders_are_listed_while_they_live(self, backend: Backend) -> None:
        queue = backend.filled([1, 2, 3])
        one, two = backend.engine(), backend.engine()
        if not queue.traits.counts:
            pytest.skip("this broker does not know its minions")
        held = backend.get(one, 2)
        one.extend(held)
        with queue.feeding():
            minions = {each.id: each for each in queue.minions() if not each.feeder}
            assert sorted(minions) == ["minion-2", "minion-3"]
            assert [each.feeder for each in queue.minions()].count(True) == 1
            first = minions["minion-2"]
            assert (first.host, first.pid, first.slots, first.running) == ("here", 2, 2, 2)
        two.close()
        assert [each.id for each in queue.minions()] == ["minion-2"]

    def test_close_gives_back_uncharged_and_may_be_repeated(self, backend: Backend) -> None:
        queue = backend.filled(range(4))
        engine = backend.engine()
        held = backend.get(engine, 4)
        engine.started(held[:2])
        engine.ack(held[3:])
        engine.close()
        engine.close()
        other = backend.engine()
        back = backend.get(other, 3)
        assert {lease.id for lease in back} == {lease.id for lease in held[:3]}
        counts = {(lease.attempt, lease.crashes, lease.laters) for lease in back}
        assert counts == {(1, 0, 0)}
        assert not any(lease.suspect for lease in back)
        backend.nothing(other, back)
        queue.close()
        queue.close()

    def test_what_was_put_outlives_every_handle(self, backend: Backend) -> None:
        queue = backend.filled(["kept"])
        queue.close()
        backend.engine().close()
        (lease,) = backend.get(backend.engine(), 1)
        assert lease.param == "kept"
        assert backend.queue().stats().put in (1, None)

    def test_urls_name_the_queue_in_messages(self, backend: Backend) -> None:
        queue = backend.filled([1])
        assert queue.url
        assert backend.engine().url == queue.url
        assert backend.engine().traits == queue.traits


def total(stats: Stats) -> int:
    """What `put` must be."""
    return sum(
        part or 0
        for part in (
            stats.waiting,
            stats.delayed,
            stats.running,
            stats.done,
            stats.dead,
            stats.purged,
        )
    )

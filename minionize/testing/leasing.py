"""Sentences about leasing: who gets what, once, and for how long."""

from __future__ import annotations

import json
import re
import threading
import time

import pytest

from minionize.contracts.engine import Engine
from minionize.errors import NoSuchQueue
from minionize.testing.backend import REAL_TIME, Backend


class Leasing:
    """Part of EngineContract."""

    def test_a_minion_of_a_missing_queue_is_told_so_and_makes_none(self, backend: Backend) -> None:
        with pytest.raises(NoSuchQueue):
            backend.engine()
        with pytest.raises(NoSuchQueue):
            backend.engine()

    def test_every_param_put_is_leased_once(self, backend: Backend) -> None:
        backend.filled(range(50))
        one, two = backend.engine(), backend.engine()
        leases = backend.get(one, 25)
        leases += backend.get(two, 25)
        assert sorted(lease.param for lease in leases) == list(range(50))
        assert len({lease.id for lease in leases}) == 50
        backend.nothing(two, leases[25:])

    def test_a_first_lease_has_its_counts_at_their_beginnings(self, backend: Backend) -> None:
        backend.filled([{"lr": 0.1}])
        (lease,) = backend.get(backend.engine(), 1)
        assert lease.param == {"lr": 0.1}
        assert json.loads(lease.text) == {"lr": 0.1}
        counts = (lease.attempt, lease.crashes, lease.laters, lease.suspect)
        assert counts == (1, 0, 0, False)

    def test_ids_are_of_the_alphabet_and_stable_for_life(self, backend: Backend) -> None:
        backend.filled(["plain", "-x", "../up", "a b", "ü", "", 1, -1, 0.5, None, [1], {"a": 1}])
        engine = backend.engine()
        first = backend.get(engine, 12)
        for lease in first:
            assert re.fullmatch(r"[A-Za-z0-9._-]+", lease.id), lease
            assert lease.id not in (".", ".."), "ids name folders"
        engine.nack(first)
        engine.close()
        second = backend.get(backend.engine(), 12)
        assert {lease.id: lease.text for lease in first} == {
            lease.id: lease.text for lease in second
        }

    def test_never_more_than_the_limit(self, backend: Backend) -> None:
        backend.filled(range(9))
        engine = backend.engine()
        assert not engine.lease(0, 0)
        assert 1 <= len(engine.lease(2, 1.0)) <= 2

    def test_nothing_is_no_error_and_does_not_mean_finished(self, backend: Backend) -> None:
        queue = backend.filled([1])
        engine = backend.engine()
        engine.ack(backend.get(engine, 1))
        backend.nothing(engine)
        queue.put([2])
        assert [lease.param for lease in backend.get(engine, 1)] == [2]

    def test_who_waits_gets_what_is_put_meanwhile(self, backend: Backend) -> None:
        queue = backend.filled([1])
        engine = backend.engine(REAL_TIME)
        engine.ack(engine.lease(1, 5.0))
        putter = threading.Thread(target=queue.put, args=([2],))
        putter.start()
        try:
            until = time.monotonic() + backend.patience_s
            leases = list(engine.lease(1, 20.0))
            while not leases and time.monotonic() < until:
                leases += engine.lease(1, 1.0)
        finally:
            putter.join()
        assert [lease.param for lease in leases] == [2]
        engine.ack(leases)

    def test_extended_leases_live_as_long_as_the_work(self, backend: Backend) -> None:
        backend.filled([1, 2])
        one, two = backend.engine(), backend.engine()
        (held,) = backend.get(one, 1)
        (other,) = backend.get(two, 1)
        for _ in range(3):
            backend.outlast_lease((one, [held]), (two, [other]))
        backend.nothing(two, [other])
        one.ack([held])
        two.ack([other])
        assert not two.extend([])

    def test_a_lease_that_is_not_extended_is_lost_to_others(self, backend: Backend) -> None:
        backend.filled([1])
        slow, other = backend.engine(), backend.engine()
        (old,) = backend.get(slow, 1)
        backend.outlast_lease((other, []))
        (new,) = backend.get(other, 1)
        assert (new.id, new.text) == (old.id, old.text)
        assert [lease.id for lease in slow.extend([old])] == [old.id]
        assert not other.extend([new])

    def test_extend_names_only_the_lost_ones(self, backend: Backend) -> None:
        backend.filled([1, 2])
        slow, other = backend.engine(), backend.engine()
        old = backend.get(slow, 1)
        backend.outlast_lease((other, []))
        backend.get(other, 2)
        other.close()
        again = backend.get(slow, 2)
        assert [lease.token for lease in slow.extend([*old, *again])] == [old[0].token]

    def test_a_minion_without_leases_is_alive_too(self, backend: Backend) -> None:
        backend.filled([1])
        idle, other = backend.engine(), backend.engine()
        for _ in range(2):
            backend.outlast_lease((idle, []), (other, []))
        minions = other.stats().minions
        assert minions in (2, None)

    def test_several_minions_at_once_share_without_doubles(self, backend: Backend) -> None:
        if not backend.shares_between_threads:
            pytest.skip("one process may have one minion of this engine")
        backend.filled(range(200))
        engines = [backend.engine(REAL_TIME) for _ in range(3)]
        done: list[list[int]] = [[] for _ in engines]
        errors: list[BaseException] = []

        def work(engine: Engine, mine: list[int]) -> None:
            try:
                idle = 0
                until = time.monotonic() + backend.patience_s
                while time.monotonic() < until:
                    leases = engine.lease(7, 0.05)
                    idle = 0 if leases else idle + 1
                    if idle:
                        drained = engine.stats().drained
                        # Nothing now is not all, where the broker can't tell.
                        if drained or (drained is None and idle > 20):
                            return
                    # Now and then one goes back; never the only one: it might go round for ever.
                    back = leases[:1] if len(mine) % 3 and len(leases) > 1 else leases[:0]
                    kept = leases[len(back) :]
                    engine.nack(back, charge=False)
                    engine.ack(kept)
                    mine += [lease.param for lease in kept]
                errors.append(AssertionError(f"still not drained: {engine.stats()}"))
            except BaseException as error:
                errors.append(error)

        threads = [
            threading.Thread(target=work, args=pair) for pair in zip(engines, done, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        assert sorted(number for mine in done for number in mine) == list(range(200))

"""The queue as the loop sees it, while it can't be reached."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pytest
from made_worker import Around

from minionize.contracts.engine import EngineOptions
from minionize.engines.file import open_engine, open_queue
from minionize.engines.file.calls import Calls
from minionize.engines.registry import open_engine as open_any_engine
from minionize.engines.registry import open_queue as open_any_queue
from minionize.errors import EngineUnavailable
from minionize.testing import ManualClock
from minionize.values import Lease, SystemClock
from minionize.worker.decisions import Settlement
from minionize.worker.link import Link


def ids(leases: Collection[Lease]) -> set[str]:
    return {lease.id for lease in leases}


class GivesNothing(Around):
    """An engine that does all else."""

    def lease(self, limit: int, wait_s: float) -> Sequence[Lease]:
        if self.refuses:
            raise EngineUnavailable("memory: the disk is full")
        leases: Sequence[Lease] = self._engine.lease(limit, wait_s)
        return leases

    refuses = False


def test_who_can_take_nothing_goes_on_with_what_it_holds_and_gives_up_after_that() -> None:
    queue = open_any_queue("memory:gives-nothing", EngineOptions(minion_id="feeder"))
    queue.put([1, 2])
    clock = ManualClock()
    options = EngineOptions(minion_id="m1", lease_s=60.0, clock=clock)
    engine: Any = GivesNothing(open_any_engine("memory:gives-nothing", options))
    said: list[str] = []
    link = Link(engine, clock, lease_s=60.0, reconnect_s=30.0, say=said.append)
    (held,) = link.lease(1, 0.0)
    engine.refuses = True
    assert not link.lease(1, 0.0)
    assert link.down, "as in any break"
    clock.advance(1.0)
    assert link.extend() == []
    for _ in range(100):
        assert not link.lease(1, 0.0)
        assert not link.down, "acks must not wait for it"
        clock.advance(11.0)
        assert link.extend() == []
    assert len(said) == 3, said
    link.settled(held, Settlement("ack"), clock.monotonic())
    assert link.flush()
    assert not link.lease(1, 0.0)
    assert link.take_at > clock.monotonic(), "or the loop would turn without a pause"
    with pytest.raises(EngineUnavailable, match="tried for 33 s"):
        for _ in range(5):
            clock.advance(11.0)
            assert not link.lease(1, 0.0)
            assert link.stats()
    engine.refuses = False
    clock.advance(11.0)
    assert ids(link.lease(1, 0.0)) == {"2"}
    assert link.take_at <= clock.monotonic()
    for _ in range(50):
        # Somebody puts a param now and then; what fails is found in between.
        engine.refuses = not engine.refuses
        clock.advance(11.0)
        link.lease(1, 0.0)
        assert not link.down
    assert len(said) == 3, said
    engine.refuses = False
    for _ in range(4):
        clock.advance(11.0)
        link.lease(1, 0.0)
    assert len(said) == 4
    assert "can be taken again" in said[-1]


def test_what_was_given_up_while_nobody_reached_the_queue_is_given_back(tmp_path: Path) -> None:
    folder = str(tmp_path / "q")
    queue = open_queue(folder, EngineOptions(minion_id="feeder"))
    queue.put([1, 2, 3])
    said: list[str] = []
    engine = open_engine(folder, EngineOptions(minion_id="held-up", lease_s=2.0))
    link = Link(engine, SystemClock(), lease_s=2.0, reconnect_s=60.0, say=said.append)
    held = link.lease(2, 0.0)
    assert ids(held) == {"1", "2"}
    calls = Calls()
    head = calls.open(f"{folder}/head", write=True)
    assert calls.lock(head)  # a stopped minion would: nobody can take over what we hold
    try:
        assert link.extend() == []
        assert link.down
        assert ids(link.give_up_all()) == {"1", "2"}
    finally:
        calls.close(head)
    while link.down:
        link.extend()
    assert (queue.stats().running, queue.stats().waiting) == (0, 3)
    again: list[Lease] = []
    while len(again) < 3:
        again += link.lease(3, 5.0)
    assert ids(again) == {"1", "2", "3"}
    assert {(lease.attempt, lease.crashes) for lease in again} == {(1, 0)}
    link.engine.close()


class Away(Around):
    """An engine that can't be reached."""

    def extend(self, leases: Collection[Lease]) -> Collection[Lease]:
        raise EngineUnavailable("memory: away")


def test_a_beat_that_reaches_nobody_loses_nothing_yet() -> None:
    queue = open_any_queue("memory:away", EngineOptions(minion_id="feeder"))
    queue.put([1])
    clock = ManualClock()
    options = EngineOptions(minion_id="m1", lease_s=60.0, clock=clock)
    engine: Any = Away(open_any_engine("memory:away", options))
    link = Link(engine, clock, lease_s=60.0, reconnect_s=30.0, say=lambda _: None)
    (held,) = link.lease(1, 0.0)
    for _ in range(3):
        assert link.extend() == []
        assert link.held == {held.id: held}
        clock.advance(0.01)
    engine.close()
    queue.close()

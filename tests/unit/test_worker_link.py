"""The queue as the loop sees it, while it can't be reached."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from minionize.contracts.engine import EngineOptions
from minionize.engines.file import open_engine, open_queue
from minionize.engines.file.calls import Calls
from minionize.values import Lease, SystemClock
from minionize.worker.link import Link


def ids(leases: Collection[Lease]) -> set[str]:
    return {lease.id for lease in leases}


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

"""Hosts whose clocks differ agree on delays: the clock that is ahead is everybody's."""

from __future__ import annotations

from pathlib import Path

import pytest

from minionize.contracts.engine import EngineOptions
from minionize.engines.file import open_engine, open_queue
from minionize.engines.file.minion import FileEngine
from minionize.testing.backend import ManualClock
from minionize.values import Clock, Lease, State


class Wrong:
    """A clock that is off, but goes as fast as the right one."""

    def __init__(self, right: ManualClock, off_s: float) -> None:
        self._right = right
        self._off_s = off_s

    def monotonic(self) -> float:
        return self._right.monotonic()

    def time(self) -> float:
        return self._right.time() + self._off_s

    def sleep(self, seconds: float) -> None:
        self._right.sleep(seconds)


@pytest.mark.parametrize("off_s", [3600.0, -3600.0])
@pytest.mark.parametrize("giver", ["right", "wrong"])
def test_a_delay_is_as_long_for_both(tmp_path: Path, off_s: float, giver: str) -> None:
    right = ManualClock()
    wrong = Wrong(right, off_s)
    folder = str(tmp_path / "queue")
    queue = open_queue(folder, EngineOptions(minion_id="filler", clock=right))
    queue.put(range(2))

    def minion(name: str, clock: Clock) -> FileEngine:
        return open_engine(folder, EngineOptions(minion_id=name, clock=clock))

    engines = {"wrong": minion("w", wrong), "right": minion("r", right)}
    for engine in engines.values():
        engine.extend([])
    (lease,) = engines[giver].lease(1, 0)
    engines[giver].nack([lease], delay_s=8.0)
    (other,) = engines.pop("wrong" if giver == "right" else "right").lease(1, 0)
    # One that comes later knows the time too: it reads the head first.
    newcomer = minion("late", wrong if giver == "right" else right)
    began = right.monotonic()
    assert newcomer.stats().delayed == 1
    assert [entry.due_in_s for entry in queue.scan(State.DELAYED)] == [pytest.approx(8, abs=1)]
    found: list[Lease] = []
    while not found:
        found = list(newcomer.lease(1, 0))
        right.advance(0.25)
    assert found[0].id == lease.id
    assert other.id != lease.id
    assert 7 <= right.monotonic() - began <= 10
    queue.close()


def test_a_clock_that_jumped_far_ahead_for_once_holds_nothing_up(tmp_path: Path) -> None:
    right = ManualClock()
    folder = str(tmp_path / "queue")
    queue = open_queue(folder, EngineOptions(minion_id="filler", clock=right))
    queue.put(range(1))
    broken = open_engine(folder, EngineOptions(minion_id="b", clock=Wrong(right, 3e9)))
    (lease,) = broken.lease(1, 0)
    broken.nack([lease], delay_s=4.0)
    broken.close()
    right.advance(1.0)
    engine = open_engine(folder, EngineOptions(minion_id="e", clock=right))
    engine.stats()
    right.advance(4.5)
    assert len(engine.lease(1, 0)) == 1
    engine.close()
    queue.close()

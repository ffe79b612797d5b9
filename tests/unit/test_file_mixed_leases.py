"""Minions whose leases are not equally long watch over each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from minionize.contracts.engine import EngineOptions
from minionize.engines.file import open_engine, open_queue
from minionize.engines.file.minion import FileEngine
from minionize.testing.backend import ManualClock

SHORT_S = 2.0


class Bench:
    """One queue of one param, on a clock that only the test moves."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self.clock = ManualClock()
        queue = open_queue(self.folder, EngineOptions(minion_id="filler", clock=self.clock))
        queue.put([1])
        queue.close()

    def minion(self, name: str, lease_s: float) -> FileEngine:
        options = EngineOptions(minion_id=name, lease_s=lease_s, clock=self.clock)
        return open_engine(self.folder, options)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "queue")


@pytest.mark.parametrize("lease_s", [0.5, 2.0, 5.0, 60.0])
def test_who_hangs_is_taken_over_by_one_whose_lease_is_another(
    bench: Bench, lease_s: float
) -> None:
    hung = bench.minion("hung", SHORT_S)
    assert len(hung.lease(1, 0)) == 1
    other = bench.minion("other", lease_s)
    begin = bench.clock.monotonic()
    while not (found := other.lease(1, 0)):
        assert bench.clock.monotonic() - begin < 2 * max(SHORT_S, lease_s)
        bench.clock.advance(lease_s / 4)
        other.extend([])
    assert found[0].suspect
    assert bench.clock.monotonic() - begin >= SHORT_S
    other.ack(found)
    other.close()
    assert hung.stats().drained
    hung.close()


@pytest.mark.parametrize("lease_s", [0.5, 2.0, 5.0, 60.0])
def test_nobody_who_stood_still_together_with_its_observer_is_taken_over(
    bench: Bench, lease_s: float
) -> None:
    """As when their host does. The observer is the first to go on."""
    innocent = bench.minion("innocent", SHORT_S)
    held = innocent.lease(1, 0)
    other = bench.minion("other", lease_s)
    for still_s in (0.1, 1.0, 1.9, 2.5, 7.0, 14.0, 29.0, 31.0, 59.0, 61.0, 200.0):
        for _ in range(int(max(lease_s, SHORT_S) / SHORT_S * 4)):
            bench.clock.advance(SHORT_S / 4)
            assert innocent.extend(held) == []
            other.extend([])
        bench.clock.advance(still_s)
        other.extend([])
        assert other.lease(1, 0) == []
        assert innocent.extend(held) == [], still_s
    innocent.ack(held)
    innocent.close()
    other.close()

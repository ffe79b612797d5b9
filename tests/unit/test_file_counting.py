"""Counts of a queue in a folder whose batches were not all read yet."""

from __future__ import annotations

from pathlib import Path

from minionize.contracts.engine import EngineOptions
from minionize.engines.file import open_engine, open_queue
from minionize.engines.file.claiming import Fronts
from minionize.engines.file.counting import stats_of
from minionize.engines.file.texts import Texts
from minionize.testing.backend import ManualClock


def test_what_nothing_is_known_of_yet_counts_as_delayed(tmp_path: Path) -> None:
    options = EngineOptions(minion_id="one", clock=ManualClock(), pid=2**30)
    queue = open_queue(str(tmp_path), options)
    queue.put(range(5))
    minion = open_engine(str(tmp_path), options)
    minion.nack(minion.lease(3, 0.0), delay_s=30.0)
    with queue.room.head as head:
        stats = stats_of(head, Fronts(queue.room, Texts(queue.room)))
    assert (stats.delayed, stats.waiting) == (3, 2)
    minion.close()
    queue.close()

"""Idle minions of a queue in a folder see each other, and none that may be dead."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from minionize.contracts.engine import EngineOptions, TellsIdle
from minionize.engines.file import open_engine, open_queue
from minionize.engines.file.minion import FileEngine
from minionize.testing.backend import ManualClock

LEASE_S = 60.0


class Bench:
    """A queue with params, and minions with names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock()
        queue = open_queue(str(folder), self.options("feeder"))
        queue.put(range(4))
        queue.close()
        self.engines: dict[str, FileEngine] = {}

    def options(self, name: str) -> EngineOptions:
        # A number that no process has: whether one is alive is told by its lock alone.
        return EngineOptions(minion_id=name, clock=self.clock, lease_s=LEASE_S, pid=2**30)

    def join(self, *names: str) -> None:
        for name in names:
            self.engines[name] = open_engine(str(self.folder), self.options(name))

    def beat(self, *names: str) -> None:
        """A quarter of the lease goes by, and these are well."""
        self.clock.advance(LEASE_S / 4)
        for name in names:
            self.engines[name].extend(())

    def before(self, name: str, enough: int = 10) -> int | None:
        return self.engines[name].idle_before(enough)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "q")
    yield bench
    for engine in bench.engines.values():
        engine.close()


def test_the_order_is_that_of_the_ids(bench: Bench) -> None:
    bench.join("c", "a", "d", "b")
    assert isinstance(bench.engines["a"], TellsIdle)
    names = sorted(bench.engines)
    # That they have joined is no proof that they are alive still.
    assert [bench.before(name) for name in names] == [0, 0, 0, 0]
    bench.beat(*names)
    assert [bench.before(name) for name in names] == [0, 1, 2, 3]
    assert bench.before("d", enough=2) == 2


def test_who_holds_a_param_is_not_idle(bench: Bench) -> None:
    bench.join("a", "b", "c")
    (lease, *_) = bench.engines["a"].lease(1, 1.0)
    for _ in range(2):
        bench.before("c")
        bench.beat("a", "b", "c")
    assert bench.before("c") == 1
    bench.engines["a"].ack([lease])
    bench.beat("a", "b", "c")
    bench.before("c")
    bench.beat("a", "b", "c")
    assert bench.before("c") == 2


def test_who_stands_still_does_not_count_long_before_it_is_taken_for_dead(bench: Bench) -> None:
    bench.join("a", "b")
    bench.before("b")
    bench.beat("a", "b")
    assert bench.before("b") == 1
    bench.beat("b")
    assert bench.before("b") == 1
    bench.beat("b")
    assert bench.before("b") == 0
    bench.beat("a", "b")
    assert bench.before("b") == 1


def test_who_leaves_or_dies_here_does_not_count(bench: Bench) -> None:
    bench.join("a", "b", "c")
    bench.before("c")
    bench.beat("a", "b", "c")
    assert bench.before("c") == 2
    bench.engines.pop("a").close()
    assert bench.before("c") == 1
    bench.engines.pop("b")._member.close_in_child()  # as if killed: its lock is gone
    assert bench.before("c") == 0


def test_a_feeder_is_no_minion(bench: Bench) -> None:
    queue = open_queue(str(bench.folder), bench.options("a"))
    with queue.feeding():
        bench.join("b")
        for _ in range(2):
            queue.put_texts(())
            bench.before("b")
            bench.beat("b")
        assert bench.before("b") == 0
    queue.close()

"""Lists of the params of a queue in a folder, while minions go on: what was listed from is gone,
and its file is removed, before its turn comes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from minionize.contracts.engine import EngineOptions
from minionize.engines.file import open_engine, open_queue
from minionize.engines.file.minion import FileEngine
from minionize.engines.file.scanning import Scanner
from minionize.errors import QueueDamaged
from minionize.testing.backend import ManualClock
from minionize.values import Entry, Lease, State

LEASE_S = 60.0


class Bench:
    """A queue and its minions, on a clock that only the test moves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock()
        self.people = open_queue(str(folder), self.options("person"))
        self.people.put([])
        self.minions = [
            open_engine(str(folder), self.options(name)) for name in ("first", "second", "third")
        ]

    def options(self, name: str) -> EngineOptions:
        return EngineOptions(minion_id=name, clock=self.clock, lease_s=LEASE_S, pid=2**30)

    def snapshot(self) -> Scanner:
        return Scanner(self.people.room, self.people._texts)

    def given_back(self, count: int) -> None:
        """So many are put, and each comes back in a batch of its own."""
        self.people.put(range(count))
        for lease in self.minions[0].lease(count, 0.0):
            self.minions[0].nack([lease])

    def tidied(self) -> None:
        """So much time passes that the minions remove what nothing names any more."""
        for _ in range(12):
            self.clock.advance(LEASE_S / 4)
            for minion in self.minions:
                minion.extend([])

    def returned(self) -> int:
        return len(list((self.folder / "returned").rglob("*.jsonl")))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "queue")
    yield bench
    for minion in bench.minions:
        minion.close()
    bench.people.close()


def lease(minion: FileEngine, count: int) -> list[Lease]:
    found: list[Lease] = []
    while len(found) < count:
        some = minion.lease(count - len(found), 0.0)
        assert some
        found += some
    return found


def ids(entries: Iterator[Entry]) -> list[str]:
    return [entry.id for entry in entries]


def test_running_ones_are_listed_though_the_first_of_them_ended(bench: Bench) -> None:
    _, second, third = bench.minions
    bench.given_back(1)
    ended = lease(second, 1)
    bench.people.put(range(4))
    lease(second, 2)
    lease(third, 2)
    listed = bench.people.scan(State.RUNNING)
    second.ack(ended)
    bench.tidied()
    assert bench.returned() == 0
    assert ids(listed) == ["2", "3", "4", "5"]


def test_waiting_ones_are_listed_though_the_first_of_them_were_taken(bench: Bench) -> None:
    bench.given_back(4)
    listed = bench.people.scan(State.WAITING)
    bench.minions[1].ack(lease(bench.minions[1], 2))
    bench.tidied()
    assert bench.returned() == 2
    assert ids(listed) == ["3", "4"]


def test_where_a_batch_was_taken_in_part_the_next_one_is_listed_whole(bench: Bench) -> None:
    bench.people.put(range(4))
    first, second, _ = bench.minions
    held = lease(first, 4)
    first.nack(held[:2])
    first.nack(held[2:])
    lease(second, 1)
    listed = bench.people.scan(State.WAITING)
    second.ack(lease(second, 1))
    second.close()
    bench.minions.remove(second)
    bench.tidied()
    assert ids(listed) == ["3", "4"]


@pytest.mark.parametrize("ends", [True, False])
def test_what_went_on_since_the_snapshot_is_looked_at_again(bench: Bench, ends: bool) -> None:
    """Nothing that runs or waits is told to be done: it would go back to work beside its run."""
    _, second, third = bench.minions
    bench.given_back(2)
    held = lease(second, 1)
    done, looked_up = bench.snapshot(), bench.snapshot()
    if ends:
        second.ack(held)
    else:
        second.nack(held)
    lease(third, 1)
    bench.tidied()
    assert bench.returned() == (1 if ends else 2)
    expected = {"1": State.DONE if ends else State.WAITING, "2": State.WAITING}
    found = looked_up.look_up(["1", "2"])
    assert {id_: entry.state for id_, entry in found.items()} == expected
    assert ids(done.scan(State.DONE)) == (["1"] if ends else [])


def test_what_waited_and_was_given_back_again_since_the_snapshot_is_not_done(bench: Bench) -> None:
    bench.given_back(1)
    done, looked_up = bench.snapshot(), bench.snapshot()
    bench.minions[1].nack(lease(bench.minions[1], 1))
    bench.tidied()
    assert bench.returned() == 1
    assert looked_up.look_up(["1"])["1"].state is State.WAITING
    assert ids(done.scan(State.DONE)) == []


@pytest.mark.parametrize("state", [State.RUNNING, State.WAITING])
def test_a_file_that_is_lost_is_named(bench: Bench, state: State) -> None:
    bench.given_back(1)
    if state is State.RUNNING:
        lease(bench.minions[1], 1)
    (lost,) = (bench.folder / "returned").rglob("*.jsonl")
    lost.unlink()
    with pytest.raises(QueueDamaged, match=r"returned/0/00000001\.jsonl is missing"):
        list(bench.people.scan(state))

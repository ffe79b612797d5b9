"""What was done long ago is forgotten; what waits, runs, died or came back is not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minionize.contracts.engine import EngineOptions, ForgetsDone, TellsForgotten
from minionize.engines.file.calls import Calls
from minionize.engines.file.minion import FileEngine
from minionize.engines.file.people import FileQueue
from minionize.engines.file.room import Room
from minionize.errors import EngineUnavailable
from minionize.testing.backend import ManualClock
from minionize.values import Failure, Lease, State

EVER = 1e18
EXIT_3 = Failure("exit 3")


class Bench:
    """One queue, whose segments hold three params each, and those who use it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock()
        self._count = 0
        self.queue = FileQueue(self._room())
        self.put = 0

    def _room(self) -> Room:
        self._count += 1
        name = f"m{self._count}"
        options = EngineOptions(minion_id=name, host="h", pid=1, clock=self.clock)
        return Room(str(self.folder), options, Calls(self.clock))

    def engine(self) -> FileEngine:
        return FileEngine(self._room())

    def feed(self, segments: int) -> None:
        with self.queue.feeding():
            for _ in range(segments):
                self.queue.put(range(self.put + 1, self.put + 4))
                self.put += 3

    def done(self, count: int) -> None:
        engine = self.engine()
        leases: list[Lease] = []
        while len(leases) < count:
            leases += engine.lease(count - len(leases), 0)
        engine.ack(leases)
        engine.close()

    def files(self) -> list[int]:
        return sorted(int(path.stem) for path in (self.folder / "params").glob("*.jsonl"))

    def ids(self, state: State) -> list[int]:
        found = [int(entry.id) for entry in self.queue.scan(state)]
        for entry in self.queue.scan(state):
            assert entry.text == entry.id
        return sorted(found)

    def forget(self, below: int | None = None) -> int:
        return self.queue.forget_done(self.queue.settled_below() if below is None else below, EVER)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "q")
    bench.feed(5)
    yield bench
    bench.queue.close()


def test_whole_segments_go_and_stay_counted(bench: Bench) -> None:
    assert isinstance(bench.queue, ForgetsDone)
    bench.done(8)
    assert bench.forget() == 6
    assert bench.files() == [3, 4, 5]
    stats = bench.queue.stats()
    assert (stats.put, stats.done, stats.waiting, stats.purged) == (15, 8, 7, 0)
    assert bench.ids(State.DONE) == [7, 8]
    assert bench.ids(State.WAITING) == [*range(9, 16)]
    assert bench.queue.forgotten_below() == 7
    assert bench.queue.look_up(["1", "6", "7", "15"]).keys() == {"7", "15"}
    assert [number for number, _ in bench.queue.history(0)] == [*range(7, 16)]
    assert [number for number, _ in bench.queue.history(9)] == [*range(10, 16)]
    assert bench.forget() == 0
    bench.done(7)
    assert bench.forget() == 9
    assert bench.files() == []


def test_all_can_go_and_the_queue_goes_on(bench: Bench) -> None:
    engine = bench.engine()
    engine.ack(engine.lease(15, 0))
    assert engine.stats().drained
    assert bench.forget() == 15
    assert not list(bench.queue.history(0))
    assert bench.ids(State.DONE) == []
    bench.feed(2)
    assert bench.files() == [6, 7]
    assert [lease.text for lease in engine.lease(6, 0)] == ["16", "17", "18", "19", "20", "21"]
    engine.close()
    assert bench.ids(State.WAITING) == [*range(16, 22)]


def test_by_the_time_when_it_was_put(bench: Bench) -> None:
    bench.done(15)
    for number in (1, 2, 3):
        os.utime(bench.folder / f"params/{number:08d}.jsonl", (1000.0, 1000.0 + number))
    assert bench.queue.forget_done(99, 1000.0) == 0
    assert bench.queue.forget_done(99, 1003.0) == 6
    assert bench.queue.forget_done(7, 2000.0) == 0
    assert bench.queue.forget_done(10, 2000.0) == 3
    assert bench.files() == [4, 5]


def test_what_runs_is_waited_for(bench: Bench) -> None:
    engine, other = bench.engine(), bench.engine()
    first = engine.lease(4, 0)
    other.ack(other.lease(11, 0))
    other.close()
    assert bench.queue.settled_below() == 1
    assert bench.forget(99) == 0
    engine.ack(first[:1])
    engine.extend(first[1:])
    assert bench.queue.settled_below() == 2
    engine.ack(first[1:3])
    engine.extend(first[3:])
    assert bench.queue.settled_below() == 4
    # Its claim still names the segment where the minion began to look for it.
    assert bench.forget(99) == 0
    engine.ack(first[3:])
    engine.extend([])
    assert bench.forget(99) == 15
    engine.close()


def test_what_runs_out_of_a_batch_is_waited_for(bench: Bench) -> None:
    engine = bench.engine()
    leases = engine.lease(15, 0)
    engine.nack(leases[1:2])
    engine.ack([leases[0], *leases[2:]])
    (again,) = engine.lease(1, 0)
    assert again.id == "2"
    assert bench.queue.settled_below() == 2
    assert bench.forget(99) == 0
    engine.nack([again])
    assert bench.forget(99) == 14
    assert bench.files() == []
    # It has its text, and the minion knows that nothing else has.
    (again,) = engine.lease(1, 0)
    assert again.text == "2"
    assert isinstance(engine, TellsForgotten)
    assert engine.forgotten_below == 16
    engine.ack([again])
    engine.close()
    stats = bench.queue.stats()
    assert (stats.done, stats.drained) == (15, True)


def test_dead_letters_lose_nothing(bench: Bench) -> None:
    engine = bench.engine()
    leases = engine.lease(15, 0)
    engine.bury(leases[3:5], EXIT_3)
    engine.ack([*leases[:3], *leases[5:]])
    engine.close()
    assert bench.forget() == 13
    assert bench.ids(State.DEAD) == [4, 5]
    assert bench.queue.requeue(["4"]) == 1
    assert bench.ids(State.WAITING) == [4]
    assert bench.queue.requeue(None, State.DONE) == 0
    stats = bench.queue.stats()
    assert (stats.put, stats.done, stats.dead, stats.waiting) == (15, 13, 1, 1)


def test_done_ones_that_are_kept_run_again(bench: Bench) -> None:
    bench.done(15)
    bench.forget(8)
    assert bench.queue.requeue(["3", "7"], State.DONE) == 1
    assert bench.queue.requeue(None, State.DONE) == 8
    stats = bench.queue.stats()
    assert (stats.done, stats.waiting) == (6, 9)
    assert bench.ids(State.WAITING) == [*range(7, 16)]


def test_what_is_taken_meanwhile_stops_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look and the write a minion takes one of a low id out of a batch."""
    engine = bench.engine()
    leases = engine.lease(15, 0)
    engine.nack(leases[1:2])
    engine.ack([leases[0], *leases[2:]])
    engine.extend([])
    took: list[Lease] = []
    real = Calls.changed_at

    def meanwhile(calls: Calls, path: str) -> float:
        took.extend(engine.lease(1, 0))
        return real(calls, path)

    monkeypatch.setattr(Calls, "changed_at", meanwhile)
    assert bench.forget(99) == 0
    assert [lease.id for lease in took] == ["2"]
    assert bench.files() == [1, 2, 3, 4, 5]
    engine.close()


def test_a_reader_of_what_goes_meanwhile_is_told(bench: Bench) -> None:
    bench.done(15)
    entries = bench.queue.scan(State.DONE)
    assert next(entries).id == "1"
    other = FileQueue(bench._room())
    other.forget_done(99, EVER)
    for path in list(bench.queue.room.batches._indexes):
        bench.queue.room.batches.forget(path)
    with pytest.raises(EngineUnavailable, match="dropped meanwhile: try again"):
        list(entries)
    other.close()


def test_a_mark_that_another_version_dropped_is_found_again(bench: Bench) -> None:
    """An older minionize writes the head without what it does not know."""
    bench.done(15)
    bench.forget(8)
    with bench.queue.room.head as head:
        head.kept_segment = head.kept_id = 1
        bench.queue.room.head.write()
    assert bench.queue.forget_done(1, 0.0) == 0
    assert bench.queue.forgotten_below() == 7
    assert bench.ids(State.DONE) == [*range(7, 16)]


OPS = ["feed", "lease", "ack", "nack", "bury", "requeue", "again", "purge", "forget", "dies"]


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(OPS), st.integers(0, 5)), max_size=30))
def test_in_any_order_nothing_that_is_not_done_is_lost(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    bench = Bench(tmp_path_factory.mktemp("any") / "q")
    bench.feed(2)
    engine = bench.engine()
    held: list[Lease] = []
    where: dict[int, str] = dict.fromkeys(range(1, 7), "waiting")

    def some(count: int) -> list[Lease]:
        taken = held[: count + 1]
        del held[: count + 1]
        return taken

    def mark(leases: list[Lease], state: str) -> None:
        where.update((int(lease.id), state) for lease in leases)

    for name, count in steps:
        if name == "feed":
            bench.feed(1)
            where.update(dict.fromkeys(range(bench.put - 2, bench.put + 1), "waiting"))
        elif name == "lease":
            found = list(engine.lease(count + 1, 0))
            held += found
            mark(found, "running")
        elif name in ("ack", "nack", "bury"):
            taken = some(count)
            if name == "ack":
                engine.ack(taken)
            elif name == "nack":
                engine.nack(taken)
            else:
                engine.bury(taken, EXIT_3)
            mark(taken, {"ack": "done", "nack": "waiting", "bury": "dead"}[name])
            engine.extend(held)
        elif name == "requeue":
            bench.queue.requeue()
            where.update((id_, "waiting") for id_, state in where.items() if state == "dead")
        elif name == "again":
            below = bench.queue.forgotten_below()
            done = [id_ for id_, state in where.items() if state == "done"]
            kept = [id_ for id_ in done if id_ >= below]
            gone = bench.queue.requeue([str(id_) for id_ in done], State.DONE)
            assert gone == len(kept)
            where.update(dict.fromkeys(kept, "waiting"))
        elif name == "purge":
            bench.queue.purge(State.DEAD)
            where.update((id_, "purged") for id_, state in where.items() if state == "dead")
        elif name == "forget":
            below = bench.queue.forgotten_below()
            count = bench.forget()
            after = bench.queue.forgotten_below()
            assert count == len(
                [id_ for id_, state in where.items() if state == "done" and below <= id_ < after]
            )
        else:
            mark(held, "waiting")
            held.clear()
            engine.room.close()
            for fd in (engine._member._beat_fd,) if hasattr(engine._member, "_beat_fd") else ():
                os.close(fd)
            engine = bench.engine()
            for _ in range(6):
                bench.clock.advance(15.01)
                engine.extend([])
        below = bench.queue.forgotten_below()
        kinds = {"waiting": State.WAITING, "running": State.RUNNING, "dead": State.DEAD}
        for kind, state in kinds.items():
            assert bench.ids(state) == sorted(i for i, s in where.items() if s == kind), name
        done = sorted(id_ for id_, state in where.items() if state == "done")
        assert bench.ids(State.DONE) == [id_ for id_ in done if id_ >= below]
        assert bench.queue.stats().done == len(done)
    engine.close()
    bench.queue.close()

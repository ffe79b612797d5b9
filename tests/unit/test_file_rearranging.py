"""Moving what no minion holds in a queue in a folder: back to work, or away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from minionize.contracts.engine import EngineOptions
from minionize.engines.file import open_engine, open_queue
from minionize.engines.file.batches import MAX_LINES
from minionize.engines.file.minion import FileEngine
from minionize.engines.file.people import FileQueue
from minionize.engines.file.scanning import Scanner
from minionize.errors import EngineUnavailable
from minionize.testing.backend import ManualClock
from minionize.testing.steering import total
from minionize.values import Failure, Lease, State, Stats

LEASE_S = 60.0
EXIT_3 = Failure("exit 3", "oops")


class Bench:
    """A queue, its minions, and a clock that only the test moves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock()
        self.count = 0
        self.opened: list[FileEngine | FileQueue] = []
        self.people = self.queue()

    def options(self) -> EngineOptions:
        self.count += 1
        # A number that no process has: whether one is alive is told by its lock alone.
        return EngineOptions(
            minion_id=f"m{self.count}", clock=self.clock, pid=2**30, lease_s=LEASE_S
        )

    def queue(self) -> FileQueue:
        queue = open_queue(str(self.folder), self.options())
        self.opened.append(queue)
        return queue

    def minion(self) -> FileEngine:
        engine = open_engine(str(self.folder), self.options())
        self.opened.append(engine)
        return engine

    def get(self, engine: FileEngine, count: int) -> list[Lease]:
        found: list[Lease] = []
        while len(found) < count:
            some = engine.lease(count - len(found), 0.3)
            assert some, f"only {len(found)} of {count}: {engine.stats()}"
            found += some
        return found

    def die(self, engine: FileEngine) -> None:
        self.opened.remove(engine)
        engine._member.close_in_child()

    def stats(self) -> Stats:
        """The counts, whose sum must be right at any time."""
        stats = self.people.stats()
        assert total(stats) == stats.put
        return stats

    def ids(self, state: State) -> list[int]:
        return [int(entry.id) for entry in self.people.scan(state)]

    def files(self, source: str) -> list[str]:
        return sorted(path.name for path in (self.folder / source).rglob("*.jsonl"))

    def close(self) -> None:
        for one in self.opened:
            one.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "queue")
    yield bench
    bench.close()


# ---- what waits
@pytest.mark.parametrize("taken", [0, 1, 7, 30])
def test_what_was_never_leased_is_purged_and_counted(bench: Bench, taken: int) -> None:
    bench.people.put(range(10))
    bench.people.put(range(20))
    engine = bench.minion()
    bench.get(engine, taken)
    assert bench.people.purge(State.WAITING) == 30 - taken
    stats = bench.stats()
    assert (stats.waiting, stats.running, stats.purged, stats.put) == (0, taken, 30 - taken, 30)
    assert bench.people.purge(State.WAITING) == 0
    assert bench.people.purge() == 0
    assert not engine.lease(5, 0.0)
    bench.people.put(["after"])
    assert [lease.param for lease in bench.get(engine, 1)] == ["after"]


@pytest.mark.parametrize("state", [State.WAITING, State.DELAYED, None])
def test_a_param_whose_delay_is_over_waits(bench: Bench, state: State | None) -> None:
    bench.people.put(range(3))
    engine = bench.minion()
    soon, late, unasked = bench.get(engine, 3)
    engine.nack([soon], delay_s=2.0)
    engine.nack([late], delay_s=500.0)
    engine.nack([unasked], charge=False)
    bench.clock.advance(3.0)
    stats = bench.stats()
    assert (stats.waiting, stats.delayed) == (2, 1)
    left = {State.WAITING: [late], State.DELAYED: [soon, unasked], None: []}[state]
    assert bench.people.purge(state) == 3 - len(left)
    assert bench.people.purge(state) == 0
    after = bench.stats()
    assert after.purged == 3 - len(left)
    assert (after.waiting, after.delayed) == {
        State.WAITING: (0, 1),
        State.DELAYED: (2, 0),
        None: (0, 0),
    }[state]
    bench.clock.advance(600.0)
    assert sorted(lease.id for lease in engine.lease(9, 0.3)) == sorted(x.id for x in left)


def test_each_purge_of_the_delayed_leaves_what_is_due_as_it_was(bench: Bench) -> None:
    """It stands before those that are meant, so it is moved; nobody sees that."""
    bench.people.put(range(2))
    doomed, engine = bench.minion(), bench.minion()
    doomed.started(bench.get(doomed, 2)[:1])
    bench.die(doomed)
    for _ in range(5):
        bench.clock.advance(LEASE_S / 4 + 0.1)
        engine.extend([])
    crashed, suspect = sorted(bench.get(engine, 2), key=lambda lease: -lease.crashes)
    assert (crashed.crashes, crashed.suspect, suspect.crashes, suspect.suspect) == (1, 1, 0, 1)
    bench.people.put(range(2))
    plain, late = bench.get(engine, 2)
    engine.nack([crashed], delay_s=2.0)
    engine.nack([plain], delay_s=2.0)
    engine.nack([late], delay_s=2.0)
    engine.nack([suspect], charge=False)
    bench.clock.advance(3.0)
    engine.nack([plain], delay_s=2.0)  # settled already: says nothing
    assert bench.people.purge(State.DELAYED) == 0
    back: dict[str, Lease] = {}
    while found := engine.lease(9, 0.3):
        back.update({lease.id: lease for lease in found})
    assert {(x.id, x.crashes, x.attempt) for x in back.values()} == {
        (crashed.id, 1, 2),
        (suspect.id, 0, 1),
        (plain.id, 0, 2),
        (late.id, 0, 2),
    }


def test_a_purge_of_more_batches_than_go_into_a_slot(bench: Bench) -> None:
    bench.people.put(range(130))
    engine = bench.minion()
    leases = bench.get(engine, 120)
    for number, lease in enumerate(leases):
        engine.nack([lease], charge=False, delay_s=0.0 if number % 2 else 300.0)
        bench.clock.advance(0.001)
    assert len(bench.files("returned")) > 80
    assert (bench.stats().waiting, bench.stats().delayed) == (70, 60)
    assert bench.people.purge(State.DELAYED) == 60
    assert (bench.stats().waiting, bench.stats().delayed) == (70, 0)
    assert bench.people.purge() == 70
    assert bench.stats().purged == 130


def test_a_purge_begins_in_the_middle_of_a_batch(bench: Bench) -> None:
    bench.people.put(range(10))
    engine = bench.minion()
    engine.nack(bench.get(engine, 10), charge=False)
    held = bench.get(engine, 4)
    assert bench.people.purge(State.WAITING) == 6
    stats = bench.stats()
    assert (stats.running, stats.purged, stats.waiting) == (4, 6, 0)
    engine.ack(held)
    assert engine.stats().done == 4
    assert engine.stats().drained


# ---- dead letters
def dead(bench: Bench, count: int) -> FileEngine:
    """A minion that buried so many, one a visit."""
    bench.people.put({"n": number} for number in range(count))
    engine = bench.minion()
    for lease in bench.get(engine, count):
        engine.bury([lease], EXIT_3)
    return engine


def test_chosen_dead_letters_go_back_and_the_others_stay(bench: Bench) -> None:
    engine = dead(bench, 5)
    assert bench.people.requeue(["2", "5", "5", "17", "x"]) == 2
    stats = bench.stats()
    assert (stats.dead, stats.waiting) == (3, 2)
    assert bench.ids(State.DEAD) == [1, 3, 4]
    assert {entry.failure for entry in bench.people.scan(State.DEAD)} == {EXIT_3}
    back = bench.get(engine, 2)
    assert [(lease.id, lease.param, lease.attempt) for lease in back] == [
        ("2", {"n": 1}, 1),
        ("5", {"n": 4}, 1),
    ]
    engine.bury(back[:1], EXIT_3)
    assert bench.people.requeue([]) == 0
    assert bench.people.requeue() == 4
    assert bench.ids(State.DEAD) == []
    assert bench.stats().waiting == 4


def test_purged_dead_letters_are_gone_with_their_files(bench: Bench) -> None:
    engine = dead(bench, 5)
    assert bench.people.requeue(["3"]) == 1
    assert bench.people.purge(State.DEAD) == 4
    assert bench.people.purge(State.DEAD) == 0
    stats = bench.stats()
    assert (stats.dead, stats.purged, stats.waiting, stats.done) == (0, 4, 1, 0)
    assert bench.files("dead") == []
    engine.ack(bench.get(engine, 1))
    assert engine.stats().done == 1
    assert bench.ids(State.DONE) == [3]


@pytest.mark.parametrize("what", ["requeue", "purge"])
def test_a_letter_that_is_buried_meanwhile_is_not_forgotten(
    bench: Bench, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = dead(bench, 3)
    bench.people.put(["late"])
    late = bench.get(engine, 1)
    lines = Scanner.dead_lines

    def buries(scanner: Scanner) -> Iterator[str]:
        yield from lines(scanner)
        if late:
            engine.bury([late.pop()], EXIT_3)

    monkeypatch.setattr(Scanner, "dead_lines", buries)
    found = bench.people.requeue() if what == "requeue" else bench.people.purge(State.DEAD)
    assert found == 3
    stats = bench.stats()
    assert (stats.dead, stats.waiting, stats.purged) == (
        (1, 3, 0) if what == "requeue" else (1, 0, 3)
    )
    assert bench.ids(State.DEAD) == [4]


@pytest.mark.parametrize("mine", ["requeue", "purge"])
@pytest.mark.parametrize("other", ["requeue", "purge"])
def test_two_people_move_dead_letters_and_each_moves_only_what_is_left(
    bench: Bench, mine: str, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead(bench, 3)
    somebody = bench.queue()
    lines = Scanner.dead_lines
    came: list[int] = []

    def moves(scanner: Scanner) -> Iterator[str]:
        yield from list(lines(scanner))
        if not came:
            came.append(0)
            if other == "requeue":
                came[0] = somebody.requeue(["1", "3"])
            else:
                came[0] = somebody.purge(State.DEAD)

    monkeypatch.setattr(Scanner, "dead_lines", moves)
    found = bench.people.requeue() if mine == "requeue" else bench.people.purge(State.DEAD)
    assert (came[0], found) == ((2, 1) if other == "requeue" else (3, 0))
    stats = bench.stats()
    assert stats.dead == 0
    assert stats.purged == (3 if other == "purge" else 0) + (found if mine == "purge" else 0)


# ---- done ones
def test_done_ones_go_back_all_or_chosen(bench: Bench) -> None:
    bench.people.put({"n": number} for number in range(5))
    engine = bench.minion()
    held = bench.get(engine, 5)
    engine.ack(held[:3])
    engine.bury(held[3:4], EXIT_3)
    engine.stats()
    assert bench.people.requeue(["2", "4", "5", "99"], State.DONE) == 1
    assert bench.people.requeue([], State.DONE) == 0
    assert [lease.param for lease in bench.get(engine, 1)] == [{"n": 1}]
    assert bench.people.requeue(None, State.DONE) == 2
    assert bench.people.requeue(None, State.DONE) == 0
    stats = bench.stats()
    assert (stats.done, stats.waiting, stats.running, stats.dead) == (0, 2, 2, 1)
    assert sorted(lease.id for lease in bench.get(engine, 2)) == ["1", "3"]


def test_done_ones_that_somebody_moved_meanwhile_are_moved_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.people.put(range(3))
    engine = bench.minion()
    engine.ack(bench.get(engine, 3))
    engine.stats()
    somebody = bench.queue()
    look_up = Scanner.look_up
    came: list[int] = []

    def moves(scanner: Scanner, ids: set[str]) -> object:
        found = look_up(scanner, ids)
        if not came:
            came.append(0)
            came[0] = somebody.requeue(["1"], State.DONE)
        return found

    monkeypatch.setattr(Scanner, "look_up", moves)
    assert bench.people.requeue(["1", "2"], State.DONE) == 1
    assert came == [1]
    stats = bench.stats()
    assert (stats.done, stats.waiting) == (1, 2)


# ---- sizes, and who stands still
def test_many_lines_become_several_files(bench: Bench) -> None:
    count = MAX_LINES + 3
    bench.people.put(range(count))
    engine = bench.minion()
    engine.ack(bench.get(engine, count))
    engine.stats()
    assert bench.people.requeue(None, State.DONE) == count
    assert len(bench.files("returned")) == 2
    assert len({lease.id for lease in bench.get(engine, count)}) == count


def test_long_lines_become_several_files(bench: Bench) -> None:
    bench.people.put("x" * 400_000 for _ in range(5))
    engine = bench.minion()
    engine.ack(bench.get(engine, 5))
    engine.stats()
    assert bench.people.requeue(None, State.DONE) == 5
    assert len(bench.files("returned")) == 2
    assert len(bench.get(engine, 5)) == 5


@pytest.mark.parametrize("what", ["dead", "waiting", "done"])
def test_who_was_taken_for_dead_meanwhile_changes_nothing(
    bench: Bench, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.people.put(range(3))
    engine = bench.minion()
    held = bench.get(engine, 2)
    engine.ack(held[:1])
    engine.bury(held[1:], EXIT_3)
    before = engine.stats()._replace(feeders=0)
    mine = FileQueue._join

    def join(queue: FileQueue) -> object:
        member = mine(queue)
        for _ in range(6):
            bench.clock.advance(LEASE_S / 4 + 0.1)
            engine.extend([])
        return member

    monkeypatch.setattr(FileQueue, "_join", join)
    with pytest.raises(EngineUnavailable, match="stood still for too long"):
        if what == "done":
            bench.people.requeue(None, State.DONE)
        else:
            bench.people.purge(State(what))
    assert engine.stats()._replace(feeders=0) == before


def test_a_purge_that_is_cut_off_gives_back_what_it_had_claimed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from minionize.engines.file.rearranging import Rearranger

    bench.people.put(range(6))
    engine = bench.minion()
    engine.nack(bench.get(engine, 3), charge=False)

    def cut_off(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(Rearranger, "_drop", cut_off)
    with pytest.raises(KeyboardInterrupt):
        bench.people.purge(State.WAITING)
    monkeypatch.undo()
    for _ in range(6):
        bench.clock.advance(LEASE_S / 4 + 0.1)
        engine.extend([])
    stats = bench.stats()
    assert (stats.waiting, stats.running, stats.purged) == (6, 0, 0)
    got: set[str] = set()
    while found := engine.lease(9, 0.3):
        got |= {lease.id for lease in found}
    assert len(got) == 6


def test_what_is_written_of_purged_ones_are_ranges_of_ids(bench: Bench) -> None:
    """Other versions, and `minion cp`, read them."""
    bench.people.put(range(6))
    engine = bench.minion()
    held = bench.get(engine, 2)
    engine.bury(held[:1], EXIT_3)
    engine.nack(held[1:], charge=False)
    assert bench.people.purge() == 6
    ranges = [
        json.loads(line)
        for path in sorted((bench.folder / "purged").glob("*.jsonl"))
        for line in path.read_text().splitlines()
        if line.startswith("[")
    ]
    assert sorted(ranges) == [[1, 2], [2, 3], [3, 7]]

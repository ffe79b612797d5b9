"""What waits for a slot: spares, suspects, and leases whose former run is not dead yet."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, cast

import pytest

from minionize.values import Failure, Lease
from minionize.worker.book import Book
from minionize.worker.link import Link
from minionize.worker.pace import Pace
from minionize.worker.waiting import Waiting

BEAT_S = 1.0
MAX_CRASHES = 5


class Crew:
    """Says how much room there is, and notes what is started. Ends nothing by itself."""

    def __init__(self, slots: int, behind: int = 0) -> None:
        self.slots = slots
        self.behind = behind
        """So many more it takes behind runs that go on, as functions do."""
        self.started: list[list[str]] = []
        self.runs: dict[str, tuple[Lease, float]] = {}

    def room(self, seconds_each: float | None) -> int:
        idle = max(0, self.slots - len(self.runs))
        return idle if seconds_each is None else idle + self.behind

    def start(self, leases: Sequence[Lease]) -> None:
        assert 0 < len(leases) <= self.room(0.1)
        self.started.append([lease.id for lease in leases])
        self.runs.update({lease.id: (lease, 0.0) for lease in leases})

    def running(self) -> Sequence[tuple[Lease, float]]:
        return list(self.runs.values())

    def age(self, seconds: float) -> None:
        self.runs = {id_: (lease, s + seconds) for id_, (lease, s) in self.runs.items()}

    def end(self, *ids: str) -> None:
        for id_ in ids:
            del self.runs[id_]


class Told:
    """The queue, which can be away, and the books."""

    def __init__(self) -> None:
        self.marked: set[str] = set()
        self.is_up = True
        self.aborting: set[str] = set()
        self.buried: list[tuple[str, Failure]] = []

    def started(self, leases: Collection[Lease]) -> bool:
        if self.is_up:
            self.marked |= {lease.id for lease in leases}
        return self.is_up

    def bury_unrun(self, lease: Lease, failure: Failure) -> None:
        self.buried.append((lease.id, failure))


class Bench:
    def __init__(self, slots: int = 1, behind: int = 0) -> None:
        self.crew = Crew(slots, behind)
        self.told = Told()
        self.pace = Pace(slots)
        self.pace.seconds_each = 0.1
        self.waiting = Waiting(
            cast(Any, self.crew),
            cast(Link, self.told),
            cast(Book, self.told),
            self.pace,
            max_crashes=MAX_CRASHES,
            beat_s=BEAT_S,
        )

    def accept(self, *leases: Lease, now: float = 0.0) -> None:
        self.waiting.accept(leases, now)

    @property
    def started(self) -> list[list[str]]:
        return self.crew.started

    def left(self) -> tuple[list[str], list[str]]:
        waiting = self.waiting
        assert len(waiting) == len(waiting.spares) + len(waiting.suspects)
        return [x.id for _, x in waiting.spares], [x.id for _, x in waiting.suspects]


def plain(id_: str) -> Lease:
    return Lease(id_, "0")


def suspect(id_: str, crashes: int = 0) -> Lease:
    return Lease(id_, "0", crashes=crashes, suspect=True)


def test_plain_ones_start_as_far_as_there_is_room_in_their_order() -> None:
    bench = Bench(slots=2)
    bench.accept(*map(plain, "abcd"))
    assert bench.started == [["a", "b"]]
    assert bench.left() == (["c", "d"], [])
    bench.waiting.start(1.0)
    assert bench.started == [["a", "b"]]
    bench.crew.end("a")
    bench.waiting.start(1.0)
    assert bench.started == [["a", "b"], ["c"]]


def test_each_one_goes_where_it_belongs_though_one_of_them_is_buried() -> None:
    bench = Bench(slots=0)
    bench.accept(
        plain("first"),
        suspect("poison", crashes=MAX_CRASHES),
        suspect("innocent"),
        Lease("crashed once", "0", crashes=1),
        Lease("poison too", "0", crashes=MAX_CRASHES + 1),
        suspect("crashed", crashes=MAX_CRASHES - 1),
        plain("last"),
    )
    assert [id_ for id_, _ in bench.told.buried] == ["poison", "poison too"]
    assert bench.told.buried[0][1] == Failure(f"crashed its minion {MAX_CRASHES} times")
    assert bench.left() == (["first", "last", "crashed once"], ["innocent", "crashed"])


def test_one_that_crashed_is_not_accepted_twice() -> None:
    bench = Bench(slots=4)
    bench.accept(Lease("a", "0", crashes=1), plain("b"))
    assert sorted(id_ for ids in bench.started for id_ in ids) == ["a", "b"]
    assert bench.left() == ([], [])


def test_suspects_start_singly_and_marked_before_plain_ones() -> None:
    bench = Bench(slots=4)
    bench.accept(plain("p"), suspect("s"), suspect("t"))
    assert bench.started == [["s"], ["p"]]
    assert bench.told.marked == {"s"}
    assert bench.left() == ([], ["t"])


def test_a_suspect_that_fills_the_only_slot_leaves_no_room_for_others() -> None:
    bench = Bench(slots=1)
    bench.accept(plain("p"), suspect("s"))
    assert bench.started == [["s"]]
    assert bench.left() == (["p"], [])


def test_the_next_suspect_starts_a_beat_later() -> None:
    bench = Bench(slots=4)
    bench.accept(suspect("s"), suspect("t"))
    bench.crew.age(0.9 * BEAT_S)
    bench.waiting.start(1.0)
    assert bench.started == [["s"]]
    bench.crew.age(0.1 * BEAT_S)
    bench.waiting.start(1.0)
    assert bench.started == [["s"], ["t"]]


def test_a_suspect_that_crashed_often_runs_beside_no_other() -> None:
    bench = Bench(slots=4)
    bench.accept(suspect("s", crashes=3), suspect("t"))
    bench.crew.age(100 * BEAT_S)
    bench.waiting.start(1.0)
    assert bench.started == [["s"]]
    bench.crew.end("s")
    bench.told.marked.clear()
    bench.waiting.start(1.0)
    assert bench.started == [["s"], ["t"]]


def test_a_plain_run_of_any_age_does_not_keep_a_suspect_waiting() -> None:
    bench = Bench(slots=2)
    bench.accept(plain("p"))
    bench.accept(suspect("s"))
    assert bench.started == [["p"], ["s"]]


def test_the_next_suspect_waits_until_the_queue_knows_of_the_end_of_the_last() -> None:
    bench = Bench(slots=4)
    bench.accept(suspect("s"), suspect("t"))
    bench.crew.end("s")
    bench.waiting.start(1.0)
    assert bench.started == [["s"]]
    bench.told.marked.discard("s")
    bench.waiting.start(1.0)
    assert bench.started == [["s"], ["t"]]


def test_a_suspect_that_can_not_be_marked_stays_and_plain_ones_go_on() -> None:
    bench = Bench(slots=2)
    bench.told.is_up = False
    bench.accept(suspect("s"), plain("p"))
    assert bench.started == [["p"]]
    assert bench.left() == ([], ["s"])
    bench.told.is_up = True
    bench.waiting.start(1.0)
    assert bench.started == [["p"], ["s"]]


def test_a_suspect_waits_for_an_idle_slot_and_nothing_is_queued_before_it() -> None:
    bench = Bench(slots=1, behind=5)
    bench.accept(plain("p"))
    bench.accept(suspect("s"), plain("q"))
    assert bench.started == [["p"]]
    bench.crew.end("p")
    bench.waiting.start(1.0)
    assert bench.started == [["p"], ["s"], ["q"]]


def test_nothing_starts_before_the_end_of_a_marked_run_is_told() -> None:
    bench = Bench(slots=4)
    bench.waiting.unsynced = True
    bench.accept(plain("p"), suspect("s"))
    assert bench.started == []
    bench.waiting.unsynced = False
    bench.waiting.start(1.0)
    assert bench.started == [["s"], ["p"]]


@pytest.mark.parametrize("slots", [2, 3, 8])
def test_a_lease_waits_for_the_end_of_its_former_run_and_its_neighbours_start(slots: int) -> None:
    """It was lost, and came back to the minion that still kills its run."""
    bench = Bench(slots=slots)
    bench.told.aborting = {"b"}
    bench.accept(plain("a"), plain("b"))
    assert bench.started == [["a"]]
    assert bench.left() == (["b"], [])
    bench.waiting.start(1.0)
    assert bench.started == [["a"]]
    bench.told.aborting.clear()
    bench.waiting.start(2.0)
    assert bench.started == [["a"], ["b"]]
    assert bench.left() == ([], [])


def test_a_suspect_waits_for_the_end_of_its_former_run() -> None:
    bench = Bench(slots=2)
    bench.told.aborting = {"s"}
    bench.accept(suspect("s"), plain("p"))
    assert bench.started == [["p"]]
    bench.told.aborting.clear()
    bench.waiting.start(1.0)
    assert bench.started == [["p"], ["s"]]


def test_old_ones_are_taken_out_of_both_lines() -> None:
    bench = Bench(slots=0)
    bench.accept(plain("a"), suspect("s"), now=0.0)
    bench.accept(plain("b"), suspect("t"), now=2.0)
    assert bench.waiting.take_old(4.9, 5.0) == []
    assert [lease.id for lease in bench.waiting.take_old(5.0, 5.0)] == ["a", "s"]
    assert bench.left() == (["b"], ["t"])


def test_what_is_taken_out_is_not_started_any_more() -> None:
    bench = Bench(slots=0)
    bench.accept(plain("a"), plain("b"), suspect("s"))
    assert [lease.id for lease in bench.waiting.take_all()] == ["a", "b", "s"]
    assert bench.left() == ([], [])
    assert bench.waiting.take_all() == []
    bench.crew.slots = 4
    bench.waiting.start(1.0)
    assert bench.started == []


def test_only_what_waits_here_is_dropped() -> None:
    bench = Bench(slots=0)
    bench.accept(plain("a"), plain("b"), suspect("s"), suspect("t"))
    assert bench.waiting.drop({"elsewhere"}) == set()
    assert bench.left() == (["a", "b"], ["s", "t"])
    assert bench.waiting.drop({"b", "s", "elsewhere"}) == {"b", "s"}
    assert bench.left() == (["a"], ["t"])

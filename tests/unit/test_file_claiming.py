"""Which claims a minion takes out of the head of a queue in a folder, and in which order."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from minionize.engines.file.claiming import Front, Fronts, take
from minionize.engines.file.head import COUNT, FIRST, LAST, OFFSET, Head
from minionize.engines.file.room import Room
from minionize.engines.file.texts import Texts

NOW = 1000.0
WALL = 1.7e9


def front(length: int, due: float = 0.0, *, suspect: bool = False) -> Front:
    return Front(length, WALL + due, max(0.0, due), suspect, NOW)


class Bench:
    """A head, and the batches that one minion has read the headers of."""

    def __init__(self, put: int = 0) -> None:
        self.head = Head()
        self.head.put = put
        self.head.hint = 1
        calls = SimpleNamespace(monotonic=lambda: NOW)
        room = SimpleNamespace(calls=calls, head=SimpleNamespace(time=lambda: WALL))
        self.fronts = Fronts(cast(Room, room), cast(Texts, None))

    def give_back(self, delay: int, *batches: Front | None) -> None:
        """None: its header is not known yet; it has one param."""
        self.head.back[delay] = [1, 0, len(batches), sum(x.length if x else 1 for x in batches), 1]
        for number, batch in enumerate(batches, 1):
            if batch is not None:
                self.fronts.known[delay, number] = batch

    def take(self, limit: int, located: tuple[int, int] = (1, 1)) -> list[tuple[str, int, int]]:
        taken = take(self.head, limit, self.fronts, located)
        assert all(end > begin for _, _, (begin, end) in taken), "an empty claim"
        return [(source, batch, end - begin) for source, batch, (begin, end) in taken]


def test_fresh_ones_are_taken_in_their_order() -> None:
    bench = Bench(put=5)
    assert bench.take(2) == [("p", 1, 2)]
    assert (bench.head.cursor, bench.head.fresh) == (3, 3)
    assert bench.take(9) == [("p", 1, 3)]
    assert bench.take(9) == []
    assert bench.head.cursor == 6


def test_what_was_given_back_comes_first_and_the_rest_is_filled_up() -> None:
    bench = Bench(put=5)
    bench.give_back(0, front(2), front(1))
    assert bench.take(4) == [("0", 1, 2), ("0", 2, 1), ("p", 1, 1)]
    assert bench.head.back[0][COUNT] == 0
    assert (bench.head.back[0][FIRST], bench.head.back[0][LAST]) == (3, 2)


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
def test_no_more_is_taken_than_was_asked_for_and_no_empty_claim(limit: int) -> None:
    bench = Bench(put=5)
    bench.give_back(0, front(1), front(1), front(1), front(1))
    bench.give_back(1, front(3))
    assert bench.take(limit) == [("0", number, 1) for number in range(1, limit + 1)]
    assert bench.head.fresh == 5


def test_a_batch_may_be_taken_in_parts() -> None:
    bench = Bench()
    bench.give_back(0, front(5), front(2))
    assert bench.take(2) == [("0", 1, 2)]
    assert (bench.head.back[0][FIRST], bench.head.back[0][OFFSET]) == (1, 2)
    assert bench.take(4) == [("0", 1, 3), ("0", 2, 1)]
    assert (bench.head.back[0][FIRST], bench.head.back[0][OFFSET]) == (2, 1)
    assert bench.take(9) == [("0", 2, 1)]
    assert bench.take(9) == []


def test_what_is_delayed_waits_until_it_is_due_and_nothing_else_for_it() -> None:
    bench = Bench(put=1)
    bench.give_back(1, front(1, -0.5), front(1, 0.5), front(1, -0.5))
    bench.give_back(4, front(2, 0.0))
    assert bench.take(9) == [("1", 1, 1), ("4", 1, 2), ("p", 1, 1)]
    assert bench.head.back[1][COUNT] == 2


def test_suspects_come_alone() -> None:
    bench = Bench(put=1)
    bench.give_back(0, front(1, suspect=True), front(1), front(1, suspect=True))
    assert bench.take(9) == [("0", 1, 1)]
    assert bench.take(9) == [("0", 2, 1), ("p", 1, 1)]
    assert bench.take(9) == [("0", 3, 1)]


def test_a_front_that_is_not_known_yet_is_looked_for_and_the_rest_goes_on() -> None:
    bench = Bench(put=1)
    bench.give_back(0, front(1), None, front(1))
    bench.give_back(1, front(1))
    assert bench.take(9) == [("0", 1, 1), ("1", 1, 1), ("p", 1, 1)]
    assert bench.fronts.unknown
    bench.fronts.known[0, 2] = front(1)
    assert bench.take(9) == [("0", 2, 1), ("0", 3, 1)]
    assert not bench.fronts.unknown


def test_only_so_many_claims_go_into_a_slot() -> None:
    bench = Bench(put=5)
    bench.give_back(0, *[front(1)] * 20)
    assert len(bench.take(100)) == 12 + 1
    assert bench.head.back[0][COUNT] == 8


def test_where_fresh_ones_are_is_known_from_those_who_read_further() -> None:
    bench = Bench(put=50)
    assert bench.take(1, located=(1, 3)) == [("p", 3, 1)]
    assert bench.take(1, located=(40, 7)) == [("p", 3, 1)], "the cursor is not there yet"
    assert bench.take(1, located=(3, 2)) == [("p", 3, 1)], "a hint never goes back"
    assert bench.head.hint == 3


def test_due_by_whichever_clock_is_first() -> None:
    batch = Front(1, WALL + 30.0, 10.0, False, NOW)
    assert batch.due_in_s(NOW, WALL) == 10.0
    assert batch.due_in_s(NOW + 4, WALL) == 6.0
    assert batch.due_in_s(NOW, WALL + 28.0) == 2.0
    assert batch.due_in_s(NOW + 11, WALL) == 0.0
    assert batch.due_in_s(NOW, WALL + 31.0) == 0.0

"""From claims to leases, and what becomes of claims: limits, suspects, pieces, checkpoints."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from minionize.engines.file.batches import NotVisible, Record, step_of
from minionize.engines.file.head import Head, encode_copy, glimpse
from minionize.engines.file.held import MAX_PIECES, Held, count, groups, settle
from minionize.engines.file.leasing import ready
from minionize.engines.file.room import Room
from minionize.engines.file.settling import Shrunk, remove_checkpoints
from minionize.engines.file.slot import Claim, Piece
from minionize.engines.file.texts import Texts


class Lines:
    """Texts of which at most so many lines are read at once."""

    def __init__(self, suspects: frozenset[int] = frozenset(), at_once: int = 100) -> None:
        self.suspects = suspects
        self.at_once = at_once
        self.hidden: set[int] = set()

    def some(self, claim: Claim, piece: Piece) -> tuple[int, list[str]]:
        begin, end = piece
        assert begin < end, "nothing was asked for"
        if claim.batch in self.hidden:
            raise NotVisible(str(claim.batch))
        upto = min(end, begin + self.at_once)
        if claim.source == "p":
            return upto, [f'"{position}"' for position in range(begin, upto)]
        return upto, [
            Record(100 * claim.batch + position, "0", suspect=position in self.suspects).line()
            for position in range(begin, upto)
        ]


def holding(*claims: Claim) -> dict[int, Held]:
    return {claim.serial: Held(claim) for claim in claims}


def lease(held: dict[int, Held], lines: Lines, limit: int) -> list[str]:
    return [one.id for one in ready(held, cast(Texts, lines), limit)]


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_no_more_than_the_limit_and_the_rest_the_next_time(limit: int, at_once: int) -> None:
    held = holding(Claim("p", 1, 1, ((1, 4), (6, 9))), Claim("0", 2, 2, ((0, 3),)))
    lines = Lines(at_once=at_once)
    found: list[str] = []
    while some := lease(held, lines, limit):
        assert len(some) == min(limit, 9 - len(found))
        found += some
    assert found == ["1", "2", "3", "6", "7", "8", "200", "201", "202"]


def test_suspects_come_with_suspects_alone() -> None:
    held = holding(Claim("h", 1, 1, ((0, 5),)), Claim("p", 1, 2, ((1, 3),)))
    lines = Lines(frozenset({0, 1, 3}))
    found = [lease(held, lines, 9) for _ in range(5)]
    assert found == [["100", "101"], ["102"], ["103"], ["104", "1", "2"], []]


def test_what_is_not_visible_yet_is_waited_for_and_the_rest_goes_on() -> None:
    held = holding(Claim("0", 1, 1, ((0, 2),)), Claim("0", 2, 2, ((0, 2),)))
    lines = Lines()
    lines.hidden.add(1)
    assert lease(held, lines, 3) == ["200", "201"]
    assert lease(held, lines, 3) == []
    lines.hidden.clear()
    assert lease(held, lines, 1) == ["100"]
    assert lease(held, lines, 3) == ["101"]


def test_the_smallest_gaps_stay_covered_where_a_slot_has_too_many_pieces() -> None:
    """Each gap is what must be done again if the minion dies."""
    whole = Held(Claim("p", 1, 1, ((0, 4000),)))
    # Gaps of six acked params, the last ones smaller; one open param before each.
    position = 0
    for size in range(MAX_PIECES + 5, 0, -1):
        position += 1
        for _ in range(min(size, 6)):
            whole.close(position)
            position += 1
    after = settle([whole], {})[1]
    assert len(after) == MAX_PIECES
    # The six smallest gaps are covered still, since there are so many pieces too many.
    assert count(after) - whole.left == 1 + 2 + 3 + 4 + 5 + 6


def test_checkpoints_of_what_went_elsewhere_stay(tmp_path: Path) -> None:
    gone: list[int] = []
    calls = SimpleNamespace(
        exists=lambda path: True,
        remove_tree=lambda path: gone.append(int(path.rpartition("/")[2])),
    )
    room = cast(Room, SimpleNamespace(calls=calls, checkpoints="c"))
    held = Held(Claim("p", 1, 1, ((1, 9),)))
    remove_checkpoints(room, [Shrunk(held, [(1, 9)], [(4, 6)], {2, 7})])
    assert gone == [1, 3, 6, 8]
    held.ids[1] = 71
    gone.clear()
    remove_checkpoints(room, [Shrunk(held, [(1, 2)], [], set())])
    assert gone == [71]


def test_what_leaves_in_one_write_splits_a_slot_into_few_pieces() -> None:
    alone = [(1, position) for position in range(0, 240, 2)]
    parts = list(groups(alone))
    assert [len(part) for part in parts] == [50, 50, 20]
    assert sum(parts, []) == alone  # noqa: RUF017
    together = [(serial, position) for serial in (1, 2) for position in range(500)]
    assert list(groups(together)) == [together]
    assert list(groups([])) == []


def test_lines_are_found_by_blocks_that_are_no_longer_than_it_takes() -> None:
    assert step_of(1000, 1000 * 10) > step_of(1000, 1000 * 500) >= 1
    assert step_of(10, 10 << 20) == 1
    assert step_of(0, 0) == step_of(1, 1)


@pytest.mark.parametrize(
    ("minions", "running", "idle"), [(20, 5, 15), (20, 19, 2), (20, 400, 2), (3, 3, 1), (0, 0, 1)]
)
def test_a_look_without_the_lock_tells_how_many_may_be_idle(
    minions: int, running: int, idle: int
) -> None:
    head = Head()
    head.sequence = 1
    head.minions = minions
    head.put, head.cursor = running, running + 1
    content = encode_copy(head, with_redo=True)
    assert content is not None
    seen = glimpse(content)
    assert seen is not None
    assert (seen.idle, seen.waiting, seen.drained) == (idle, 0, running == 0)

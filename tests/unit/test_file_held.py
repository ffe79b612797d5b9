"""What a minion holds: whatever ends in whatever order, nothing is covered twice or let go."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from minionize.engines.file import held as module
from minionize.engines.file.held import Held, count, settle
from minionize.engines.file.member import parse_journal
from minionize.engines.file.slot import Claim


def positions(pieces: list[tuple[int, int]]) -> set[int]:
    return {position for begin, end in pieces for position in range(begin, end)}


@given(st.sets(st.integers(0, 79)), st.sets(st.integers(0, 79)), st.integers(1, 40))
def test_a_shrunk_claim_covers_what_is_open_and_nothing_that_left(
    acked: set[int], left: set[int], most: int
) -> None:
    held = Held(Claim("p", 1, 5, ((100, 140), (150, 180))))
    covered = positions(held.pieces)
    acked = {position + 100 for position in acked} & covered
    left = ({position + 100 for position in left} & covered) - acked
    for position in acked | left:
        held.close(position)
    before = module.MAX_PIECES
    module.MAX_PIECES = most
    try:
        after = settle([held], {5: left})
    finally:
        module.MAX_PIECES = before
    if not acked | left:
        assert after == {}
        return
    pieces = after[5]
    now = positions(pieces)
    assert covered - acked - left <= now <= covered - left
    assert count(pieces) == len(now)
    assert pieces == sorted(pieces)
    if len(held.tight()) <= most:
        assert now == covered - acked - left, "what is acked is settled"


@given(st.sets(st.integers(0, 29)), st.sets(st.integers(0, 29)))
def test_the_head_has_the_last_word(acked: set[int], kept: set[int]) -> None:
    held = Held(Claim("4", 2, 1, ((0, 30),)))
    for position in acked:
        held.close(position)
    runs = [(position, position + 1) for position in sorted(kept)]
    held.adopt(runs)
    assert positions(held.tight()) == kept - acked
    assert (held.left, held.covered) == (len(kept - acked), len(kept))
    assert positions(held.todo) == kept
    assert all(held.holds(position) == (position in kept - acked) for position in range(40))


def test_what_was_closed_for_a_write_that_failed_opens_again() -> None:
    held = Held(Claim("p", 1, 1, ((1, 4),)))
    held.close(2)
    held.reopen([2, 3])
    assert (held.left, held.tight()) == (3, [(1, 4)])


def test_a_journal_tells_marks_without_an_end() -> None:
    content = b"\nm 1 5\nm 1 6\nm 2 5\n\na 1 6\n\ne 2 5\n\nm 3 1\n"
    assert parse_journal(content) == ({(1, 5), (3, 1)}, {(1, 6)})


def test_torn_lines_of_a_journal_count_for_nothing() -> None:
    assert parse_journal(b"\nm 1 5\n\nm 1 ") == ({(1, 5)}, set())
    assert parse_journal(b"\nm 1 5\n\na 1\ne 1 5\n") == (set(), set())
    assert parse_journal(b"\xff\x00 noise \n\nm x y\nm 1 2\n") == ({(1, 2)}, set())
    assert parse_journal(b"") == (set(), set())


@given(st.binary(max_size=100))
def test_noise_is_no_journal(noise: bytes) -> None:
    parse_journal(noise)


def test_what_is_covered_again_is_held_anew() -> None:
    held = Held(Claim("p", 1, 1, ((5, 8),)))
    held.todo = []
    held.close(6)
    held.adopt([(3, 6), (7, 10)])
    assert held.tight() == [(3, 6), (7, 10)]
    assert held.todo == [(3, 5), (8, 10)]  # 5 and 7 are leased already
    assert held.left == held.covered == 6
    held.adopt([(5, 6)])
    assert (held.tight(), held.todo) == ([(5, 6)], [])

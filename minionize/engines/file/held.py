"""What a minion holds, in memory: the claims of its slot, and what became of each param."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from minionize.engines.file.slot import Claim, Piece, open_pieces

MAX_PIECES = 160
"""Pieces of a slot; beyond that acked gaps stay covered until their neighbours end."""
_MAX_BREAKS = 50


class Held:
    """One claim. Open positions are leased, or about to be; the rest was acked or has left."""

    __slots__ = ("batch", "covered", "ids", "left", "live", "marked", "pieces", "serial", "source",
                 "start", "todo")  # fmt: skip

    def __init__(self, claim: Claim) -> None:
        self.source = claim.source
        self.batch = claim.batch
        self.serial = claim.serial
        self.pieces: list[Piece] = list(claim.pieces)
        """As the head has them."""
        self.start = self.pieces[0][0]
        self.live = bytearray(self.pieces[-1][1] - self.start)
        self.covered = 0
        for begin, end in self.pieces:
            self.live[begin - self.start : end - self.start] = b"\1" * (end - begin)
            self.covered += end - begin
        self.left = self.covered
        """Open positions."""
        self.todo: list[Piece] = list(self.pieces)
        """Not leased to the worker yet."""
        self.marked: set[int] = set()
        """Positions with a mark in the journal and no end."""
        self.ids: dict[int, int] = {}
        """Ids by position, where they are not the same."""

    @property
    def claim(self) -> Claim:
        """As the head has it."""
        return Claim(self.source, self.batch, self.serial, tuple(self.pieces))

    def holds(self, position: int) -> bool:
        """Whether the position is open."""
        index = position - self.start
        return 0 <= index < len(self.live) and self.live[index] == 1

    def close(self, position: int) -> None:
        """The position is open no more."""
        self.live[position - self.start] = 0
        self.left -= 1

    def reopen(self, positions: Iterable[int]) -> None:
        """These were closed for a write that did not happen."""
        for position in positions:
            index = position - self.start
            if not self.live[index]:
                self.live[index] = 1
                self.left += 1

    def adopt(self, pieces: Iterable[Piece]) -> None:
        """The head's word on what is covered: what it covers no longer is not ours; what it covers
        again (a write that was read was lost with its disk's cache) is ours anew."""
        pieces = list(pieces)
        if pieces:
            self._reach(pieces[0][0], pieces[-1][1])
        before = self._mask(self.pieces)
        self.pieces = pieces
        self.covered = count(self.pieces)
        covered = self._mask(self.pieces)
        again = covered & ~before
        live = int.from_bytes(self.live, "big") & covered | again
        self.live = bytearray(live.to_bytes(len(self.live), "big"))
        self.left = self.live.count(1)
        self.todo = [
            (max(begin, low), min(end, high))
            for begin, end in self.todo
            for low, high in self.pieces
            if max(begin, low) < min(end, high)
        ]
        if again:
            self.todo += open_pieces(again.to_bytes(len(self.live), "big"), self.start)

    def _reach(self, begin: int, end: int) -> None:
        """Room for positions from `begin` to `end`."""
        ahead = bytes(max(0, self.start - begin))
        behind = bytes(max(0, end - self.start - len(self.live)))
        self.live = bytearray(ahead + self.live + behind)
        self.start -= len(ahead)

    def _mask(self, pieces: Iterable[Piece]) -> int:
        covered = bytearray(len(self.live))
        for begin, end in pieces:
            covered[begin - self.start : end - self.start] = b"\1" * (end - begin)
        return int.from_bytes(covered, "big")

    def tight(self) -> list[Piece]:
        """The pieces that cover the open positions and nothing else."""
        return open_pieces(self.live, self.start)


def count(pieces: Iterable[Piece]) -> int:
    """How many positions they have."""
    return sum(end - begin for begin, end in pieces)


def settle(held: Iterable[Held], leaving: dict[int, set[int]]) -> dict[int, list[Piece]]:
    """For each claim that can shrink, the pieces that its slot should have: what is acked splits
    off, unless that makes too many pieces; then the smallest gaps stay covered. `leaving`
    positions, by serial, go to another place in the same write, and never stay."""
    after: dict[int, list[Piece]] = {}
    total = 0
    for one in held:
        if one.left == one.covered:
            total += len(one.pieces)
            continue
        after[one.serial] = pieces = one.tight()
        total += len(pieces)
    if total > MAX_PIECES:
        _join(held, after, leaving, total - MAX_PIECES)
    return after


def _join(
    held: Iterable[Held], after: dict[int, list[Piece]], leaving: dict[int, set[int]], surplus: int
) -> None:
    gaps = []
    for one in held:
        pieces = after.get(one.serial, [])
        gone = leaving.get(one.serial, set())
        for (_, begin), (end, _) in pairwise(pieces):
            inside = any(low <= begin and end <= high for low, high in one.pieces)
            if inside and gone.isdisjoint(range(begin, end)):
                gaps.append((end - begin, one.serial, begin, end))
    gaps.sort()
    for _, serial, begin, end in gaps[:surplus]:
        joined: list[Piece] = []
        for low, high in after[serial]:
            if joined and (joined[-1][1], low) == (begin, end):
                joined[-1] = (joined[-1][0], high)
            else:
                joined.append((low, high))
        after[serial] = joined


def groups(places: Sequence[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Sorted serials and positions, so that no single write splits a slot's claims into too many
    pieces."""
    group: list[tuple[int, int]] = []
    breaks = 0
    for serial, position in places:
        if not group or group[-1] != (serial, position - 1):
            breaks += 1
        if breaks > _MAX_BREAKS:
            yield group
            group, breaks = [], 1
        group.append((serial, position))
    if group:
        yield group

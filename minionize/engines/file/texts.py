"""From a claim to the params it covers: which file, which lines."""

from __future__ import annotations

from collections.abc import Iterator

from minionize.engines.file.batches import (
    READ_BYTES,
    Index,
    NotVisible,
    Record,
    missing,
    parse_record,
)
from minionize.engines.file.room import Room
from minionize.engines.file.slot import Claim, Piece

_LOOK_EVERY_S = 0.1


class Texts:
    """Reads params. Remembers where it was, so that going on costs nothing."""

    def __init__(self, room: Room, patience_s: float = 0.0) -> None:
        self._room = room
        self._patience_s = patience_s
        """How long a file that is not visible yet is waited for before NotVisible says so."""
        self._missed: dict[str, float] = {}
        """Files not visible yet, and since when."""
        self.hint = (1, 1)
        """An id and the segment it is in: the furthest that was read."""

    def segment(self, number: int) -> Index:
        """A segment's header."""
        return self._index("p", number)

    def batch(self, source: str, number: int) -> Index:
        """A batch's header. NotVisible while this host doesn't see it."""
        return self._index(source, number)

    def _index(self, source: str, number: int) -> Index:
        path = self._room.file_of(source, number)
        calls = self._room.calls
        while True:
            try:
                found = self._room.batches.index(path, number)
                break
            except NotVisible:
                now = calls.monotonic()
                since = self._missed.setdefault(path, now)
                if now - since > self._room.visibility_s:
                    raise missing(path) from None
                if now - since >= self._patience_s:
                    raise
            calls.sleep(_LOOK_EVERY_S)
        if self._missed:
            self._missed.pop(path, None)
        return found

    def locate(self, number: int, hint: int) -> Index:
        """The segment that holds the id, looked for from segment `hint` on."""
        known_id, known_segment = self.hint
        if known_id <= number and known_segment > hint:
            hint = known_segment
        while True:
            found = self.segment(hint)
            if number < found.first + found.length:
                self.hint = (max(number, found.first), hint)
                return found
            hint += 1

    def search(self, number: int, segments: int, low: int = 1) -> Index:
        """The segment that holds the id, anywhere from `low` to `segments`; found soon where it is
        near `low`."""
        step = 1
        while True:
            found = self.segment(low)
            if number < found.first + found.length or low >= segments:
                return found
            if self.segment(min(low + step, segments)).first > number:
                break
            low = min(low + step, segments)
            step *= 2
        high = min(low + step, segments) - 1
        while low < high:
            middle = (low + high + 1) // 2
            if self.segment(middle).first <= number:
                low = middle
            else:
                high = middle - 1
        return self.segment(low)

    def some(self, claim: Claim, piece: Piece) -> tuple[int, list[str]]:
        """Lines from the beginning of the piece: up to which position, and the lines. At least
        one, at most about a MiB of them. Of `p` they are the params' texts, else records."""
        begin, end = piece
        if claim.source == "p":
            index = self.locate(begin, claim.batch)
            first = index.first
            end = min(end, first + index.length)
        else:
            index = self.batch(claim.source, claim.batch)
            first = 0
        upto = index.lines_within(begin - first, end - first, READ_BYTES)
        return first + upto, self._room.batches.lines(index, begin - first, upto)

    def records(self, claim: Claim) -> Iterator[tuple[int, Record]]:
        """All that a claim covers, with positions."""
        for begin, end in claim.pieces:
            while begin < end:
                upto, lines = self.some(claim, (begin, end))
                if claim.source == "p":
                    for position, text in enumerate(lines, begin):
                        yield position, Record(position, text)
                else:
                    for position, line in enumerate(lines, begin):
                        yield position, parse_record(line)
                begin = upto

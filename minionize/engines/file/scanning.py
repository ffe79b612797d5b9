"""Where every param is, for people: lists of each state, and single params by id."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from minionize.engines.file import slot as slots
from minionize.engines.file.batches import (
    READ_BYTES,
    Index,
    NotVisible,
    Record,
    parse_dead,
    parse_record,
)
from minionize.engines.file.head import FIRST, LAST, OFFSET, Folder, Head
from minionize.engines.file.room import Room
from minionize.engines.file.slot import Claim, Piece
from minionize.engines.file.texts import Texts
from minionize.errors import EngineUnavailable, QueueDamaged
from minionize.values import Entry, Failure, State


class Batch(NamedTuple):
    """A given-back batch as a scan meets it."""

    claim: Claim
    due_in_s: float


class Scanner:
    """One snapshot of the head; the files are read after it, so params may have moved on."""

    def __init__(self, room: Room, texts: Texts) -> None:
        self._room = room
        self._texts = texts
        with room.head as head:
            self.head: Head = head
            records = room.head.slots()
        self._slots = [slots.decode(record) for record in records]
        self._moved = False
        """Some of what the snapshot names was gone when its turn came: it is in another state."""

    def claims(self) -> list[Claim]:
        """What minions hold, and commands that move params."""
        return [claim for slot in self._slots for claim in slot.claims]

    def scan(self, state: State) -> Iterator[Entry]:
        """The params in `state`."""
        if state is State.WAITING:
            return self._waiting()
        if state is State.DELAYED:
            return self._delayed()
        if state is State.RUNNING:
            return self._running()
        if state is State.DEAD:
            return (_dead_entry(line) for line in self.dead_lines())
        return self._done()

    # ---- given back
    def _returned(self) -> Iterator[Batch]:
        now = self._room.head.time()
        for delay in sorted(self.head.back):
            for claim, delay_s, due in self._batches(str(delay), self.head.back[delay]):
                wait_s = min(due - now, delay_s) if delay else 0.0
                yield Batch(claim, max(0.0, wait_s))

    def _batches(self, source: str, folder: Folder) -> Iterator[tuple[Claim, float, float]]:
        for number in range(folder[FIRST], folder[LAST] + 1):
            try:
                index = self._texts.batch(source, number)
            except (NotVisible, QueueDamaged) as error:
                if self._is_gone(source, number):
                    self._moved = True
                    continue
                raise _not_visible(error) if isinstance(error, NotVisible) else error from None
            skip = folder[OFFSET] if number == folder[FIRST] else 0
            yield Claim(source, number, 0, ((skip, index.length),)), index.delay_s, index.due

    def _is_gone(self, source: str, number: int) -> bool:
        with self._room.head as head:
            folder = head.dead if source == "dead" else head.back[int(source)]
            return number < folder[FIRST]

    def _records(self, claim: Claim) -> Iterator[Record]:
        try:
            for _, record in self._texts.records(claim):
                yield record
        except NotVisible as error:
            raise self._forgotten(claim.source) or _not_visible(error) from error
        except QueueDamaged as error:
            raise self._forgotten(claim.source) or error from None

    def segment_of(self, number: int, low: int = 1) -> Index:
        """The segment that holds the id, from segment `low` on."""
        try:
            return self._texts.search(number, self.head.segments, low)
        except NotVisible as error:
            raise self._forgotten("p") or _not_visible(error) from error
        except QueueDamaged as error:
            raise self._forgotten("p") or error from None

    def _forgotten(self, source: str) -> EngineUnavailable | None:
        """What is said where a segment is gone because a person had it forgotten since."""
        if source != "p":
            return None
        with self._room.head as head:
            if head.kept_segment == self.head.kept_segment:
                return None
        return EngineUnavailable(
            f"{self._room.url}: some of what was done was dropped meanwhile: try again"
        )

    def _fresh(self) -> Iterator[Record]:
        begin, end = self.head.cursor, self.head.put + 1
        if begin < end:
            yield from self._records(Claim("p", self.head.hint, 0, ((begin, end),)))

    def _waiting(self) -> Iterator[Entry]:
        for batch in self._returned():
            if not batch.due_in_s:
                for record in self._records(batch.claim):
                    yield _entry(record, State.WAITING)
        for record in self._fresh():
            yield _entry(record, State.WAITING)

    def _delayed(self) -> Iterator[Entry]:
        for batch in self._returned():
            if batch.due_in_s:
                for record in self._records(batch.claim):
                    yield _entry(record, State.DELAYED, due_in_s=batch.due_in_s)

    # ---- running, dead
    def _running(self) -> Iterator[Entry]:
        for slot in self._slots:
            for claim in slot.claims:
                for record in self._held(claim):
                    yield _entry(record, State.RUNNING, holder=slot.owner)

    def _held(self, claim: Claim) -> Iterator[Record]:
        """What a minion holds; nothing if that ended, and its file is gone, since the snapshot."""
        try:
            yield from self._records(claim)
        except (EngineUnavailable, QueueDamaged):
            if self._still_claimed(claim):
                raise
            self._moved = True

    def _still_claimed(self, claim: Claim) -> bool:
        with self._room.head:
            records = self._room.head.slots()
        mine = (claim.source, claim.batch, claim.serial)
        return any(
            (one.source, one.batch, one.serial) == mine
            for record in records
            for one in slots.decode(record).claims
        )

    def dead_lines(self) -> Iterator[str]:
        """The lines of the dead, as they stand in their batches."""
        for claim, _, _ in self._batches("dead", self.head.dead):
            begin, end = claim.pieces[0]
            while begin < end:
                begin, lines = self._texts.some(claim, (begin, end))
                yield from lines

    # ---- done: all that is nowhere else
    def done_pieces(self) -> Iterator[Piece]:
        """Ids, from and to, of what is done."""
        single = array("Q")
        pieces: list[Piece] = []
        for slot in self._slots:
            for claim in slot.claims:
                if claim.source == "p":
                    pieces += claim.pieces
                else:
                    single.extend(record.id for record in self._held(claim))
        for batch in self._returned():
            single.extend(record.id for record in self._records(batch.claim))
        single.extend(parse_record(line).id for line in self.dead_lines())
        pieces += self.purged_pieces()
        if self._moved:  # what was there is done, or given back: this snapshot can't tell
            yield from Scanner(self._room, self._texts).done_pieces()
            return
        ordered = array("Q", sorted(single))
        pieces.sort()
        pieces.append((self.head.cursor, self.head.put + 1))
        at, number = self.head.kept_id, 0
        for begin, end in pieces:
            # `begin` in order: the singles before it split what lies between.
            while number < len(ordered) and ordered[number] < begin:
                if at < ordered[number]:
                    yield at, ordered[number]
                at = max(at, ordered[number] + 1)
                number += 1
            if at < begin:
                yield at, begin
            at = max(at, end)

    def purged_pieces(self) -> Iterator[Piece]:
        """Ids, from and to, of what was dropped."""
        for number in range(1, self.head.purges + 1):
            try:
                length = self._texts.batch("purged", number).length
                claim = Claim("purged", number, 0, ((0, length),))
                begin = 0
                while begin < length:
                    begin, lines = self._texts.some(claim, (begin, length))
                    for line in lines:
                        low, high = line[1:-1].split(",")
                        yield int(low), int(high)
            except NotVisible as error:
                raise _not_visible(error) from error

    def done_records(self) -> Iterator[Record]:
        """What is done."""
        segment = self.head.kept_segment
        for piece in self.done_pieces():
            segment = self.segment_of(piece[0], segment).number
            yield from self._records(Claim("p", segment, 0, (piece,)))

    def _done(self) -> Iterator[Entry]:
        for record in self.done_records():
            yield _entry(record, State.DONE)

    # ---- by id
    def look_up(self, ids: Collection[str]) -> dict[str, Entry]:
        """The params of these ids."""
        wanted = {int(one) for one in ids if one.isdecimal() and one == str(int(one))}
        wanted = {number for number in wanted if 1 <= number <= self.head.put}
        found: dict[str, Entry] = {}
        if not wanted:
            return found
        moved = (State.RUNNING, State.DELAYED, State.DEAD)
        for state in moved:
            self._collect(self.scan(state), wanted, found)
        for batch in self._returned():
            entries = (_entry(one, State.WAITING) for one in self._records(batch.claim))
            self._collect(entries, wanted, found)
        if wanted and self._moved:
            return found | Scanner(self._room, self._texts).look_up([str(one) for one in wanted])
        for begin, end in self.purged_pieces():
            wanted = {number for number in wanted if not begin <= number < end}
        kept = sorted(number for number in wanted if number >= self.head.kept_id)
        for record in self._put_records(kept):
            state = State.WAITING if record.id >= self.head.cursor else State.DONE
            found[str(record.id)] = _entry(record, state)
        return found

    def _put_records(self, numbers: Sequence[int]) -> Iterator[Record]:
        """What was put under these ids, which are in order. Each segment is opened once, and of it
        what lies near together is read together."""
        at, segment = 0, self.head.kept_segment
        while at < len(numbers):
            index = self.segment_of(numbers[at], segment)
            segment = min(index.number + 1, self.head.segments)
            behind = bisect_left(numbers, index.first + index.length, at)
            here = numbers[at:behind]
            for begin, end in near_together(here, 2 * index.step):
                inside = None if end - begin == len(here) else set(here)
                for record in self._segment_records(index, begin, end):
                    if inside is None or record.id in inside:
                        yield record
            at = behind

    def _segment_records(self, index: Index, begin: int, end: int) -> Iterator[Record]:
        """The params with ids from `begin` to `end` of an open segment: where each was fed by
        itself, all that is done for a file counts."""
        while begin < end:
            at = begin - index.first
            upto = index.lines_within(at, end - index.first, READ_BYTES)
            for place, text in enumerate(self._room.batches.lines(index, at, upto), begin):
                yield Record(place, text)
            begin = index.first + upto

    @staticmethod
    def _collect(entries: Iterator[Entry], wanted: set[int], found: dict[str, Entry]) -> None:
        if not wanted:
            return
        for entry in entries:
            if int(entry.id) in wanted:
                wanted.discard(int(entry.id))
                found[entry.id] = entry
                if not wanted:
                    return


def near_together(numbers: Sequence[int], most: int) -> Iterator[Piece]:
    """Pieces, from and to, that hold all of these numbers, which are in order; within a piece
    they are at most `most` apart."""
    begin = 0
    for place, (low, high) in enumerate(pairwise(numbers), 1):
        if high - low > most:
            yield numbers[begin], low + 1
            begin = place
    if numbers:
        yield numbers[begin], numbers[-1] + 1


def _entry(
    record: Record, state: State, *, holder: str = "", due_in_s: float | None = None
) -> Entry:
    return Entry(
        str(record.id), record.text, state, record.attempt, record.crashes, holder, due_in_s
    )


def _dead_entry(line: str) -> Entry:
    record, failure = parse_dead(line)
    return _entry(record, State.DEAD)._replace(failure=Failure(str(failure[0]), str(failure[1])))


def _not_visible(error: NotVisible) -> EngineUnavailable:
    return EngineUnavailable(f"{error.path} is not visible on this host yet: try again in a minute")

"""Letting go of what was done long ago: the oldest segments, as far as nothing needs them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from minionize.engines.file import slot as slots
from minionize.engines.file.batches import Index, NotVisible
from minionize.engines.file.head import Head
from minionize.engines.file.room import Room
from minionize.engines.file.scanning import Scanner
from minionize.engines.file.slot import Claim, Slot
from minionize.engines.file.texts import Texts
from minionize.errors import EngineUnavailable

_TRIES = 20
_SEGMENT = re.compile(r"(\d{8,})\.jsonl")


class Forgetting:
    """Segments are forgotten from the first on, whole ones alone. The head says from which on they
    are kept, before the first file goes: so a crash leaves files that nothing names, which the next
    time removes, and never a name without its file.

    Segments are needed that hold what no minion ever took, and those that a claim names. What was
    given back and dead letters have their texts in batches of their own. But a param that runs out
    of a batch is waited for: its minion tells its text in the report only if it knows that the
    queue forgets it.
    """

    def __init__(self, room: Room, texts: Texts) -> None:
        self._room = room
        self._texts = texts
        self._lowest: dict[tuple[str, int, int], int] = {}
        """The lowest id of claims of batches, which never change."""

    def settled_below(self) -> int:
        """No param with a lower id runs now, or waits for its first run."""
        scanner = Scanner(self._room, self._texts)
        return self._settled(scanner.head, scanner.claims(), 0)[0]

    def forget(self, below: int, put_before_s: float) -> int:
        """Forget what was done with ids lower than `below`; how many."""
        for _ in range(_TRIES):
            found = self._forget(below, put_before_s)
            if found is not None:
                return found
        raise EngineUnavailable(
            f"{self._room.url}: params with low ids come back to work all the time: try again"
        )

    def _forget(self, below: int, put_before_s: float) -> int | None:
        """None if something below was taken meanwhile."""
        room = self._room
        scanner = Scanner(room, self._texts)
        before = scanner.head
        # The hint of the head may be far behind.
        fresh = before.segments + 1
        if before.fresh:
            fresh = scanner.segment_of(before.cursor, before.kept_segment).number
        limit, last = self._settled(before, scanner.claims(), fresh)
        segment, start_id = self._start(before)
        id_ = start_id
        while segment <= before.segments and segment < last:
            index = self._texts.segment(segment)
            behind = index.first + index.length
            if behind > min(below, limit) or self._is_young(index, put_before_s):
                break
            segment, id_ = segment + 1, behind
        count = 0
        if segment > before.kept_segment:
            for begin, end in scanner.done_pieces():
                count += max(0, min(end, id_) - max(begin, start_id))
            with room.head as head:
                claims = _claims(map(slots.decode, room.head.slots()))
                limit, last = self._settled(head, claims, fresh)
                if head.edits != before.edits or limit < id_ or last < segment:
                    return None
                head.kept_segment, head.kept_id = segment, id_
                head.hint = max(head.hint, segment)
                head.edits += 1
                room.head.write()
        self._remove(segment)
        return count

    def _settled(self, head: Head, claims: Iterable[Claim], fresh: int) -> tuple[int, int]:
        """The lowest id that runs or was never taken, and the lowest segment that is needed.
        `fresh`: one at or before the cursor's."""
        limit, last = head.cursor, fresh
        for claim in claims:
            if claim.source == "p":
                limit = min(limit, claim.pieces[0][0])
                last = min(last, claim.batch)
            else:
                limit = min(limit, self._lowest_of(claim))
        return limit, last

    def _lowest_of(self, claim: Claim) -> int:
        key = (claim.source, claim.batch, claim.pieces[0][0])
        if key not in self._lowest:
            try:
                self._lowest[key] = min(record.id for _, record in self._texts.records(claim))
            except NotVisible as error:
                raise EngineUnavailable(
                    f"{error.path} is not visible on this host yet: try again in a minute"
                ) from error
        return self._lowest[key]

    def _start(self, head: Head) -> tuple[int, int]:
        """The first segment that is kept, and its first id."""
        there = min(self._there(), default=head.kept_segment)
        if there <= head.kept_segment:
            return head.kept_segment, head.kept_id
        # Another version of minionize wrote the head, and dropped what it does not know.
        return there, self._texts.segment(there).first

    def _is_young(self, index: Index, put_before_s: float) -> bool:
        return self._room.calls.changed_at(index.path) >= put_before_s

    def _there(self) -> list[int]:
        """The numbers of the segments that there are."""
        names = self._room.calls.names(self._room.folder_of("p"))
        return [int(found[1]) for name in names if (found := _SEGMENT.fullmatch(name))]

    def _remove(self, below: int) -> None:
        for number in self._there():
            if number < below:
                path = self._room.file_of("p", number)
                self._room.batches.forget(path)
                try:
                    self._room.calls.unlink(path)
                except FileNotFoundError:
                    continue  # another one forgets as well


def _claims(found: Iterable[Slot]) -> list[Claim]:
    return [claim for slot in found for claim in slot.claims]

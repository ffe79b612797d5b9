"""What to claim next: given-back batches that are due first, then params that nobody took."""

from __future__ import annotations

from typing import NamedTuple

from minionize.engines.file.batches import NotVisible
from minionize.engines.file.head import COUNT, FIRST, LAST, OFFSET, Head
from minionize.engines.file.room import Room
from minionize.engines.file.slot import Piece
from minionize.engines.file.texts import Texts

Taken = tuple[str, int, Piece]
"""Source, batch, positions."""

_AHEAD = 8
"""Batches of each folder whose headers are read before the lock is taken."""
_MAX_CLAIMS = 12


class Front(NamedTuple):
    """The header of a given-back batch near the front of its folder."""

    length: int
    due: float
    delay_s: float
    suspect: bool
    seen: float
    """When this minion saw it first, on its own monotonic clock."""

    def due_in_s(self, now: float, wall: float) -> float:
        """Seconds until it may be taken: by the wall clock, or, since clocks of hosts differ,
        when it was seen waiting for as long as its delay."""
        return max(0.0, min(self.due - wall, self.seen + self.delay_s - now))


class Fronts:
    """The headers of the batches that can be claimed next, read without the lock."""

    def __init__(self, room: Room, texts: Texts) -> None:
        self._room = room
        self._texts = texts
        self._wanted: dict[int, tuple[int, int]] = {}
        self.known: dict[tuple[int, int], Front] = {}
        """By delay and batch number."""
        self.unknown = False
        """Whether the last look met a front that was not known."""

    def remember(self, head: Head) -> None:
        """Note which batches `prepare` should know of, inside a visit."""
        self._wanted = {
            delay: (folder[FIRST], folder[LAST])
            for delay, folder in head.back.items()
            if folder[COUNT]
        }
        if self.known:
            self.known = {
                key: front
                for key, front in self.known.items()
                if key[1] >= self._wanted.get(key[0], (1 << 62, 0))[0]
            }

    def prepare(self) -> bool:
        """Read headers that are not known yet; whether there was any. Without the lock."""
        found = False
        for delay, (first, last) in self._wanted.items():
            for number in range(first, min(last, first + _AHEAD) + 1):
                if (delay, number) in self.known:
                    continue
                try:
                    index = self._texts.batch(str(delay), number)
                except NotVisible:
                    break  # passed for now: directories are stale for a while on other hosts
                self.known[delay, number] = Front(
                    index.length,
                    index.due,
                    index.delay_s,
                    index.suspect,
                    self._room.calls.monotonic(),
                )
                found = True
        return found


def take(head: Head, limit: int, fronts: Fronts, located: tuple[int, int]) -> list[Taken]:
    """Take up to `limit` params out of the head, as claims for a slot. Suspects alone.

    `located` is an id and a segment that is known to hold it.
    """
    fronts.remember(head)
    fronts.unknown = False
    taken: list[Taken] = []
    suspects: bool | None = None
    if fronts._wanted:
        now, wall = fronts._room.calls.monotonic(), fronts._room.head.time()
        for delay in sorted(fronts._wanted):
            folder = head.back[delay]
            while limit > 0 and folder[COUNT] and len(taken) < _MAX_CLAIMS:
                front = fronts.known.get((delay, folder[FIRST]))
                if front is None:
                    fronts.unknown = True
                    break
                if front.due_in_s(now, wall) > 0 or suspects not in (None, front.suspect):
                    break
                suspects = front.suspect
                begin = folder[OFFSET]
                end = min(front.length, begin + limit)
                taken.append((str(delay), folder[FIRST], (begin, end)))
                limit -= end - begin
                folder[COUNT] -= end - begin
                if end == front.length:
                    folder[FIRST] += 1
                    folder[OFFSET] = 0
                else:
                    folder[OFFSET] = end
    if limit > 0 and head.fresh and not suspects:
        known_id, segment = located
        if known_id <= head.cursor and segment > head.hint:
            head.hint = segment
        end = head.cursor + min(limit, head.fresh)
        taken.append(("p", head.hint, (head.cursor, end)))
        head.cursor = end
    return taken

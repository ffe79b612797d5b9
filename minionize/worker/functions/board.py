"""The board: memory that minion and child share, where the child notes down that runs are over.

It outlives the child, and to read or write it is no system call. Each batch has an entry for
when it began, then one for the end of each of its runs; entries are counted on and on. The child
fills them in order, the minion empties them once it has read them. An entry is one store of 8
bytes and says by itself whether it is filled, so that it does not matter in which order another
CPU gets to see several.

How far the child may go is the limit: the run with entry `n` begins when entry `n - 1` is filled
and the limit is above `n`, looked at in this order. To take back what has not begun, the minion
closes the limit, waits for a moment, and sets it to what has begun by then. A CPU keeps a store
to itself for far less than a moment: so either the minion sees entry `n - 1` and grants the run,
or the child sees the limit closed, and waits for the minion's word.
"""

from __future__ import annotations

import mmap
import os
import time
from collections import deque
from typing import Any

from minionize.worker.functions import records

ENTRIES = 8192
"""More than two batches may have; a power of two."""
_HEAD_BYTES = 64
BOARD_BYTES = _HEAD_BYTES + 8 * ENTRIES
FIRST = 1
"""The first entry's number, so that no limit is `CLOSED` by chance."""
CLOSED = 0
_MOMENT_S = 0.001
_READ_BYTES = 1 << 20
_EMPTY = memoryview(bytes(8 * ENTRIES)).cast("d")


def views(fd: int) -> tuple[memoryview[int], memoryview[float]]:
    """The limit (one integer) and the entries (seconds of the monotonic clock) on the board in
    this file. The n-th entry's place is `n % ENTRIES`; it is 0.0 while it is empty, and negative
    where there is a record that tells more of this end."""
    view = memoryview(mmap.mmap(fd, BOARD_BYTES))
    return view[:8].cast("Q"), view[_HEAD_BYTES:].cast("d")


def may_begin(limit: memoryview[int], entry: int) -> bool:
    """In the child: whether the run with this entry may begin. Waits while that is decided."""
    while limit[0] == CLOSED:
        time.sleep(_MOMENT_S / 2)
    return bool(limit[0] > entry)


class Board:
    """The minion's side of it, and of the file of records that belongs to it."""

    def __init__(self, fd: int, records_fd: int) -> None:
        """A new board in an empty file of BOARD_BYTES. Both descriptors are closed by `close`."""
        self._fds = [fd, records_fd]
        self._limit, self._entries = views(fd)
        self._given = self._read = FIRST
        self._begins: deque[int] = deque()
        """Entries for the beginnings of batches, as far as they were not read."""
        self.record_bytes = 16
        """Of one record, lately."""
        self.noted_bytes = 0
        """How much of the file of records was read."""
        self._noted: deque[Any] = deque()

    def close(self) -> None:
        """Close the descriptors; the child keeps its own."""
        while self._fds:
            os.close(self._fds.pop())

    def has_room(self, runs: int) -> bool:
        """Whether a batch of so many fits, beside what was not read yet."""
        return self._given - self._read + runs < ENTRIES

    def give(self, runs: int) -> int:
        """Let the child begin a batch of so many more; returns the batch's first entry."""
        first = self._given
        self._begins.append(first)
        self._given += runs + 1
        self._limit[0] = self._given
        return first

    def take_back(self) -> int:
        """How many runs have not begun, and now never will."""
        if self._read == self._given:
            return 0
        self._limit[0] = CLOSED
        time.sleep(_MOMENT_S)
        upto = self._read
        while upto < self._given and self._entries[upto % ENTRIES]:
            upto += 1
        if upto < self._given and upto not in self._begins:
            upto += 1  # this run has begun
        self._limit[0] = upto
        back = self._given - upto
        self._given = upto
        while self._begins and self._begins[-1] >= upto:
            self._begins.pop()
            back -= 1
        return back

    def read(self) -> tuple[list[float], list[Any]]:
        """What was filled since the last time, or some of it; and the records of those that are
        negative."""
        place = self._read % ENTRIES
        if self._read == self._given or not self._entries[place]:
            return [], []
        some = self._entries[place : place + self._given - self._read]
        filled: list[float] = some.tolist()  # type: ignore[assignment]
        if 0.0 in filled:
            del filled[filled.index(0.0) :]
        told = self._records(filled) if min(filled) < 0.0 else []
        self._entries[place : place + len(filled)] = _EMPTY[: len(filled)]
        self._read += len(filled)
        while self._begins and self._begins[0] < self._read:
            self._begins.popleft()
        return filled, told

    def _records(self, filled: list[float]) -> list[Any]:
        """The records of these entries, which are cut off where one can't be seen yet."""
        wanted = [index for index, entry in enumerate(filled) if entry < 0.0]
        while len(self._noted) < len(wanted):
            lines = os.pread(self._fds[1], _READ_BYTES, self.noted_bytes)
            lines = lines[: lines.rfind(b"\n") + 1]
            if not lines:
                del filled[wanted[len(self._noted)] :]
                del wanted[len(self._noted) :]
                break
            self.noted_bytes += len(lines)
            noted = records.decode(lines)
            self.record_bytes = len(lines) // len(noted) + 1
            self._noted.extend(noted)
        return [self._noted.popleft() for _ in wanted]

    def clear_records(self) -> None:
        """Empty the file of records; the child is idle and all was read."""
        os.ftruncate(self._fds[1], 0)
        self.noted_bytes = 0

"""What a program prints, kept in memory until it is passed on, and what is much of it on disk.

A program that prints to a full disk is told so, and many do not look: they end with 0, and their
output has a hole that can't be seen from outside, the less so if the disk has room again then. So
programs print into memory (a memfd), where a write fails for no disk. What is more than
`SPILL_BYTES` is moved by us to a file without a name in TMPDIR: our own writes are checked, and a
run whose output finds no room is ended, and given back.

A program that prints quicker than that is held up (stopped and continued): so memory is bounded.
"""

from __future__ import annotations

import contextlib
import os

from minionize.worker.output import (
    KEPT_BYTES,
    PUNCH_BYTES,
    TAIL_BYTES,
    above_standard,
    open_unlinked,
    punch,
    text_of_tail,
)

SPILL_BYTES = 4 * 1024 * 1024
"""So much of one stream stays in memory."""
HOLD_UP_BYTES = 64 * 1024 * 1024
"""With so much of all slots in memory programs are held up until it is on disk."""
LEAST_HELD_BYTES = 4 * SPILL_BYTES
"""But a single run may have so much there in any case."""
TURN_BYTES = 16 * 1024 * 1024
"""So much is moved at once; then the loop looks after leases."""
END_BYTES = 4 * 1024
"""So much of what a run printed is kept where nothing else was asked for."""
_WAITING_BYTES = 256 * 1024
"""So much of an ended run stays in memory while it waits for a slow reader."""
_CHUNK = 1024 * 1024
_BLOCK = 4096
_MFD_NOEXEC_SEAL = 0x8


def open_in_memory(folder: str) -> int:
    """A descriptor (3 or more) of a new file in memory, for append; of one in `folder` where
    the system has none in memory."""
    for flags in (_MFD_NOEXEC_SEAL, 0):
        try:
            fd = above_standard(os.memfd_create("minion", os.MFD_CLOEXEC | flags))
        except (AttributeError, OSError):
            continue  # an old kernel knows no such flag, or no such files
        import fcntl

        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
        return fd
    return open_unlinked(folder)


class Pages:
    """Output in memory from `spilled` on, and on disk before it."""

    __slots__ = ("disk", "fd", "needed", "spilled")

    def __init__(self, fd: int, disk: int = -1, spilled: int = 0) -> None:
        self.fd = fd
        self.disk = disk
        self.spilled = spilled
        self.needed = 0
        """Of what an ended run has here, so many bytes may still be read."""

    def pread(self, count: int, start: int) -> bytes:
        """Up to `count` bytes from `start` on; none only at the end."""
        if start < self.spilled:
            return os.pread(self.disk, min(count, self.spilled - start), start)
        return os.pread(self.fd, count, start)

    def drop_later(self) -> None:
        """Drop what was written behind what is needed."""
        if os.fstat(self.fd).st_size > self.needed:
            os.ftruncate(self.fd, self.needed)

    def let_go(self) -> None:
        """Nothing of it will be read any more: what is on disk is freed at once."""
        self.needed = 0
        if self.disk >= 0:
            os.close(self.disk)
            self.disk = -1

    def close(self) -> None:
        """Let go of the files."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        if self.disk >= 0:
            os.close(self.disk)
            self.disk = -1


class ProgramSpool(Pages):
    """What one stream of one slot of programs writes to."""

    __slots__ = ("_folder", "_freed", "passed")

    def __init__(self, folder: str) -> None:
        super().__init__(open_in_memory(folder))
        self._folder = folder
        self.passed = 0
        """Bytes passed on so far."""
        self._freed = 0
        """Of the beginning, or of the middle, to here is nothing kept any more."""

    def size(self) -> int:
        """Bytes written so far. The program appends, so the shared position is free to move."""
        return os.lseek(self.fd, 0, os.SEEK_END)

    def held(self) -> int:
        """Bytes in memory."""
        return self.size() - max(self.spilled, self._freed)

    def clear(self) -> None:
        """Empty it for the next run."""
        os.ftruncate(self.fd, 0)
        if self.disk >= 0:
            os.close(self.disk)
            self.disk = -1
        self.passed = self.spilled = self._freed = 0

    def give_away(self) -> Pages:
        """What is in it, to be closed by who takes it; the next run gets a new file."""
        with contextlib.suppress(OSError):
            # A slow reader is to hold up no memory; what has no room on disk stays there.
            while self.held() >= _WAITING_BYTES:
                self.spill(_WAITING_BYTES)
        given = Pages(self.fd, self.disk, self.spilled)
        self.fd, self.disk = open_in_memory(self._folder), -1
        self.passed = self.spilled = self._freed = 0
        return given

    def renew(self) -> Pages:
        """A new file, for the next run; the old one is empty, and to be closed by who takes it."""
        self.clear()
        old = Pages(self.fd)
        self.fd = open_in_memory(self._folder)
        return old

    def tail(self) -> str:
        """The last `TAIL_BYTES`, as text."""
        size = self.size()
        start = max(0, size - TAIL_BYTES)
        raw = self.pread(TAIL_BYTES, start)
        return text_of_tail(raw + self.pread(TAIL_BYTES - len(raw), start + len(raw)), size)

    def end(self, size: int) -> str:
        """The last `END_BYTES` of its `size`, as text; from a full line on where that is not
        all."""
        if size <= END_BYTES:
            return self._text(0, size)
        mark = f"[... about {size - END_BYTES} bytes left out ...]"
        text = self._text(size - END_BYTES, END_BYTES)
        if "\n" in text[:-1]:
            return f"{mark}\n{text[text.index(chr(10)) + 1 :]}"
        # The end of a line must not look like a line, which may read as another number.
        return mark + text

    def kept(self, most: int = KEPT_BYTES) -> str:
        """All of it, or head and tail, as text."""
        size = self.size()
        if size <= most:
            return self._text(0, size)
        half = most // 2
        tail = self._text(size - half, half)
        line_end = "\n" if "\n" in tail[:-1] else ""
        left_out = f"\n[... {size - most} bytes left out ...]{line_end}"
        return self._text(0, half) + left_out + tail

    def _text(self, start: int, count: int) -> str:
        raw = b""
        while len(raw) < count and (piece := self.pread(count - len(raw), start + len(raw))):
            raw += piece
        return raw.decode(errors="replace")

    def free_passed(self) -> None:
        """Give what was passed on back, but for the tail."""
        self._free_to(self.passed - TAIL_BYTES, 0)

    def free_middle(self) -> None:
        """Give back what `kept` will leave out."""
        self._free_to(self.size() - KEPT_BYTES, KEPT_BYTES)

    def _free_to(self, end: int, start: int) -> None:
        start = max(self._freed, start) // _BLOCK * _BLOCK
        end = end // _BLOCK * _BLOCK
        if end - start >= PUNCH_BYTES:
            punch(self.fd, start, end - start)
            if self.disk >= 0:
                punch(self.disk, start, end - start)
            self._freed = end

    def spill(self, most: int = SPILL_BYTES) -> None:
        """Move a turn of what is in memory to disk, if that is `most` or more. OSError where
        there is no room: nothing is lost then."""
        size = self.size()
        start = max(self.spilled, self._freed)
        if size - start < most:
            return
        if self.disk < 0:
            self.disk = open_unlinked(self._folder)
        if self.spilled < start:
            # It is opened for append: what was passed on from memory becomes a hole.
            os.ftruncate(self.disk, start)
            self.spilled = start
        end = min(size, start + TURN_BYTES) // _BLOCK * _BLOCK
        try:
            while start < end:
                data = memoryview(os.pread(self.fd, min(_CHUNK, end - start), start))
                while data:
                    done = os.write(self.disk, data)
                    start += done
                    data = data[done:]
        except OSError:
            os.ftruncate(self.disk, self.spilled)
            raise
        punch(self.fd, self.spilled, start - self.spilled)
        self.spilled = start

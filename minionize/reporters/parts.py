"""The files of one minion's report: appended to, rotated, packed a piece at a time."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, Any

from minionize.beneath import Each, NotFollowed

if TYPE_CHECKING:
    from io import BufferedReader

RESULTS = "results"
"""The folder beside the parts with results that are too large for a line, a file each."""
ROTATE_BYTES = 8 * 1024 * 1024
PIECE_BYTES = 128 * 1024
"""What one step of packing reads: some 2 ms of work, so that no run waits for it."""


def part_name(minion: str, number: int) -> str:
    """The name of a part; packed ones have `.gz` appended. Numbers begin at 1."""
    return f"{minion}.{number:04d}.jsonl"


def roll_name(minion: str) -> str:
    """The name of a minion's roll-up."""
    return f"{minion}.roll"


class Parts:
    """The parts that one minion appends to. Methods raise OSError; a failed `append` leaves
    nothing of itself behind where that is possible."""

    def __init__(self, folder: str, minion: str, header: bytes, *, rotate_bytes: int) -> None:
        self._folder = folder
        self._place = Each(folder, follow=None)
        self._minion = minion
        self._header = header
        self._rotate_bytes = rotate_bytes
        self._number = 0
        self._descriptor = -1
        self._size = 0
        self._torn = False
        self._unpacked: list[int] = []
        self._packer: _Packer | None = None

    def append(self, lines: bytes) -> None:
        """Append whole lines to the current part; begin a new one when it is full."""
        if self._descriptor < 0:
            self._begin()
        if self._torn:
            # A write broke off and could not be cut away: end its line before ours.
            lines = b"\n" + lines
        self._write(lines)
        self._torn = False
        if self._size >= self._rotate_bytes:
            with contextlib.suppress(OSError):  # the lines are written, whatever close says
                self._end()
            self._unpacked.append(self._number)

    def gone(self) -> bool:
        """Whether the current part is no longer in the folder (it was removed)."""
        if self._descriptor < 0:
            return False
        try:
            there = self._place.stat(part_name(self._minion, self._number))
            return not os.path.samestat(there, os.fstat(self._descriptor))
        except FileNotFoundError:
            return True

    def forget(self) -> None:
        """Go on in a new part; what was rotated and not packed yet is left as it is."""
        self._end()
        self._unpacked.clear()
        if self._packer is not None:
            self._packer.abandon()
            self._packer = None

    def pack_piece(self) -> bool:
        """Pack a piece of a rotated part; False when there is nothing left to pack."""
        packer = self._packer
        if packer is None:
            if not self._unpacked:
                return False
            packer = _Packer(self._place, part_name(self._minion, self._unpacked.pop(0)))
        self._packer = None
        try:
            if not packer.step():
                self._packer = packer
        except OSError:
            # The part stays as it is, unpacked and readable.
            packer.abandon()
            raise
        return True

    def close(self) -> None:
        """Close the current part; `append` would begin a new one."""
        self._end()

    def _begin(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        number = self._number + 1
        name = part_name(self._minion, number)
        try:
            descriptor = self._place.open(name, flags)
        except FileNotFoundError:
            if self._number:
                # The folder vanished under us. Only it is made again: a queue that was
                # removed on purpose must not come back as a folder with a report in it.
                os.mkdir(self._folder)
            else:
                os.makedirs(self._folder, exist_ok=True)
            descriptor = self._place.open(name, flags)
        self._number = number
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self._torn = False
        try:
            # What stands there already broke off: a line of ours begins after it.
            self._write(b"\n" + self._header if self._size else self._header)
        except OSError:
            self._end()
            self._number -= 1
            raise

    def _write(self, lines: bytes) -> None:
        start = self._size
        try:
            left = memoryview(lines)
            while left:
                written = os.write(self._descriptor, left)
                self._size += written
                left = left[written:]
        except OSError:
            if self._size != start:
                try:
                    os.ftruncate(self._descriptor, start)
                    self._size = start
                except OSError:
                    self._torn = True
            raise

    def _end(self) -> None:
        if self._descriptor >= 0:
            # Gone, whatever the system says: a file system that was cut off complains.
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


class _Packer:
    """Packs one part: beside it first, then renamed, and only then is the plain one removed.

    So after a crash at any moment the plain part, the packed one, or both are there whole.
    """

    def __init__(self, place: Each, name: str) -> None:
        import zlib

        self._place = place
        self._name = name
        self._draft = f".{name}.gz.tmp"
        self._source: BufferedReader | None = None
        self._descriptor = -1
        # 31: a gzip header and trailer, as gunzip and zcat expect them.
        self._deflater: Any = zlib.compressobj(1, zlib.DEFLATED, 31)

    def step(self) -> bool:
        """Pack one piece; True when the part is packed and in place."""
        if self._source is None:
            self._source = open(self._place.open(self._name, os.O_RDONLY), "rb")  # noqa: SIM115
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            self._descriptor = self._place.open(self._draft, flags)
        piece = self._source.read(PIECE_BYTES)
        if piece:
            self._write(self._deflater.compress(piece))
            return False
        self._write(self._deflater.flush())
        os.fsync(self._descriptor)
        self._place.rename(self._draft, f"{self._name}.gz")
        self._close()
        self._place.unlink(self._name)
        return True

    def abandon(self) -> None:
        """Leave the part unpacked."""
        self._close()
        try:
            self._place.unlink(self._draft)
        except OSError:
            # It may be gone with its folder; a draft that stays is ignored by readers.
            return

    def _write(self, packed: bytes) -> None:
        left = memoryview(packed)
        while left:
            left = left[os.write(self._descriptor, left) :]

    def _close(self) -> None:
        if self._source is not None:
            self._source.close()
            self._source = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


_REMEDIES = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there",
    errno.EACCES: "have its owner give you the right to write there",
    errno.EPERM: "have its owner give you the right to write there",
}


class FolderStore(Parts):
    """All that one minion writes into the folder of a report: parts, and its roll-up."""

    def __init__(self, folder: str, minion: str, header: bytes, *, rotate_bytes: int) -> None:
        super().__init__(folder, minion, header, rotate_bytes=rotate_bytes)
        self.place = f"in {folder}"
        self.results_folder: str | None = os.path.join(folder, RESULTS)
        name = roll_name(minion)
        self._roll = name
        self._roll_draft = f".{name}.tmp"

    def remedy(self, error: OSError) -> str:
        """See json_lines.Store."""
        if isinstance(error, NotFollowed):
            # Its own words say what to do there.
            return "do that, or set REPORTER_JSON_DIRECTORY"
        return f"{_REMEDIES.get(error.errno or 0, 'mend that')} or set REPORTER_JSON_DIRECTORY"

    def write_roll(self, line: str) -> None:
        """Put this roll-up in the place of the last one."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        descriptor = self._place.open(self._roll_draft, flags)
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(line.encode())
        finally:
            os.close(descriptor)
        self._place.rename(self._roll_draft, self._roll)

    def keep(self, path: str) -> None:
        """Nothing to do: it was written into this folder."""

    def ending(self) -> None:
        """Nothing is ever put off."""

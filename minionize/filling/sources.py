"""Where params come from: a file, standard input or an open stream, as blocks of bytes.

gzip is known by its first bytes, whatever the name says, and unpacked on the way. Nothing
larger than a block is ever held.
"""

from __future__ import annotations

import os
import select
import stat
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

from minionize.errors import BadParam, UsageError
from minionize.filling.faults import shown

BLOCK = 1 << 16
STDIN = "-"

GZIP = b"\x1f\x8b"
PACKED = {
    b"PK\x03\x04": ("a zip archive", "unzip -p"),
    b"\xfd7zXZ\x00": ("packed with xz", "xz -dc"),
    b"\x28\xb5\x2f\xfd": ("packed with zstd", "zstd -dc"),
    # A level, then a block or, in an empty file, its end: a line of text may begin with BZh.
    **{
        b"BZh%d%s" % (level, behind): ("packed with bzip2", "bzip2 -dc")
        for level in range(1, 10)
        for behind in (b"1AY&SY", b"\x17rE8P\x90")
    },
}


def may_begin(head: bytes, *marks: bytes) -> bool:
    """Whether more must be read to tell if one of `marks` begins here: a producer may write one
    byte at a time."""
    return any(len(head) < len(mark) and mark.startswith(head) for mark in marks)


class Source:
    """One input. `open_source` makes it; it is read once, through `blocks()`."""

    def __init__(
        self, name: str, read: Callable[[int], bytes], fd: int | None, own: bool = False
    ) -> None:
        self.name = name
        """For messages."""
        self.taken = 0
        """Bytes read so far, as they stand in the file."""
        self.size: int | None = None
        """Bytes in all; None for a pipe."""
        self.on_idle: Callable[[], None] | None = None
        """Called about each second while a pipe has nothing to read."""
        self.on_bytes: Callable[[bytes], object] | None = None
        """Sees each block as it stands in the file (for a hash of the contents)."""
        self._read = read
        self._fd = fd
        self._own = own
        if fd is not None:
            status = os.fstat(fd)
            if stat.S_ISREG(status.st_mode):
                self.size = status.st_size

    @property
    def is_file(self) -> bool:
        """A regular file: all of it is there. Otherwise its producer may be slow."""
        return self.size is not None

    def ready(self, wait_s: float) -> bool:
        """Whether a read would return at once, waiting at most `wait_s` for that."""
        if self._fd is None or self.is_file:
            return True
        poll = select.poll()
        poll.register(self._fd, select.POLLIN | select.POLLHUP | select.POLLERR)
        return bool(poll.poll(max(0.0, wait_s) * 1000))

    def blocks(self) -> Iterator[bytes]:
        """The contents, unpacked; blocks are never empty. BadParam for broken gzip."""
        head = self._next()
        while head and may_begin(head, GZIP, *PACKED):
            more = self._next()
            if not more:
                break
            head += more
        if head.startswith(GZIP):
            yield from self._unzipped(head)
            return
        for magic, (what, unpack) in PACKED.items():
            if head.startswith(magic):
                raise BadParam(
                    f"{shown(self.name)} is {what}: unpack it on the way, "
                    f"{unpack} FILE | minion feed -"
                )
        while head:
            yield head
            head = self._next()

    def raw_blocks(self) -> Iterator[bytes]:
        """The contents as they stand there, whatever they begin with."""
        while block := self._next():
            yield block

    def close(self) -> None:
        """Close what was opened here. May be repeated."""
        if self._own and self._fd is not None:
            os.close(self._fd)
            self._fd, self._own = None, False

    def _next(self) -> bytes:
        while self.on_idle is not None and not self.ready(1.0):
            self.on_idle()
        try:
            block = self._read(BLOCK)
        except IsADirectoryError:
            raise _folder(self.name) from None
        except OSError as error:
            raise UsageError(
                f"{shown(self.name)}: cannot be read ({error.strerror}): try it again"
            ) from error
        self.taken += len(block)
        if self.on_bytes is not None:
            self.on_bytes(block)
        return block

    def _unzipped(self, packed: bytes) -> Iterator[bytes]:
        name = shown(self.name)
        member = zlib.decompressobj(wbits=31)
        while packed:
            try:
                # Bounded: a block of zeros may unpack to a thousand times its size.
                block = member.decompress(packed, BLOCK)
            except zlib.error as error:
                raise BadParam(f"{name}: broken gzip ({error}): pack or copy it anew") from error
            if block:
                yield block
            if member.eof:
                # A second member may follow (cat a.gz b.gz), and padding with zeros before it.
                packed = member.unused_data or self._next()
                while packed and not packed.lstrip(b"\0"):
                    packed = self._next()
                packed = packed.lstrip(b"\0")
                if packed:
                    member = zlib.decompressobj(wbits=31)
            else:
                packed = member.unconsumed_tail or self._next()
        if not member.eof:
            raise BadParam(f"{name}: the gzip ends in the middle: pack or copy it anew")


def open_source(source: str | os.PathLike[str] | BinaryIO) -> Source:
    """Open a path, `-` (standard input) or an open binary stream. UsageError names what fails."""
    if source == STDIN:
        try:
            return Source("standard input", lambda size: os.read(0, size), 0)
        except OSError:
            raise UsageError("standard input is closed: name a FILE") from None
    if not isinstance(source, (str, os.PathLike)):
        name = getattr(source, "name", None)
        read = getattr(source, "read1", source.read)
        return Source(name if isinstance(name, str) else "the stream", read, None)
    path = os.fspath(source)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise UsageError(f"{shown(path)}: no such file") from None
    except IsADirectoryError:
        raise _folder(path) from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"{shown(path)}: cannot be read ({why})") from error
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        os.close(fd)
        raise _folder(path)
    return Source(path, lambda size: os.read(fd, size), fd, own=True)


def _folder(name: str) -> UsageError:
    return UsageError(f"{shown(name)} is a folder: name the files in it")

"""A file that the user asked for (`--stdout`): beside its place until the run ended well.

The program writes it itself, and a program that does not look whether its writes work ends with 0
on a full disk. So room is reserved ahead of what is written: no write within it can fail for lack
of room. Whether all was written is certain then, whatever the disk was like in between.

A program that outruns what is reserved is believed where the disk has plenty of room. On a disk
that is nearly full it is not: its param is run again, and as much is reserved as it wrote. A file
system that reserves nothing (NFS before 4.2) leaves only the question whether there is room now.
"""

from __future__ import annotations

import contextlib
import errno
import os

from minionize.worker.output import KEEP_SIZE, above_standard, fallocate, read_tail
from minionize.worker.room import is_no_room

RESERVE_BYTES = 1024 * 1024
"""So much is reserved at first, or less where that is all there is."""
_LITTLE_BYTES = 64 * 1024
_BLOCK = 4096
_MOST_BYTES = 64 * 1024 * 1024
"""So much ahead of a program that writes quickly."""
_FULL_BYTES = 1024 * 1024
"""A disk with less room than this is full, where nothing can be reserved."""
_PLENTY_BYTES = 256 * 1024 * 1024
"""With more room than this at each look, it was there between the looks as well."""
_OWNER = "user.minionize.param"
_FAILED = "user.minionize.failed"
_KNOWN_MOST = 100_000


class _First:
    """What is reserved at first: twice as much as a run wrote that outran it."""

    bytes = RESERVE_BYTES


_first = _First()


class Draft:
    """The file of one stream of one run."""

    def __init__(self, path: str, mark: str) -> None:
        """Makes the folders too. OSError if that can't be, or there is no room at all."""
        self.path = os.path.abspath(path)
        folder, name = os.path.split(self.path)
        os.makedirs(folder, exist_ok=True)
        self._draft = os.path.join(folder, f".{name[:160]}.{mark}.part")
        flags = os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
        self.fd = above_standard(os.open(self._draft, flags, 0o666))
        self._reserved = 0
        """Up to here no write can have failed."""
        self._step = RESERVE_BYTES
        self._outrun = False
        self._can_reserve = True
        self._shortage: OSError | None = None
        try:
            for count in (_first.bytes, RESERVE_BYTES, _LITTLE_BYTES, _BLOCK):
                if self._can_reserve and not self._reserved:
                    self._reserve(0, count)
            if self._can_reserve and not self._reserved and self._shortage is not None:
                raise self._shortage
            self._shortage = None
            self._free = self._room()
        except OSError as error:
            self.drop()
            error.filename = self.path
            raise

    def tick(self) -> None:
        """Keep ahead of the program."""
        if not self._can_reserve:
            return
        size = os.fstat(self.fd).st_size
        if size < self._reserved - self._step // 2:
            return
        self._step = min(_MOST_BYTES, 2 * self._step)
        if size < self._reserved and not self._outrun:
            # From where it ends, so that nothing of it is without room.
            self._reserve(self._reserved, size + self._step - self._reserved)
        else:
            # A write may have failed, and nothing is certain any more.
            self._outrun = True
            self._free = min(self._free, self._room())

    def shortage(self) -> OSError | None:
        """Why it may not be whole; None if it is, as far as can be known. Call it when nothing
        writes any more."""
        status = os.fstat(self.fd)
        size = status.st_size
        if self._can_reserve:
            # A program that truncates its output gives back what was reserved.
            if not self._outrun and size < self._reserved <= 512 * status.st_blocks:
                return None
            _first.bytes = min(_MOST_BYTES, max(_first.bytes, 2 * size))
            if self._shortage is None:
                self._reserve(size, _BLOCK)
            if self._shortage is not None:
                return self._shortage
            least = _PLENTY_BYTES
        else:
            least = _FULL_BYTES
        if min(self._free, self._room()) < least:
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
        return None

    def _room(self) -> int:
        """Bytes that are free."""
        there = os.fstatvfs(self.fd)
        return there.f_bavail * there.f_frsize

    def _reserve(self, start: int, count: int) -> None:
        try:
            fallocate(self.fd, KEEP_SIZE, start, count)
        except OSError as error:
            if is_no_room(error):
                error.filename = self.path
                self._shortage = error
            else:
                self._can_reserve = False
            return
        self._reserved = max(self._reserved, start + count)

    def tail(self) -> str:
        """The last of it, as text."""
        return read_tail(self.fd, os.fstat(self.fd).st_size)

    def keep(self, owner: str) -> str:
        """Put it in its place, whole and durable. OSError if that can't be.

        `owner`: the campaign, a blank, and the id of the param. Returns the id of another param
        of the campaign whose file was there; empty if there was none.
        """
        before = _owners.replace(self.path, self.fd, owner)
        # Without what was reserved and not used.
        os.ftruncate(self.fd, os.fstat(self.fd).st_size)
        os.fsync(self.fd)
        os.replace(self._draft, self.path)
        os.close(self.fd)
        campaign, _, id_ = before.partition(" ")
        return id_ if before != owner and campaign == owner.partition(" ")[0] else ""

    def keep_failed(self) -> None:
        """Put it beside its place, as FILE.failed, if there is anything in it."""
        with contextlib.suppress(OSError):
            size = os.fstat(self.fd).st_size
            if size:
                os.ftruncate(self.fd, size)
                with contextlib.suppress(OSError):
                    os.setxattr(self.fd, _FAILED, b"1")
                os.replace(self._draft, failed(self.path))
        self.drop()

    def drop_failed(self, *, known: bool) -> None:
        """Remove what an attempt that failed left. `known`: there was one. After `minion retry`
        attempts count from 1 again: then only a file that a minion marked is one."""
        path = failed(self.path)
        with contextlib.suppress(OSError):
            if known or os.getxattr(path, _FAILED):
                os.unlink(path)

    def drop(self) -> None:
        """Remove it."""
        with contextlib.suppress(OSError):
            os.unlink(self._draft)
        os.close(self.fd)


class _Owners:
    """Which param wrote a file: an extended attribute of it, so it takes no memory, and all
    minions see it. Where a file system has none, what this process wrote is known, up to a limit.
    """

    def __init__(self) -> None:
        self._known: dict[int, str] = {}

    def replace(self, path: str, fd: int, owner: str) -> str:
        """The new file `fd`, which will be at `path`, is this owner's: whose the old one was."""
        before = ""
        with contextlib.suppress(OSError):
            before = os.getxattr(path, _OWNER).decode(errors="replace")
        try:
            os.setxattr(fd, _OWNER, owner.encode())
        except OSError:
            key = hash(path)
            before = before or self._known.get(key, "")
            if len(self._known) < _KNOWN_MOST:
                self._known[key] = owner
        return before


_owners = _Owners()


def failed(path: str) -> str:
    """Where the output of an attempt that failed is kept."""
    folder, name = os.path.split(path)
    return os.path.join(folder, os.fsdecode(os.fsencode(name)[:248]) + ".failed")

"""Every system call of the file engine, and nothing else.

One small class, so that tests can put a simulated, counting or crashing one in its place, and
so that what a param costs can be counted. Everything raises OSError as the system does.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from minionize.beneath import Anywhere, Beneath
from minionize.values import Clock, SystemClock

if TYPE_CHECKING:
    from minionize.engines.file.alarm import Alarm

T = TypeVar("T")

_FLOCK = "hhqqi0q"
"""struct flock of 64-bit Linux: type, whence, start, length, pid."""


def _get_lock(fd: int, asked: bytes) -> bytes:
    return fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked)


class Calls:
    """The system calls, counted. Subclasses override `_call` to look at or stop each."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock: Clock = clock or SystemClock()
        self.counts: dict[str, int] = {}
        self.bytes_read = 0
        self.bytes_written = 0
        self._alarm: Alarm | None = None
        self._beneath: Beneath | None = None
        self._prefix = "\0"

    def keep_beneath(self, root: str) -> None:
        """From now on what stands beneath this folder is reached from it, held open, and by no
        link: others may write there."""
        if root != os.sep:  # beneath which everything is, the system's own links with it
            self._beneath, self._prefix = Beneath(root), f"{root.rstrip('/')}/"

    def let_go_of_root(self, *, made_anew: bool = False) -> None:
        """Close the folder; what is asked next opens it again. `made_anew`: or another that is
        made in its place, on purpose."""
        if self._beneath is not None:
            self._beneath.let_go(made_anew=made_anew)

    def _at(self, path: str) -> tuple[Beneath | type[Anywhere], str]:
        """Where `path` is reached from, and the path from there."""
        if self._beneath is None or not path.startswith(self._prefix):
            return Anywhere, path
        return self._beneath, path[len(self._prefix) :]

    @property
    def total(self) -> int:
        """How many system calls were made (clocks, which cost none, are not among them)."""
        return sum(self.counts.values())

    @property
    def lock_trips(self) -> int:
        """How often the queue's lock was asked for."""
        return self.counts.get("lock", 0)

    def _call(self, name: str, act: Callable[..., T], *given: Any) -> T:
        self.counts[name] = self.counts.get(name, 0) + 1
        return act(*given)

    # ---- files
    def open(self, path: str, *, write: bool = False, create: bool = False) -> int:
        """A descriptor that no program inherits; `create` makes the file if it is missing."""
        flags = os.O_CLOEXEC | (os.O_RDWR if write else os.O_RDONLY) | (os.O_CREAT if create else 0)
        return self._call("open", self._open_at, path, flags, 0o666)

    def open_new(self, path: str) -> int:
        """A new, empty file; FileExistsError when the name is taken."""
        flags = os.O_CLOEXEC | os.O_RDWR | os.O_CREAT | os.O_EXCL
        return self._call("open_new", self._open_at, path, flags, 0o666)

    def open_append(self, path: str) -> int:
        """For lines that are added at the end."""
        flags = os.O_CLOEXEC | os.O_WRONLY | os.O_CREAT | os.O_APPEND
        return self._call("open_append", self._open_at, path, flags, 0o666)

    def _open_at(self, path: str, flags: int, mode: int) -> int:
        place, inner = self._at(path)
        return place.open(inner, flags, mode)

    def close(self, fd: int) -> None:
        """Let go of a descriptor."""
        self._call("close", os.close, fd)

    def let_go(self, fd: int) -> None:
        """Close what is of no use any more. The descriptor is gone whatever the system says (a
        network file system that was cut off complains), and what counts was synced before."""
        with contextlib.suppress(OSError):
            self.close(fd)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        """At most `size` bytes; fewer only at the end of the file."""
        found = self._call("pread", os.pread, fd, size, offset)
        self.bytes_read += len(found)
        while found and len(found) < size:
            done = len(found)
            more = self._call("pread", os.pread, fd, size - done, offset + done)
            if not more:
                break
            self.bytes_read += len(more)
            found += more
        return found

    def pwrite(self, fd: int, content: bytes, offset: int) -> None:
        """All of `content`, at `offset`."""
        written = self._call("pwrite", os.pwrite, fd, content, offset)
        self.bytes_written += written
        while written < len(content):
            rest, at = content[written:], offset + written
            step = self._call("pwrite", os.pwrite, fd, rest, at)
            self.bytes_written += step
            written += step

    def append(self, fd: int, content: bytes) -> None:
        """All of `content` at the end of a file opened by `open_append`."""
        while content:
            written = self._call("append", os.write, fd, content)
            self.bytes_written += written
            content = content[written:]

    def sync(self, fd: int) -> None:
        """What was written is on the disk, or on the server, when this returns."""
        self._call("fdatasync", os.fdatasync, fd)

    def forget(self, fd: int) -> None:
        """Drop what this host has cached of the file, so that the next read asks the server."""
        self._call("fadvise", os.posix_fadvise, fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def size(self, fd: int) -> int:
        """The length of an open file in bytes."""
        return self._call("fstat", os.fstat, fd).st_size

    def is_removed(self, fd: int) -> bool:
        """Whether an open file has no name any more. Renamed files have one."""
        return self._call("fstat", os.fstat, fd).st_nlink == 0

    def same_file(self, path: str, other: str) -> bool:
        """Whether two names are one file."""
        return self._call("stat", self._are_same, path, other)

    def _are_same(self, path: str, other: str) -> bool:
        one, two = (place.stat(inner) for place, inner in map(self._at, (path, other)))
        return os.path.samestat(one, two)

    def device(self, path: str) -> str:
        """`major:minor` of the device that holds `path`."""
        found = self._call("stat", os.stat, path).st_dev
        return f"{os.major(found)}:{os.minor(found)}"

    def changed_at(self, path: str) -> float:
        """When the file was written last, by the clock of the host that wrote it."""
        place, inner = self._at(path)
        return self._call("stat", lambda _: place.stat(inner), path).st_mtime

    # ---- names
    def exists(self, path: str) -> bool:
        """Whether the name is there. A link in a queue is, wherever it leads: opening it fails."""
        place, inner = self._at(path)
        return self._call("access", lambda *_: place.exists(inner), path, os.F_OK)

    def mkdir(self, path: str) -> None:
        """A folder, with the rights that umask and a setgid parent give; there already is well."""
        place, inner = self._at(path)
        try:
            self._call("mkdir", lambda _: place.mkdir(inner), path)
        except FileExistsError:
            return

    def rmdir(self, path: str) -> None:
        """Remove an empty folder."""
        place, inner = self._at(path)
        self._call("rmdir", lambda _: place.rmdir(inner), path)

    def link(self, source: str, target: str) -> None:
        """A second name; FileExistsError when the target is taken."""
        (place, one), (_, two) = self._at(source), self._at(target)
        self._call("link", lambda *_: place.link(one, two), source, target)

    def rename(self, source: str, target: str) -> None:
        """Rename, over what is there."""
        (place, one), (_, two) = self._at(source), self._at(target)
        self._call("rename", lambda *_: place.rename(one, two), source, target)

    def unlink(self, path: str) -> None:
        """Remove a name."""
        place, inner = self._at(path)
        self._call("unlink", lambda _: place.unlink(inner), path)

    def names(self, path: str) -> list[str]:
        """The names in a folder."""
        place, inner = self._at(path)
        return self._call("listdir", lambda _: place.names(inner), path)

    def sync_folder(self, path: str) -> None:
        """The folder's names are on the disk when this returns."""
        place, inner = self._at(path)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        fd = self._call("open", lambda *_: place.folder(inner), path, flags)
        try:
            self._call("fsync_folder", os.fsync, fd)
        finally:
            self.close(fd)

    def remove_tree(self, path: str) -> None:
        """Remove a folder in a queue and all in it, as far as it can be."""
        place, inner = self._at(path)
        self._call("remove_tree", lambda _: place.remove_tree(inner), path)

    def read_whole(self, path: str) -> bytes:
        """A small file, from the server rather than from this host's cache."""
        fd = self.open(path)
        try:
            self.forget(fd)
            parts: list[bytes] = []
            at = 0
            while True:
                part = self.pread(fd, 1 << 16, at)
                if not part:
                    return b"".join(parts)
                parts.append(part)
                at += len(part)
        finally:
            self.close(fd)

    # ---- locks: of the open file description, so that no other close in this process drops them
    def lock(self, fd: int) -> bool:
        """Take the write lock without waiting; False when another process has it."""
        try:
            self._call("lock", self._set_lock, fd, fcntl.F_WRLCK)
        except (BlockingIOError, PermissionError):
            return False  # EAGAIN or EACCES: taken
        return True

    @property
    def has_line(self) -> bool:
        """Whether there is a line to stand in: not where time is a test's."""
        return type(self.clock) is SystemClock

    def lock_in_line(self, fd: int, within_s: float) -> bool | None:
        """Take the write lock in the kernel's line of those that wait for it, which is one for
        each host; False when it was not our turn in time. None where there is no standing in
        line, since SIGALRM belongs to other code."""
        if self._alarm is None:
            # Most never wait for so long.
            from minionize.engines.file.alarm import Alarm

            self._alarm = Alarm()
        taken: bool | None = False
        try:
            taken = self._alarm.within(
                within_s, lambda: self._call("lock", self._set_lock, fd, fcntl.F_WRLCK, True)
            )
        finally:
            if taken is False:  # it may have been just before
                self.unlock(fd)
        return taken

    def unlock(self, fd: int) -> None:
        """Release the lock; network file systems write back first."""
        self._call("unlock", self._set_lock, fd, fcntl.F_UNLCK)

    def is_locked(self, fd: int) -> bool:
        """Whether another process holds the lock, without taking it."""
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
        found = self._call("getlock", _get_lock, fd, asked)
        return bool(struct.unpack(_FLOCK, found)[0] != fcntl.F_UNLCK)

    @staticmethod
    def _set_lock(fd: int, kind: int, wait: bool = False) -> None:
        how = fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK
        fcntl.fcntl(fd, how, struct.pack(_FLOCK, kind, os.SEEK_SET, 0, 1, 0))

    # ---- processes
    def kernel(self) -> str:
        """What tells apart running kernels, and on one of them those who see other process
        numbers; empty where it can't be told."""
        try:
            boot = self.read_whole("/proc/sys/kernel/random/boot_id").decode().strip()
            return f"{boot} {self._call('readlink', os.readlink, '/proc/self/ns/pid')}"
        except OSError:
            return ""

    def is_running(self, pid: int) -> bool:
        """Whether there is a process of that number on this host, not yet dead."""
        try:
            return self.read_whole(f"/proc/{pid}/stat").rpartition(b")")[2].split()[0] not in b"ZX"
        except (OSError, IndexError):
            return False

    # ---- time
    def monotonic(self) -> float:
        """Seconds since some moment."""
        return self.clock.monotonic()

    def time(self) -> float:
        """Unix time."""
        return self.clock.time()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        self.clock.sleep(seconds)

    def jitter(self) -> float:
        """A number from 0 to 1, different in each process, without the cost of `random`."""
        return ((time.monotonic_ns() // 97 + os.getpid() * 7919) * 2654435761 % 65536) / 65535

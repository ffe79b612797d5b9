"""Where a run's output goes: unlinked files, and from there to the minion's own output.

A program writes into a file without a name, so it never waits for us and we never keep its
output in memory. What is passed on can be punched out of the file, so that a program that floods
takes no more disk than the reader is behind.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import itertools
import os
import select
import stat
from collections.abc import Callable, Mapping
from typing import Any

CHUNK = 256 * 1024
UNREAD = "nobody reads it any more"
TURN_BYTES = 16 * 1024 * 1024
"""So much is passed on at once; then the loop looks after leases before it goes on."""
TAIL_BYTES = 2048
"""Of stderr, kept for a failure."""
KEPT_BYTES = 64 * 1024
"""Of captured output: what is longer keeps its head and its tail, half of this each."""
PUNCH_BYTES = 4 * 1024 * 1024
"""Space is given back to the disk in pieces of at least this."""
KEEP_SIZE = 0x01
"""A mode of `fallocate`: what is reserved is no part of the file yet."""
_PUNCH_HOLE = 0x02
_BLOCK = 4096
_names = itertools.count()


def spool_folder(env: Mapping[str, str]) -> str:
    """Where files without a name can be made."""
    for folder in (env.get("TMPDIR", ""), "/tmp", "/var/tmp", "."):
        if folder and os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK):
            return os.path.abspath(folder)
    return "."


def open_unlinked(folder: str) -> int:
    """A descriptor (3 or more) of a new file without a name in `folder`, for append."""
    try:
        fd = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_APPEND, 0o600)
    except (AttributeError, OSError):
        # This file system knows no O_TMPFILE.
        path = os.path.join(folder, f".minion-{os.getpid()}-{next(_names)}")
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.unlink(path)
    return above_standard(fd)


def above_standard(fd: int) -> int:
    """`fd`, moved to 3 or more where the minion itself was started without 0, 1 or 2."""
    if fd > 2:
        return fd
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(fd)
    return moved


class Spool:
    """The file that one stream of one slot writes to."""

    __slots__ = ("_folder", "_punched", "fd", "passed")

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.fd = open_unlinked(folder)
        self.passed = 0
        """Bytes passed on so far."""
        self._punched = 0

    def size(self) -> int:
        """Bytes written so far. The program appends, so the shared position is free to move."""
        return os.lseek(self.fd, 0, os.SEEK_END)

    def clear(self) -> None:
        """Empty it for the next run."""
        os.ftruncate(self.fd, 0)
        self.passed = self._punched = 0

    def give_away(self) -> int:
        """The descriptor, to be closed by who takes it; the next run gets a new file."""
        fd, self.fd = self.fd, open_unlinked(self._folder)
        self.passed = self._punched = 0
        return fd

    def tail(self) -> str:
        """The last `TAIL_BYTES`, as text."""
        return read_tail(self.fd, self.size())

    def kept(self) -> str:
        """All of it, or head and tail, as text."""
        size = self.size()
        if size <= KEPT_BYTES:
            return os.pread(self.fd, KEPT_BYTES, 0).decode(errors="replace")
        half = KEPT_BYTES // 2
        head = os.pread(self.fd, half, 0).decode(errors="replace")
        tail = os.pread(self.fd, half, size - half).decode(errors="replace")
        return f"{head}\n[... {size - KEPT_BYTES} bytes left out ...]\n{tail}"

    def free_passed(self) -> None:
        """Give what was passed on back to the disk, but for the tail."""
        self._punch_to(self.passed - TAIL_BYTES, 0)

    def free_middle(self) -> None:
        """Give back what `kept` will leave out."""
        self._punch_to(self.size() - KEPT_BYTES, KEPT_BYTES)

    def _punch_to(self, end: int, start: int) -> None:
        start = max(self._punched, start) // _BLOCK * _BLOCK
        end = end // _BLOCK * _BLOCK
        if end - start >= PUNCH_BYTES:
            punch(self.fd, start, end - start)
            self._punched = end

    def close(self) -> None:
        """Let go of the file."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def read_tail(fd: int, size: int) -> str:
    """The last `TAIL_BYTES` of a file of `size` bytes, as text from a full line on."""
    if not size:
        return ""
    return text_of_tail(os.pread(fd, TAIL_BYTES, max(0, size - TAIL_BYTES)), size)


def text_of_tail(raw: bytes, size: int) -> str:
    """The end of something of `size` bytes, as text from a full line on."""
    text = raw.decode(errors="replace")
    if size > TAIL_BYTES and "\n" in text[:-1]:
        text = text[text.index("\n") + 1 :]
    return text


def punch(fd: int, start: int, length: int) -> None:
    """Free the disk space of a part of a file; its size stays. Where the file system can't, it
    is left as it is: the file is gone when the run ends."""
    with contextlib.suppress(OSError):
        fallocate(fd, KEEP_SIZE | _PUNCH_HOLE, start, length)


def fallocate(fd: int, mode: int, start: int, length: int) -> None:
    """The system call, which Python has without modes alone. OSError where it fails, or is not
    there."""
    import ctypes

    library = _library()
    # musl has the second alone, and there its numbers have 64 bits as well.
    call = getattr(library, "fallocate64", None) or getattr(library, "fallocate", None)
    if call is None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    if call(fd, mode, ctypes.c_int64(start), ctypes.c_int64(length)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@functools.cache
def _library() -> Any:
    # Slow to import, and only a flood, --stdout and --stderr need it.
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


class Sink:
    """The minion's own stdout or stderr. Never blocks on a reader that is slow: then leases
    would be lost."""

    def __init__(
        self,
        fd: int,
        name: str,
        on_closed: Callable[[str], None],
        before: Callable[[], None] | None = None,
    ) -> None:
        """`on_closed` is called once, with what is wrong, when nothing can be written any more;
        `before` before anything is written."""
        self.name = name
        self.fd = fd
        self.closed = False
        """Nothing can be written (any more)."""
        self.lost = False
        """It was open once, so what is not written is missing."""
        self.unread = False
        """It was lost because it has no reader any more, as behind `| head`."""
        self.blocked = False
        self._on_closed = on_closed
        self._before = before
        self._reopened = -1
        self._piece = CHUNK
        try:
            mode = os.fstat(fd).st_mode
        except OSError:
            # Started without it: that is what was asked for.
            self.closed = True
            return
        if not (stat.S_ISREG(mode) or mode == os.stat(os.devnull).st_mode):
            self._make_patient(fd)

    def _make_patient(self, fd: int) -> None:
        """Writes must not block. O_NONBLOCK on `fd` itself would be shared with the shell and
        all others that have it, so the pipe or terminal is opened anew."""
        try:
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY
            self._reopened = self.fd = above_standard(os.open(f"/proc/self/fd/{fd}", flags))
        except OSError:
            # A socket, or a pipe of another user: ask before each small piece.
            self._piece = select.PIPE_BUF

    def write(self, data: memoryview | bytes) -> int:
        """Write what goes without waiting; how many bytes. 0 with `blocked` or `closed` set."""
        if self.closed:
            return len(data)
        try:
            if self._piece < CHUNK and not _writable(self.fd):
                self.blocked = True
                return 0
            done = os.write(self.fd, data[: self._piece])
            self.blocked = False
            return done
        except BlockingIOError:
            self.blocked = True
            return 0
        except OSError as error:
            # The reader went away, or the disk of a file is full.
            self.closed = self.lost = True
            self.unread = isinstance(error, BrokenPipeError)
            self.blocked = False
            why = UNREAD if self.unread else os.strerror(error.errno or 0)
            self._on_closed(f"{self.name}: {why}")
            return len(data)

    def pass_on(self, fd: int, start: int, end: int) -> int:
        """Copy this part of a file, as far as goes without waiting; returns how far."""
        return self.pass_from(lambda count, at: os.pread(fd, count, at), start, end)

    def pass_from(self, pread: Callable[[int, int], bytes], start: int, end: int) -> int:
        """The same of what `pread(count, start)` gives."""
        stop = min(end, start + TURN_BYTES)
        if self._before is not None and start < stop and not self.closed:
            self._before()
        while start < stop:
            data = pread(min(CHUNK, stop - start), start)
            if not data:
                break
            done = self.write(data)
            start += done
            if done < len(data) and (self.blocked or not done):
                break
        return start

    def close(self) -> None:
        """Let go of what was opened anew."""
        if self._reopened >= 0:
            os.close(self._reopened)
            self._reopened = -1
            self.closed = True


def _writable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(0))

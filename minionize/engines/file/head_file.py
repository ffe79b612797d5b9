"""The head as a file: locked, read through the descriptor that holds the lock, written whole."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import wraps
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, TypeVar

from minionize.beneath import NotFollowed
from minionize.engines.file import head as layout
from minionize.engines.file.calls import Calls
from minionize.engines.file.head import Glimpse, Head
from minionize.engines.file.locking import LockWait
from minionize.errors import (
    EngineUnavailable,
    ForeignVersion,
    HostUnfit,
    NoSuchQueue,
    QueueDamaged,
    UsageError,
    no_locks,
)

if TYPE_CHECKING:
    from typing import Concatenate, ParamSpec

    P = ParamSpec("P")

T = TypeVar("T")


class Face(Protocol):
    """One of the engine's two faces."""

    url: str


Facing = TypeVar("Facing", bound=Face)

REMOVED_EVERY_S = 1.0
"""So often at most a visit asks whether the queue was removed: an open file outlives its name."""
MAX_HELD_S = 10.0
"""A process that held the lock for longer writes nothing: a server may have given it to another."""


def unavailable(
    error: OSError, doing: str, path: str
) -> EngineUnavailable | UsageError | HostUnfit:
    """What an OSError means to a person."""
    if isinstance(error, NotFollowed):
        return UsageError(f"{doing} {error.filename}: {error.strerror}")
    if error.errno == errno.EFBIG:
        return HostUnfit(
            f"{doing} {path}: {error.strerror}: larger files are needed than the limit here: "
            "raise ulimit -f"
        )
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return EngineUnavailable(
            f"{doing} {path}: {error.strerror}: raise ulimit -n, or take fewer slots"
        )
    if error.errno == errno.EISDIR:
        return UsageError(f"{doing} {path}: a folder stands in its place: remove it")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return EngineUnavailable(
            f"{doing} {path}: the disk is full (or a quota is): free some space"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return UsageError(
            f"{doing} {path}: {error.strerror}: you need the right to write there "
            "(for a group, a setgid folder and umask 002)"
        )
    if error.errno in (errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP):
        return UsageError(f"{doing} {path}: {error.strerror}: name another folder")
    return EngineUnavailable(f"{doing} {path}: {error.strerror or error}: is its disk reachable?")


def at_the_edge(method: Callable[Concatenate[Facing, P], T]) -> Callable[Concatenate[Facing, P], T]:
    """Only MinionizeErrors leave the engine: what slipped through is named by its file."""

    @wraps(method)
    def translated(self: Facing, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(self, *args, **kwargs)
        except OSError as error:
            raise unavailable(error, "cannot use", error.filename or self.url) from error

    return translated


class HeadFile:
    """`with head_file as head:` is one locked visit; `write` inside it commits what changed."""

    def __init__(
        self,
        calls: Calls,
        path: str,
        *,
        shared: bool,
        patience_s: float = 10.0,
        on_and_on: bool = False,
    ) -> None:
        self._calls = calls
        self.path = path
        self.patience_s = patience_s
        """How long a visit waits for the lock before it is LockTaken."""
        self._on_and_on = on_and_on
        """Wait on after that while others write."""
        self._wait = LockWait(calls, path, self._written, in_line=not shared)
        self._hurry_s: float | None = None
        """How long the next visit waits, where that is less."""
        self._shared = shared
        """Another host may write it: what this one has cached can be old."""
        self._fd = -1
        self._head: Head | None = None
        self._target = 0
        self._locked_at = 0.0
        self._has_locks = False
        """Whether a lock was got here before."""
        self._there_until = 0.0
        self._behind_s = 0.0
        """How far this host's clock is behind the one that is ahead of all others."""
        self._sequence = 0
        """Of the head as the last visit left it."""
        self.wrote = False
        """Whether the last visit committed anything."""

    def hurry(self, patience_s: float) -> None:
        """The next visit is LockTaken after so long: the caller has other things to do."""
        self._hurry_s = patience_s

    def __enter__(self) -> Head:
        self._lock()
        try:
            self._head = self._read()
        except BaseException:  # Ctrl-C as well
            self._unlock()
            raise
        self.wrote = False
        return self._head

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._head = None
        self._unlock()

    def time(self) -> float:
        """Unix time that all agree on: the clock of that host whose is ahead. A delay that one
        host begins must not be over at once on another."""
        return self._calls.time() + self._behind_s

    # ---- the lock
    def _open(self) -> int:
        if self._fd < 0:
            try:
                self._fd = self._calls.open(self.path, write=True)
            except FileNotFoundError as error:
                raise NoSuchQueue(
                    f"no queue here: {self.path} is missing: feed it first"
                ) from error
            except OSError as error:
                raise unavailable(error, "cannot open", self.path) from error
        return self._fd

    def _lock(self) -> None:
        calls = self._calls
        hurry_s, self._hurry_s = self._hurry_s, None
        patience_s = self.patience_s if hurry_s is None else min(hurry_s, self.patience_s)
        fd = self._open()
        try:
            if not calls.lock(fd):
                self._wait.get(fd, patience_s, on_and_on=self._on_and_on and hurry_s is None)
        except OSError as error:
            self.close()
            # Where there were locks before, their service is away for a while.
            absent = None if self._has_locks else no_locks(error, self.path)
            raise absent or unavailable(error, "cannot lock", self.path) from error
        self._has_locks = True
        self._locked_at = calls.monotonic()

    def _unlock(self) -> None:
        if self._fd < 0:
            return
        try:
            self._calls.unlock(self._fd)
        except OSError:
            # Closing releases it too. The visit's own outcome stands: it was synced.
            self.close()

    # ---- reading
    def _read(self) -> Head:
        try:
            if self._shared:
                # FUSE clients serve what they cached, lock or no lock.
                self._calls.forget(self._fd)
            content = self._calls.pread(self._fd, layout.SLOTS_AT, 0)
            removed = False
            if self._locked_at >= self._there_until:
                removed = self._calls.is_removed(self._fd)
                self._there_until = self._locked_at + REMOVED_EVERY_S
        except OSError as error:
            self.close()
            raise unavailable(error, "cannot read", self.path) from error
        if removed:
            self.close()
            raise NoSuchQueue(
                f"{self.path} was removed while it was in use: feed a new queue, and start again"
            )
        try:
            head, self._target = layout.choose(content)
        except ForeignVersion as error:
            raise ForeignVersion(f"{self.path}: {error}") from error
        if head is None:
            raise QueueDamaged(
                f"{self.path} is damaged: neither of its two copies is whole: "
                "restore it from a backup, or feed a new queue"
            )
        self._behind_s = max(self._behind_s, head.clock - self._calls.time())
        self._sequence = head.sequence
        return head

    def glimpse(self) -> Glimpse | None:
        """A look without the lock; None if nothing was written since the last visit, or where it
        can't be told. It is a hint: only a visit knows."""
        found = self._seen()
        return found if found is not None and found.sequence > self._sequence else None

    def _written(self) -> int | None:
        """How often it was written; without the lock."""
        found = self._seen()
        return None if found is None else found.sequence

    def _seen(self) -> Glimpse | None:
        try:
            fd = self._open()
            if self._shared:
                self._calls.forget(fd)
            content = self._calls.pread(fd, layout.COPY_BYTES + layout.GLIMPSE_BYTES, 0)
        except (OSError, EngineUnavailable, UsageError):
            return None  # the next visit says what is wrong
        return layout.glimpse(content)

    def slot(self, index: int) -> str:
        """A slot's record, inside a visit."""
        head = self._visited()
        record = head.changed.get(index)
        if record is None:
            record = head.redo.get(index)
        if record is None:
            record = self._in_place(index, 1)[0] if index < head.placed else ""
        return record

    def slots(self, first: int = 0) -> list[str]:
        """The records of all slots from `first` on, inside a visit."""
        head = self._visited()
        records = self._in_place(first, head.placed - first) if head.placed > first else []
        records += [""] * (head.size - first - len(records))
        for index, record in (*head.redo.items(), *head.changed.items()):
            if index >= first:
                records[index - first] = record
        return records

    def _visited(self) -> Head:
        if self._head is None:
            raise RuntimeError("the head is only known inside a locked visit")
        return self._head

    def _in_place(self, index: int, count: int) -> list[str]:
        size = layout.SLOT_BYTES
        try:
            content = self._calls.pread(self._fd, count * size, layout.SLOTS_AT + index * size)
        except OSError as error:
            self.close()
            raise unavailable(error, "cannot read", self.path) from error
        redo = self._visited().redo
        records = []
        for number in range(count):
            record = layout.decode_in_place(content[number * size : (number + 1) * size])
            if record is None:
                if index + number not in redo:
                    raise QueueDamaged(
                        f"{self.path} is damaged: slot {index + number} can't be read: "
                        "restore it from a backup, or feed a new queue"
                    )
                record = ""  # torn while the redo list was written in place: the list has it
            records.append(record)
        return records

    # ---- writing
    def write(self) -> None:
        """Commit the head and its changed slots in one write, inside a visit.

        Raises EngineUnavailable with the outcome unknown: act on nothing until the next visit.
        """
        head = self._visited()
        if self._calls.monotonic() - self._locked_at > MAX_HELD_S:
            raise EngineUnavailable(
                f"held {self.path} for more than {MAX_HELD_S:g} s: nothing was written"
            )
        head.sequence += 1
        head.clock = self.time()
        content = layout.encode_copy(head, with_redo=True)
        try:
            if content is None:
                self._write_redo_in_place(head)
                head.placed = max([head.placed, *(index + 1 for index in head.redo)])
                content = layout.encode_copy(head, with_redo=False)
                if content is None:
                    raise QueueDamaged(f"{self.path}: its state is too large")
                head.redo = {}
            self._calls.pwrite(self._fd, content, self._target * layout.COPY_BYTES)
            self._calls.sync(self._fd)
        except OSError as error:
            self.close()
            raise unavailable(error, "cannot write", self.path) from error
        self._target = 1 - self._target
        self._sequence = head.sequence
        head.redo.update(head.changed)
        head.changed = {}
        self.wrote = True

    def _write_redo_in_place(self, head: Head) -> None:
        # Only what is committed: a reader of the old copy must find nothing newer in place.
        for index, record in sorted(head.redo.items()):
            self._calls.pwrite(
                self._fd,
                layout.encode_in_place(record),
                layout.SLOTS_AT + index * layout.SLOT_BYTES,
            )
        self._calls.sync(self._fd)

    def grow(self, head: Head) -> int:
        """Make room for more slots, inside a visit; the first new index. Counts from the next
        `write`."""
        first = head.size
        size = layout.GROW_BY * layout.SLOT_BYTES
        try:
            self._calls.pwrite(self._fd, b"\0" * size, layout.SLOTS_AT + first * layout.SLOT_BYTES)
            self._calls.sync(self._fd)
        except OSError as error:
            raise unavailable(error, "cannot enlarge", self.path) from error
        head.size = first + layout.GROW_BY
        return first

    def close(self) -> None:
        """Let go of the file; the next visit opens it again."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._calls.let_go(fd)


def write_draft(calls: Calls, path: str, content: bytes) -> None:
    """A new file, synced. A draft of that name may be left from before, and may be a published
    file under its second name: it is removed, never written to."""
    try:
        fd = calls.open_new(path)
    except FileExistsError:
        calls.unlink(path)
        fd = calls.open_new(path)
    try:
        calls.pwrite(fd, content, 0)
        calls.sync(fd)
    finally:
        calls.close(fd)


def write_new(calls: Calls, path: str, draft: str) -> bool:
    """Make the head of an empty queue; False if another process made it meanwhile."""
    head = Head()
    head.sequence = 1
    head.size = layout.GROW_BY
    content = layout.encode_copy(head, with_redo=True)
    assert content is not None
    whole = content.ljust(layout.SLOTS_AT + head.size * layout.SLOT_BYTES, b"\0")
    try:
        write_draft(calls, draft, whole)
        try:
            calls.link(draft, path)
            made = True
        except FileExistsError:
            made = False
        calls.unlink(draft)
    except OSError as error:
        raise unavailable(error, "cannot make", path) from error
    return made

"""`--dedupe`: leave out what was ever put into this queue, memory bounded.

The index beside the queue holds only what was read back from the queue, never what is about
to be put. So there is nothing that a crash could leave half done: what was put and is not in
the index yet is read at the next feed, and what was not put is in no index. A lock file lets
one feeder at a time compare and put.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, cast

from minionize.beneath import REPLACED, NotFollowed, open_plain
from minionize.contracts.engine import ForgetsDone, Queue
from minionize.errors import EngineUnavailable, NoSuchQueue, NotSupported, UsageError, no_locks
from minionize.filling.canonical import content_hash
from minionize.filling.streaming import PERIOD_S
from minionize.values import State, Stats

INDEX = "dedupe.sqlite"
LOCK = "dedupe.lock"
_STATES = (State.WAITING, State.DELAYED, State.RUNNING, State.DEAD, State.DONE)
_TABLES = """
    PRAGMA cache_size = -8000;
    PRAGMA temp_store = FILE;
    CREATE TABLE IF NOT EXISTS seen (hash BLOB PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS place (through INTEGER NOT NULL);
    CREATE TEMP TABLE mine (hash BLOB PRIMARY KEY) WITHOUT ROWID;
"""


class WithHistory(Protocol):
    """What a queue offers whose ids are places, and that keeps all it was ever given."""

    def history(self, after: int) -> Iterator[tuple[int, str]]:
        """Params put with an id above `after`, in order, with their ids."""


class Deduper:
    """Puts only what was never put into `queue`."""

    def __init__(
        self,
        queue: Queue,
        *,
        on_wait: Callable[[], object] | None = None,
        wait_s: float = 300.0,
    ) -> None:
        """`on_wait` is called about each second while another feeder has the lock, or the queue
        is read; None: puts nothing, so that this feeder is seen to be alive. `wait_s` is for
        the lock."""
        self.skipped = 0
        self.unknown = 0
        """Params with which nothing could be compared: the queue forgot them when they were
        done."""
        self._queue = queue
        self._on_wait = on_wait or (lambda: queue.put_texts(()))
        self._wait_s = wait_s
        self._folder = queue.traits.folder
        self._keeps_order = hasattr(queue, "history") and self._folder is not None
        if not self._keeps_order and not (queue.traits.scans and queue.traits.keeps_done):
            raise NotSupported(
                f"{queue.url} forgets what was put, so --dedupe can't compare: sort -u the file"
            )

    def put(self, texts: Iterable[str]) -> int:
        """Put those of `texts` that are new, among themselves too; returns how many."""
        skipped = 0

        def new_ones(index: sqlite3.Connection) -> Iterator[str]:
            nonlocal skipped
            for text in texts:
                key = (content_hash(text),)
                known = index.execute("SELECT 1 FROM seen WHERE hash = ?", key).fetchone()
                if known is None:
                    found = index.execute("INSERT OR IGNORE INTO temp.mine VALUES (?)", key)
                    if found.rowcount:
                        yield text
                        continue
                skipped += 1

        try:
            # Feeding makes a queue that is missing, and so the folder of lock and index.
            with (
                self._queue.feeding(),
                self._locked(),
                contextlib.closing(self._up_to_date()) as index,
            ):
                put = self._queue.put_texts(new_ones(index))
        except sqlite3.Error as error:
            raise EngineUnavailable(
                f"--dedupe can't compare ({error}): is the folder for temporary files full?"
            ) from error
        self.skipped += skipped
        return put

    def catch_up(self) -> None:
        """Take in what the queue has now, before it forgets some of it."""
        try:
            with self._queue.feeding(), self._locked(), contextlib.closing(self._up_to_date()):
                return
        except sqlite3.Error as error:
            raise EngineUnavailable(
                f"the index of --dedupe can't be brought up to date ({error})"
            ) from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        if self._folder is None:
            yield
            return
        path = os.path.join(self._folder, LOCK)
        try:
            fd = open_plain(path, os.O_RDWR | os.O_CREAT)
        except NotFollowed as error:
            raise UsageError(f"{path}: {error.strerror}") from error
        except OSError as error:
            raise _unavailable(path, error) from error
        try:
            self._wait_for(fd, path)
            yield
        finally:
            os.close(fd)

    def _wait_for(self, fd: int, path: str) -> None:
        end = time.monotonic() + self._wait_s
        due_s = 0.0
        while True:
            try:
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except (BlockingIOError, PermissionError):
                if time.monotonic() > end:
                    raise EngineUnavailable(
                        f"{path}: another feed --dedupe is at work for {self._wait_s:.0f} s: "
                        "wait for it, or end it"
                    ) from None
            except OSError as error:
                raise no_locks(error, path) or _unavailable(path, error) from error
            if time.monotonic() >= due_s:
                self._on_wait()
                due_s = time.monotonic() + PERIOD_S
            time.sleep(0.1)

    def _up_to_date(self) -> sqlite3.Connection:
        """The index with all that is in the queue now."""
        if not self._keeps_order:
            index = _opened("")
            _add(index, self._alive(self._scanned()))
            return index
        assert self._folder is not None
        path = os.path.join(self._folder, INDEX)
        for name in (path, f"{path}-journal"):
            _refuse_foreign(name)
        try:
            return self._caught_up(path)
        except sqlite3.DatabaseError:
            # Torn, foreign or full of noise: it only repeats what the queue says.
            for name in (path, f"{path}-journal"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name)
        try:
            return self._caught_up(path)
        except sqlite3.Error as error:
            raise EngineUnavailable(
                f"{path}: the index of --dedupe can't be written ({error}): is the disk full?"
            ) from error

    def _caught_up(self, path: str) -> sqlite3.Connection:
        _forget_pages(path)
        index = _opened_in_place(path)
        try:
            [through] = index.execute("SELECT max(through) FROM place").fetchone()
            through = through or 0
            if through > (self._stats().put or 0):
                # Not of this queue: made anew in the same folder, say.
                index.execute("DELETE FROM seen")
                through = 0
            ids = [through]
            if isinstance(self._queue, ForgetsDone):
                with contextlib.suppress(NoSuchQueue):
                    self.unknown = max(0, self._queue.forgotten_below() - 1 - through)

            def texts() -> Iterator[str]:
                for id, text in cast(WithHistory, self._queue).history(through):
                    ids[0] = id
                    yield text

            _add(index, self._alive(texts()))
            index.execute("DELETE FROM place")
            index.execute("INSERT INTO place VALUES (?)", ids)
            index.execute("COMMIT")
            index.execute("BEGIN")
        except BaseException:  # Ctrl-C as well
            index.close()
            raise
        return index

    def _alive(self, texts: Iterable[str]) -> Iterator[str]:
        """Passes on what is read from a queue that may be long."""
        due_s = time.monotonic() + PERIOD_S
        for place, text in enumerate(texts):
            yield text
            if not place % 1000 and time.monotonic() >= due_s:
                self._on_wait()
                due_s = time.monotonic() + PERIOD_S

    def _scanned(self) -> Iterator[str]:
        with contextlib.suppress(NoSuchQueue):
            for state in _STATES:
                for entry in self._queue.scan(state):
                    yield entry.text

    def _stats(self) -> Stats:
        try:
            return self._queue.stats()
        except NoSuchQueue:
            return Stats(put=0)


def _refuse_foreign(path: str) -> None:
    """UsageError for what is no plain file, or has a second name: SQLite would follow it."""
    try:
        os.close(open_plain(path, os.O_RDWR))
    except NotFollowed as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except OSError:
        return  # there is none, or SQLite says what is wrong


def _opened_in_place(path: str) -> sqlite3.Connection:
    """The index at `path`, and nothing that a link led to since that was looked at."""
    try:
        fd = open_plain(path, os.O_RDWR | os.O_CREAT)
    except NotFollowed as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except OSError as error:
        raise sqlite3.OperationalError(error.strerror) from error
    try:
        mine = os.fstat(fd)
        index = sqlite3.connect(path, timeout=60, isolation_level=None)
        try:
            index.execute("PRAGMA trusted_schema = OFF")
            index.execute("PRAGMA schema_version").fetchone()  # opens it
            if not _has_open_twice(mine):
                raise UsageError(f"{path}: {REPLACED}")
        except BaseException:  # Ctrl-C as well
            index.close()
            raise
    finally:
        os.close(fd)
    return _prepared(index)


def _has_open_twice(there: os.stat_result) -> bool:
    """Whether this process has that file open by more than one descriptor."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            count += os.path.samestat(os.fstat(int(name)), there)
    return count > 1


def _opened(path: str) -> sqlite3.Connection:
    return _prepared(sqlite3.connect(path, timeout=60, isolation_level=None))


def _prepared(index: sqlite3.Connection) -> sqlite3.Connection:
    try:
        index.executescript(_TABLES)
        # One transaction all along: without it each look-up would ask for the file's lock.
        index.execute("BEGIN")
    except BaseException:  # Ctrl-C as well
        index.close()
        raise
    return index


def _add(index: sqlite3.Connection, texts: Iterable[str]) -> None:
    keys = ((content_hash(text),) for text in texts)
    index.executemany("INSERT OR IGNORE INTO seen VALUES (?)", keys)


def _forget_pages(path: str) -> None:
    """Drop what this host's cache holds of the index: FUSE does not ask the server again when
    another host wrote it."""
    with contextlib.suppress(FileNotFoundError):
        fd = open_plain(path, os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)


def _unavailable(path: str, error: OSError) -> EngineUnavailable:
    return EngineUnavailable(
        f"{path}: the lock of --dedupe can't be taken ({error.strerror}): see minion doctor"
    )

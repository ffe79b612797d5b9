"""Waiting for the lock of the head: how long, and whether the queue lives meanwhile."""

from __future__ import annotations

from collections.abc import Callable

from minionize.engines.file.calls import Calls
from minionize.errors import EngineUnavailable

_FIRST_PAUSE_S = 0.001
_MAX_PAUSE_S = 0.05
_FIRST_LOOK_S = 0.25
"""Who waits for longer looks how far the queue has come, to tell later whether it moves."""
_LINE_FROM_S = 0.1
"""Who waits for less has a better chance beside the line than in it."""
_GOT = -1


class LockTaken(EngineUnavailable):
    """The queue is there, but its lock was not to be had."""

    def __init__(self, path: str, waited_s: float, *, busy: bool) -> None:
        if busy:
            why = (
                f"others were let in before for {waited_s:g} s: fewer minions, or more slots and "
                "longer runs for each"
            )
        else:
            why = f"somebody has held it for {waited_s:g} s: look for a stopped or cut-off minion"
        super().__init__(f"cannot lock {path}: {why}")
        self.busy = busy


class LockWait:
    """One wait for a lock that somebody else has."""

    def __init__(
        self, calls: Calls, path: str, written: Callable[[], int | None], *, in_line: bool
    ) -> None:
        """`written` tells how often the head was written, without its lock; None: unknown.
        `in_line`: the kernel keeps the order of all that wait, for they are on this host."""
        self._calls = calls
        self._path = path
        self._written = written
        self._in_line = in_line and calls.has_line

    def get(self, fd: int, patience_s: float, *, on_and_on: bool) -> None:
        """The lock, or LockTaken after `patience_s`; `on_and_on`: after as long without a write
        by anybody."""
        while True:
            before = self._get(fd, patience_s)
            if before == _GOT:
                return
            now = self._written()
            busy = before is not None and now is not None and now > before
            if not (busy and on_and_on):
                raise LockTaken(self._path, patience_s, busy=busy)

    def _get(self, fd: int, patience_s: float) -> int | None:
        """_GOT, or, after `patience_s`, how often the head had been written early on."""
        if self._in_line and patience_s >= _LINE_FROM_S:
            before = self._written()
            got = self._calls.lock_in_line(fd, patience_s)
            if got is not None:
                return _GOT if got else before
        return self._poll(fd, patience_s)

    def _poll(self, fd: int, patience_s: float) -> int | None:
        calls = self._calls
        begin = calls.monotonic()
        pause_s = _FIRST_PAUSE_S
        before: int | None = None
        looked = False
        while not calls.lock(fd):
            waited_s = calls.monotonic() - begin
            if waited_s >= patience_s:
                return before
            if not looked and waited_s >= min(_FIRST_LOOK_S, patience_s / 4):
                before, looked = self._written(), True
            calls.sleep(pause_s * (0.5 + calls.jitter()))
            pause_s = min(2 * pause_s, _MAX_PAUSE_S)
        return _GOT

"""Minions on this machine in the foreground: their output put together, their signals passed on.

Each is a process group of its own, so that the terminal's Ctrl-C comes here alone and is passed
on once: a minion stops gently at the first INT and at once at the second.
"""

from __future__ import annotations

import os
import selectors
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from minionize.errors import LaunchRefused

PASSED_ON: tuple[int, ...] = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
_LONGEST_LINE = 1 << 20

Start = Callable[[int, int, int], int]
"""Starts minion `index` (from 0) with these descriptors as stdout and stderr; returns its pid."""
Write = Callable[[int, int, bytes], None]
"""Writes whole lines of minion `index` to 1 (stdout) or 2 (stderr)."""


class Crew:
    """N minions. `run` returns when none is left."""

    def __init__(self, start: Start, write: Write, again: Callable[[int], bool]) -> None:
        """`again`: whether to start another in place of one that ended with this status."""
        self.statuses: list[int] = []
        """Of those that ended and were not replaced; 128 and the signal for one that was killed."""
        self.told: list[int] = []
        """The signals that came, in their order."""
        self._start = start
        self._write = write
        self._again = again
        self._pids: dict[int, int] = {}
        self._begun: list[int] = []
        self._rests: dict[int, bytes] = {}
        self._selector = selectors.DefaultSelector()
        self._wake, self._waker = os.pipe()
        for fd in (self._wake, self._waker):
            os.set_blocking(fd, False)

    def run(self, minions: int, started: Callable[[tuple[int, ...]], None]) -> None:
        """Start them, tell `started` their pids, and stay until none is left. A signal ends the
        starting, too. LaunchRefused where the machine has no room for one more."""
        before: dict[int, Any] = {}
        wakeup = signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        try:
            for number in (*PASSED_ON, int(signal.SIGCHLD)):
                if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                    continue  # under nohup
                before[number] = signal.signal(number, self._on_signal)
            self._selector.register(self._wake, selectors.EVENT_READ)
            for index in range(minions):
                if not self._begin(index):
                    break
                # Those that began first write and end meanwhile.
                self._pass(0.0)
                self._reap()
            if self._begun:
                started(tuple(self._begun))
            while self._pids:
                self._pass(None)
                self._reap()
            self._drain()
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
            for pid in self._pids:
                os.kill(pid, signal.SIGTERM)

    def in_child(self) -> None:
        """What a forked child calls first: nothing of this is its own."""
        signal.set_wakeup_fd(-1)
        for number in (*PASSED_ON, signal.SIGCHLD):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
        os.close(self._wake)
        os.close(self._waker)
        for key in list(self._selector.get_map().values()):
            if key.fd != self._wake:
                os.close(key.fd)
        self._selector.close()

    def _begin(self, index: int) -> bool:
        """Start this minion, unless all were told to end: whoever came now would not hear of it."""
        outs: list[int] = []
        # A signal between the fork and the note of it would pass the child by. It unblocks its
        # own in `in_child`.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
        try:
            if self.told:
                return False
            for stream in (1, 2):
                reading, writing = os.pipe()
                os.set_blocking(reading, False)
                self._selector.register(reading, selectors.EVENT_READ, (index, stream))
                outs.append(writing)
            pid = self._start(index, outs[0], outs[1])
            self._pids[pid] = index
            self._begun.append(pid)
            return True
        except OSError as error:
            raise LaunchRefused(
                f"minion {index + 1} can't be started here: {error.strerror}: launch fewer, each "
                "with more params at once (-j)"
            ) from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            for fd in outs:
                os.close(fd)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGCHLD:
            return
        self.told.append(number)
        for pid in self._pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def _pass(self, wait_s: float | None) -> bool:
        """Pass on what they wrote; False if there was nothing within `wait_s` (None: wait)."""
        events = self._selector.select(wait_s)
        for key, _mask in events:
            try:
                piece = os.read(key.fd, 1 << 16)
            except BlockingIOError:
                continue
            if key.fd == self._wake:
                continue
            index, stream = key.data
            rest = self._rests.pop(key.fd, b"") + piece
            if not piece:
                self._selector.unregister(key.fd)
                os.close(key.fd)
                if rest:
                    self._write(index, stream, rest + b"\n")
                continue
            end = rest.rfind(b"\n") + 1
            if not end and len(rest) > _LONGEST_LINE:
                end = len(rest)
            if end:
                self._write(index, stream, rest[:end])
            if rest[end:]:
                self._rests[key.fd] = rest[end:]
        return bool(events)

    def _reap(self) -> None:
        for pid in list(self._pids):
            ended, raw = os.waitpid(pid, os.WNOHANG)
            if not ended:
                continue
            index = self._pids.pop(pid)
            status = os.waitstatus_to_exitcode(raw)
            status = 128 - status if status < 0 else status
            if self.told or not self._again(status) or not self._begin(index):
                self.statuses.append(status)

    def _drain(self) -> None:
        """What is still in the pipes. Somebody who left his group may hold one open: his output
        is nobody's any more."""
        while len(self._selector.get_map()) > 1 and self._pass(0.0):
            continue
        for fd, rest in self._rests.items():
            index, stream = self._selector.get_key(fd).data
            self._write(index, stream, rest + b"\n")

"""Stopping: what TERM, INT, USR1, USR2 and HUP mean to a minion."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from types import FrameType
from typing import Any

STOPPING = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGXCPU,
    signal.SIGHUP,
)

SCHEDULERS_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
"""Those by which schedulers warn; INT and HUP come from a person and a terminal. XCPU comes from
the kernel, too: the CPU seconds of `ulimit -t` are used up."""


class Stopping:
    """Whether this minion was told to stop, by whom, and how urgently.

    `wake_fd` becomes readable with each signal, so that a wait ends at once. Handlers are put in
    place only in the main thread, and what was there before comes back with `restore`.
    """

    def __init__(self) -> None:
        self.wake_fd, self._write_fd = os.pipe()
        os.set_blocking(self.wake_fd, False)
        os.set_blocking(self._write_fd, False)
        self.why = ""
        """What told it to stop first; empty while nothing did."""
        self.by_signal = 0
        """The signal that came first, 0 for other causes."""
        self.kill_now = False
        """A second INT: no grace."""
        self._before: dict[int, Any] = {}
        self._wakeup_before: int | None = None

    def install(self) -> None:
        """Heed the signals from now on. Does nothing outside the main thread."""
        try:
            self._wakeup_before = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        except ValueError:
            return  # not the main thread; to ask `threading` would cost each minion its import
        for number in STOPPING:
            if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                # Started under nohup: it is meant to outlive its terminal.
                continue
            self._before[number] = signal.signal(number, self._on_signal)

    def restore(self) -> None:
        """Put back what was there before `install`."""
        for number, handler in self._before.items():
            # None is a handler that was not made by Python; it can't be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before.clear()
        if self._wakeup_before is not None:
            signal.set_wakeup_fd(self._wakeup_before)
            self._wakeup_before = None

    def request(self, why: str, by_signal: int = 0) -> None:
        """Stop as if a TERM had come, because of `why`. Callable from any thread."""
        if not self.why:
            self.by_signal = by_signal
            self.why = why
        with contextlib.suppress(OSError, ValueError):
            os.write(self._write_fd, b"!")

    def wait(self, timeout_s: float) -> None:
        """Return when a signal comes, or the time is over."""
        if not self.why and timeout_s > 0:
            is_readable(self.wake_fd, timeout_s)

    def drain(self) -> None:
        """Empty the pipe of `wake_fd`."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self.wake_fd, 512):
                continue

    def close(self) -> None:
        """Close the pipe; `restore` comes first."""
        os.close(self.wake_fd)
        os.close(self._write_fd)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.why and number == signal.SIGINT:
            self.kill_now = True
        self.request(signal.Signals(number).name, number)


def is_readable(fd: int, timeout_s: float) -> bool:
    """Whether something can be read from `fd` within `timeout_s`. `select` would refuse a
    descriptor above 1023, which a Python process with many open files may have."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))

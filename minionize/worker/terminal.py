"""Handing the terminal to a run and taking it back (`--tty`)."""

from __future__ import annotations

import contextlib
import os
import signal


class Terminal:
    """The terminal of this minion, if it has one and stands in its foreground."""

    def __init__(self) -> None:
        self._fd = next((fd for fd in range(3) if _is_terminal(fd)), -1)
        self._holder = 0

    def hand_over(self, pgid: int) -> None:
        """Make `pgid` the foreground: it may read, and Ctrl-C is its own."""
        if self._fd < 0 or self._holder:
            return
        with contextlib.suppress(OSError):
            if os.tcgetpgrp(self._fd) == os.getpgrp():
                self._give(pgid)
                self._holder = pgid
                # It may have asked for input before it was allowed to, and been stopped.
                os.killpg(pgid, signal.SIGCONT)

    def take_back(self, pgid: int) -> None:
        """The run ended."""
        if self._holder == pgid:
            self._holder = 0
            with contextlib.suppress(OSError):
                self._give(os.getpgrp())

    def suspend_with(self, pid: int) -> None:
        """If the run was stopped (Ctrl-Z), stop along, so that the shell can go on."""
        if self._holder != pid:
            return
        stopped = None
        with contextlib.suppress(ChildProcessError):
            stopped = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG)
        if stopped is None:
            return
        self.take_back(pid)
        os.kill(os.getpid(), signal.SIGSTOP)
        self.hand_over(pid)
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGCONT)

    def _give(self, pgid: int) -> None:
        # A background process that does this is stopped by TTOU, unless it blocks it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        try:
            os.tcsetpgrp(self._fd, pgid)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _is_terminal(fd: int) -> bool:
    try:
        return os.isatty(fd)
    except OSError:
        return False

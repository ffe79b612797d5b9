"""A blocking call that ends when its time is over, whatever it waits for."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType

_AGAIN_S = 0.1
"""A ring just before the call blocks is not heard: so it rings again and again."""


class Alarm:
    """The process's own, SIGALRM; it is left to whoever uses it already."""

    def __init__(self) -> None:
        self._armed = False

    def within(self, seconds: float, act: Callable[[], object]) -> bool | None:
        """`act`. False if it was broken off, and then it may have been done just before; None if
        it was not begun, since the alarm can't be had here."""
        if (
            threading.current_thread() is not threading.main_thread()  # no other hears it
            or signal.SIGALRM in signal.pthread_sigmask(signal.SIG_BLOCK, ())
            or any(signal.getitimer(signal.ITIMER_REAL))
            or signal.getsignal(signal.SIGALRM) is None  # not of Python: it can't be put back
        ):
            return None
        before = signal.signal(signal.SIGALRM, self._ring)
        try:
            self._armed = True
            signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6), _AGAIN_S)
            act()
            self._armed = False
        except _Rang:
            return False
        finally:
            self._armed = False
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, signal.SIG_IGN)  # drops one that is on its way
            signal.signal(signal.SIGALRM, before)
        return True

    def _ring(self, number: int, frame: FrameType | None) -> None:
        if self._armed:
            self._armed = False
            raise _Rang


class _Rang(Exception):
    pass

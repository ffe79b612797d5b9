"""How fast a minion takes params, and so how far ahead to fetch."""

from __future__ import annotations

import time

_WINDOW_S = 0.5
_STEPS = (5000, 1000, 100)
_KEEP = 0.5
"""Fast stays fast down to this part of the rate at which it began."""


class Rate:
    """Learns from what was taken."""

    def __init__(self, fast_per_s: int, slow_for_s: float) -> None:
        """Slow at first, for `slow_for_s` at least."""
        self._fast_per_s = fast_per_s
        self._since = time.monotonic()
        self._slow_until = self._since + slow_for_s
        self._count = 0
        self.ahead = 0
        """How many to fetch ahead: half a second of work or a little more; 0 for a slow one."""

    @property
    def fast(self) -> bool:
        return self.ahead > 0

    def took(self, count: int) -> None:
        """So many were taken now."""
        self._count += count
        now = time.monotonic()
        passed_s = now - self._since
        enough = self._count >= self._fast_per_s
        if passed_s < _WINDOW_S and not (enough and not self.ahead):
            return
        if now < self._slow_until:
            return
        per_s = self._count / max(passed_s, 0.05)
        self._since, self._count = now, 0
        for step in _STEPS:
            ahead = step // 2
            begins = step if ahead > self.ahead else step * _KEEP
            if per_s >= begins and step >= self._fast_per_s:
                self.ahead = ahead
                return
        self.ahead = 0

    def forget(self) -> None:
        """It is slow from now on."""
        self.ahead = 0
        self._since, self._count = time.monotonic(), 0

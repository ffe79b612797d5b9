"""How far ahead to lease: by time, from what was seen."""

from __future__ import annotations

from minionize.worker.decisions import LEASES_MOST

AHEAD_S = 0.5
"""Spares are so many seconds of work."""
_LOOK_S = 0.1


class Pace:
    """Learns how fast this minion works. Times are monotonic seconds."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._window = 0
        self._ended = 0
        self._since: float | None = None
        self._per_s: float | None = None
        self.seconds_each: float | None = None
        """Of one run, lately; None before the first ended."""

    def ended(self, count: int, seconds: float, now: float) -> None:
        """`count` runs ended that took `seconds` together."""
        each = seconds / count
        if self.seconds_each is None:
            self.seconds_each = each
            self._since = now
        else:
            # A batch weighs more than one run, and the last second more than an hour ago.
            weight = min(0.5, 0.1 * count)
            self.seconds_each += weight * (each - self.seconds_each)
        self._ended += count
        if self._since is None:
            self._since, self._ended = now, 0
        elif now - self._since >= _LOOK_S:
            self._per_s = self._ended / (now - self._since)
            self._since, self._ended = now, 0

    def idled(self) -> None:
        """Nothing ran for a while: that tells nothing about how fast we are."""
        self._since = None

    def leased(self, count: int) -> None:
        """So many came: next time it may be twice as many."""
        if count:
            self._window = min(LEASES_MOST, max(self._slots, 2 * self._window))

    def stalled(self) -> None:
        """Spares waited for too long: begin again with one per slot."""
        self._window = 0

    @property
    def ahead(self) -> int:
        """How many spares to hold at most."""
        if self.seconds_each is None or not self._window:
            return 0
        per_s = self._slots / max(self.seconds_each, 1e-6)
        if self._per_s is not None:
            # What a run takes is not all: starting and settling it takes time as well.
            per_s = min(per_s, 2 * self._per_s)
        return min(self._window, int(AHEAD_S * per_s))

"""How far ahead to lease: by time, from what was seen."""

from __future__ import annotations

from minionize.worker.decisions import LEASES_MOST

AHEAD_S = 0.5
"""Spares are so many seconds of work,"""
TRIPS = 10
"""or so many trips to the queue long, where its lock is much asked for or its server is far,"""
AHEAD_MOST_S = 1.5
"""but no more than this: a spare that waits for longer goes back."""
_LOOK_S = 0.1


class Pace:
    """Learns how fast this minion works. Times are monotonic seconds."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._window = 0
        self._ended = 0
        self._since: float | None = None
        self._per_s: float | None = None
        self._trip_s = 0.0
        """What it takes to lease, lately."""
        self._away_s = 0.0
        """Spent on that since `_since`."""
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
            self._since, self._ended, self._away_s = now, 0, 0.0
        elif now - self._since - self._away_s >= _LOOK_S:
            # Who waits for the queue works slowly, and must not come more often for that.
            self._per_s = self._ended / (now - self._since - self._away_s)
            self._since, self._ended, self._away_s = now, 0, 0.0

    def idled(self) -> None:
        """Nothing ran for a while: that tells nothing about how fast we are."""
        self._since = None

    def leased(self, count: int, trip_s: float | None = None) -> None:
        """So many came: next time it may be twice as many. `trip_s`: how long that took, where
        nothing was waited for but the queue itself."""
        if trip_s is not None:
            self._trip_s += 0.3 * (trip_s - self._trip_s)
            self._away_s += trip_s
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
        ahead_s = min(AHEAD_MOST_S, max(AHEAD_S, TRIPS * self._trip_s))
        return min(self._window, int(ahead_s * per_s))

"""When a minion that waits asks for the lock: in its turn, or since a look without it says why."""

from __future__ import annotations

from minionize.engines.file.room import Room

MIN_PAUSE_S = 0.001
_MAX_PAUSE_S = 0.25
_TURN_PER_MINION_S = 0.02
"""So a visit in 20 ms, however many minions wait, looks for what comes back after a delay."""
_MAX_TURN_S = 20.0
_GLIMPSE_EVERY_S = 0.25
_GLIMPSE_PER_MINION_S = 0.001
"""A glimpse costs a server one request where a visit costs four and the lock."""


class Lookout:
    """One minion's. A thousand that wait must not keep the lock busy, and yet see within a second
    that there is work for all of them, or that all is done: so between turns each has a glimpse
    of the head without its lock, which tells whether a visit is worth while."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._pause_s = MIN_PAUSE_S
        self._turn_at = 0.0
        self._glimpse_at = 0.0
        self._every_s = 0.0
        """Between glimpses; 0 where turns come as often."""
        self.looks_drained = False
        """By the last glimpse, and nobody asked since."""

    @property
    def next_at(self) -> float:
        """When `is_due` may be true next."""
        return min(self._turn_at, self._glimpse_at) if self._every_s else self._turn_at

    def is_due(self, now: float, stops: int) -> bool:
        """Whether to visit the head. `stops`: orders to stop that are known."""
        if now >= self._turn_at:
            return True
        if not self._every_s or now < self._glimpse_at:
            return False
        calls = self._room.calls
        self._glimpse_at = now + self._every_s * (0.75 + calls.jitter() / 4)
        seen = self._room.head.glimpse()
        if seen is None:
            return False
        self.looks_drained = seen.drained
        # Not all minions for one param: as many as it takes.
        return seen.stops > stops or calls.jitter() * seen.idle < seen.waiting

    def found(self) -> None:
        """There was work, or may be now: ask at once."""
        self._pause_s = MIN_PAUSE_S
        self._turn_at = 0.0
        self.looks_drained = False

    def found_nothing(self, now: float, minions: int) -> None:
        """A visit found nothing, among so many minions: wait for the next turn."""
        turn_s = min(_TURN_PER_MINION_S * minions, _MAX_TURN_S) if minions > 1 else 0.0
        pause_s = max(self._pause_s, turn_s)
        jitter = 0.75 + self._room.calls.jitter() / 4
        self._turn_at = now + pause_s * jitter
        self._pause_s = min(2 * self._pause_s, _MAX_PAUSE_S)
        each_s = _GLIMPSE_PER_MINION_S * (2 if self._room.shared else 1)
        self._every_s = max(_GLIMPSE_EVERY_S, each_s * minions)
        if self._every_s >= pause_s:
            self._every_s = 0.0
        self._glimpse_at = now + self._every_s * jitter
        self.looks_drained = False

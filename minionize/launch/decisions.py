"""When minions that are gone are replaced."""

from __future__ import annotations

from minionize.values import Stats

TRIES = 3
"""Submissions in a row after which nothing more was done: what is broken stays broken."""
REST_S = 30.0
"""Between a submission that brought nothing, and the next."""


def missing(stats: Stats, alive: int, minions: int) -> int:
    """How many minions to add so that `minions` are alive; 0 where there is no work for more.

    What runs elsewhere is nobody else's work, so with nothing to take none is added, unless
    there is nobody left to take over what those drop.
    """
    if stats.drained or stats.paused:
        return 0
    if stats.waiting is None:
        return max(0, minions - alive)
    to_take = stats.waiting + (stats.delayed or 0)
    if not to_take:
        return 1 if not alive and not stats.minions else 0
    return max(0, min(minions - alive, to_take))


class Progress:
    """Whether submitting again is worth it: it isn't, when it brought nothing for some times."""

    def __init__(self, minions: int) -> None:
        self.hopeless = False
        self._settled = -1
        self._in_vain = 0
        self._at = float("-inf")

    def worth_it(self, stats: Stats, now: float) -> bool:
        """Whether to submit now; called when that is to be decided, `now` in seconds."""
        settled = (stats.done or 0) + (stats.dead or 0)
        if settled > self._settled or None in (stats.done, stats.dead):
            self._settled, self._in_vain = settled, 0
        if now - self._at < REST_S and self._in_vain:
            return False
        if self._in_vain >= TRIES:
            self.hopeless = True
            return False
        self._in_vain += 1
        self._at = now
        return True

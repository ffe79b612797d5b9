"""Taking params from a queue that does all else: its disk is full, say, and what a dead minion held
can't be moved."""

from __future__ import annotations

from collections.abc import Callable

from minionize.errors import EngineUnavailable
from minionize.values import Clock

FIRST_RETRY_S = 0.1
_LAST_RETRY_S = 2.0
QUIET_S = 30.0
"""It is well again when it did not fail for so long: what is there can be taken in between."""


class Taking:
    """Knows whether only that fails. It is no wonder when it fails and something else works after
    that: so does each short break. So it counts when it fails once more."""

    def __init__(
        self, clock: Clock, *, reconnect_s: float, url: str, say: Callable[[str], None]
    ) -> None:
        self._clock = clock
        self._reconnect_s = reconnect_s
        self._url = url
        self._say = say
        self._failed_at: float | None = None
        """The last time that it failed; None: too long ago to count."""
        self._alone = False
        """Something else worked since it failed first."""
        self._told_at: float | None = None
        self._idle_since: float | None = None
        """Nothing was held, and nothing could be taken, since then."""
        self._retry_s = FIRST_RETRY_S
        self.retry_at = 0.0
        """When to try again, if only this fails."""

    def waits(self) -> bool:
        """Whether it is too soon to try again."""
        return self.retry_at > 0.0 and self._clock.monotonic() < self.retry_at

    def works(self) -> None:
        """The queue was asked for params, and answered."""
        if self._failed_at is None:
            return
        self.retry_at = 0.0
        self._idle_since = None
        now = self._clock.monotonic()
        if now - self._failed_at < QUIET_S:
            return
        self._failed_at, self._alone = None, False
        self._retry_s = FIRST_RETRY_S
        if self._told_at is not None:
            away_s, self._told_at = now - self._told_at, None
            self._say(f"{self._url}: params can be taken again after {away_s:.0f} s")

    def else_works(self) -> None:
        """Something else did."""
        self._alone = self._failed_at is not None

    def fails_alone(self, error: EngineUnavailable, *, holds: bool) -> bool:
        """It failed: whether nothing else does, so that a minion that `holds` something can go on
        with that. One that holds nothing tries for `reconnect_s`; then `error` is raised."""
        now = self._failed_at = self._clock.monotonic()
        if not self._alone:
            return False
        # Slow to import, and a queue that can be reached needs none.
        import random

        if holds:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now
        else:
            give_up(error, now - self._idle_since, self._reconnect_s)
        self.retry_at = now + self._retry_s * random.uniform(0.5, 1.0)
        self._retry_s = min(_LAST_RETRY_S, self._reconnect_s / 4, 2 * self._retry_s)
        if self._told_at is None:
            self._told_at = now
            self._say(trying_again(error, self._reconnect_s))
        return True


def trying_again(error: EngineUnavailable, reconnect_s: float) -> str:
    """The line of who has patience."""
    return f"{error}; trying again for {reconnect_s:.0f} s"


def give_up(error: EngineUnavailable, tried_s: float, reconnect_s: float) -> None:
    """Raise `error` when the patience is over."""
    if tried_s >= reconnect_s:
        raise EngineUnavailable(f"{error} (tried for {tried_s:.0f} s; see --reconnect)") from error

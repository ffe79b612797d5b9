"""What the queue is asked now and then: whether an idle minion is done, and for the live line."""

from __future__ import annotations

from minionize.settings import Settings
from minionize.values import Stats
from minionize.worker.decisions import Ended, idle_is_over
from minionize.worker.link import Link
from minionize.worker.live import EVERY_S, STATS_EVERY_S, Live, Progress

IDLE_WAIT_S = 0.25
_FIRST_LOOK_S = 0.02
_NEVER = float("inf")


class Watching:
    """Knows the last stats of a queue. Times are monotonic seconds."""

    def __init__(self, link: Link, settings: Settings, live: Live | None, now: float) -> None:
        self._link = link
        self._settings = settings
        self._live = live
        self._progress = Progress()
        self._idle_since: float | None = None
        self._stats_at = now
        self._every_s = _FIRST_LOOK_S
        self.stats: Stats | None = None
        """As of the last time they were asked for."""
        self.show_at = _NEVER if live is None else now
        """When the live line is written next."""

    @property
    def idle(self) -> bool:
        """Whether nothing was there to be taken the last time."""
        return self._idle_since is not None

    def got_some(self) -> None:
        """Params came."""
        self._idle_since = None
        self._every_s = _FIRST_LOOK_S

    def patience_s(self, now: float) -> float:
        """How long the queue may wait for a param before it is asked again whether that was all:
        a moment at first, for a short campaign's end should not take longer than its work."""
        return 0.0 if not self.idle else min(IDLE_WAIT_S, max(0.001, self._stats_at - now))

    def idle_is_over(self, now: float) -> Ended:
        """With nothing held and nothing got: whether that was all."""
        if self._idle_since is None:
            self._idle_since = self._stats_at = now
        if now < self._stats_at:
            return Ended(False)
        stats = self._link.stats()
        self._stats_at = now + self._every_s
        if stats is None:
            return Ended(False)
        self.stats = stats
        # A thousand idle minions must not keep the queue busy with questions.
        self._every_s = max(min(1.0, 2 * self._every_s), 0.02 * (stats.minions or 0))
        settings = self._settings
        return idle_is_over(settings.until, stats, now - self._idle_since, settings.idle_s)

    def ask(self) -> Stats | None:
        """The stats now, None where the queue can't be asked."""
        self.stats = self._link.stats()
        return self.stats

    def show(self, now: float, done: int, running: int) -> None:
        """Write the live line. `done` by this minion, `running` in this minion."""
        if self._live is None:
            return
        self.show_at = now + EVERY_S
        if now >= self._stats_at:
            self.stats = self._link.stats() or self.stats
            self._stats_at = now + STATS_EVERY_S
            if self.stats is not None:
                self._progress.see(self.stats, now)
        self._live.show(self._progress.text(done, self.stats, running))

    def clear(self) -> None:
        """Take the live line away, for other output."""
        if self._live is not None:
            self._live.clear()

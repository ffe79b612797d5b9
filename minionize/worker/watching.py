"""What the queue is asked now and then: whether an idle minion is done, and for the live line."""

from __future__ import annotations

from minionize.settings import Settings
from minionize.settings.machine import scheduler
from minionize.values import Stats
from minionize.worker.decisions import (
    GAVE_WAY,
    Ended,
    idle_is_over,
    leaves_idle,
    others_have_the_rest,
)
from minionize.worker.link import Link
from minionize.worker.live import EVERY_S, IDLE, STATS_EVERY_S, Live, Progress

IDLE_WAIT_S = 0.25
_FIRST_LOOK_S = 0.02
_TURN_PER_MINION_S = 0.02
_NEVER = float("inf")


class Watching:
    """Knows the last stats of a queue. Times are monotonic seconds."""

    def __init__(self, link: Link, settings: Settings, live: Live | None, now: float) -> None:
        self._link = link
        self._settings = settings
        self._live = live
        self._progress = Progress()
        self._shows_idle = False
        self._idle_since: float | None = None
        self._others_since: float | None = None
        """Since when all that is left is leased by others."""
        self._others_at = now
        """When it is asked next who else is idle."""
        self.in_kubernetes = scheduler(settings.env) == "kubernetes"
        """Once a pod has ended with 0, a Job starts no other in the place of those that fail: so
        nobody may, while somebody holds a param and may drop it."""
        self._until = settings.until
        if self.in_kubernetes and self._until == "empty":
            self._until = "drained"
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
        self._idle_since = self._others_since = None
        self._every_s = _FIRST_LOOK_S

    def patience_s(self, now: float) -> float:
        """How long the queue may wait for a param before it is asked again whether that was all:
        a moment at first, for a short campaign's end should not take longer than its work."""
        return 0.0 if not self.idle else min(IDLE_WAIT_S, max(0.001, self._stats_at - now))

    def idle_is_over(self, now: float) -> Ended:
        """With nothing held and nothing got: whether that was all."""
        if self._idle_since is None:
            self._idle_since = self._stats_at = now
        if now < self._stats_at and not (self._until == "drained" and self._link.looks_drained()):
            return Ended(False)
        stats = self._link.stats()
        self._stats_at = now + self._every_s
        if stats is None:
            return Ended(False)
        self.stats = stats
        # A thousand idle minions must not keep the queue busy with questions.
        turn_s = _TURN_PER_MINION_S * (stats.minions or 0)
        if turn_s > IDLE_WAIT_S:
            self._stats_at = now + max(self._every_s, turn_s)
        self._every_s = max(min(1.0, 2 * self._every_s), turn_s)
        ended = idle_is_over(self._until, stats, now - self._idle_since, self._settings.idle_s)
        return self._give_way(stats, now) if not ended.over else ended

    def _give_way(self, stats: Stats, now: float) -> Ended:
        """Whether this minion leaves, since more are idle than are needed."""
        settings = self._settings
        if self._until != "drained" or self.in_kubernetes or not others_have_the_rest(stats):
            self._others_since = None
            return Ended(False)
        # Asked for long before it counts: whether another is alive takes a while to see. But
        # seldom, for it is a look at all minions.
        every_s = min(settings.idle_s / 4, settings.lease_s / 8)
        if self._others_since is None:
            self._others_since = now
            self._others_at = now + every_s
        if now < self._others_at:
            return Ended(False)
        self._others_at = now + every_s
        before = self._link.idle_before(settings.keep_idle)
        if now - self._others_since < settings.idle_s or not leaves_idle(
            before, settings.keep_idle
        ):
            return Ended(False)
        return Ended(True, GAVE_WAY)

    def ask(self) -> Stats | None:
        """The stats now, None where the queue can't be asked."""
        self.stats = self._link.stats()
        return self.stats

    def shows_late(self, now: float, running: int) -> bool:
        """Whether the live line is to be written: what it shows is old, or that nothing runs."""
        return now >= self.show_at or (self._shows_idle and running > 0)

    def show(self, now: float, done: int, running: int, *, loading: bool = False) -> None:
        """Write the live line. `done` by this minion, `running` in this minion; `loading`: what
        it runs is not there yet."""
        if self._live is None:
            return
        self.show_at = now + EVERY_S
        if now >= self._stats_at:
            self.stats = self._link.stats() or self.stats
            self._stats_at = now + STATS_EVERY_S
            if self.stats is not None:
                self._progress.see(self.stats, now)
        text = self._progress.text(done, self.stats, running, loading=loading)
        self._shows_idle = text.startswith(IDLE)
        self._live.show(text)

    def clear(self) -> None:
        """Take the live line away, for other output."""
        if self._live is not None:
            self._live.clear()

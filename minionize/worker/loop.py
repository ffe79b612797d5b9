"""The loop of a minion: lease, run, settle, until what it was asked to wait for is reached."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Protocol, runtime_checkable

from minionize.contracts.crew import Crew
from minionize.contracts.engine import Engine
from minionize.contracts.reporter import Reporter
from minionize.errors import EngineUnavailable, MinionizeError
from minionize.settings import Settings
from minionize.values import Clock, Lease, Stats, SystemClock
from minionize.worker.book import Book
from minionize.worker.decisions import (
    crashed_too_often,
    drained_status,
    idle_is_over,
    lease_limit,
    stop_in_s,
    stopped_status,
    suspect_may_start,
)
from minionize.worker.guard import Guard
from minionize.worker.lines import last_words
from minionize.worker.link import Link
from minionize.worker.live import EVERY_S, STATS_EVERY_S, Live, Progress
from minionize.worker.pace import Pace
from minionize.worker.signals import Stopping
from minionize.worker.summary import Summary

SPARE_S = 2.0
"""A spare that waits for longer goes back."""
IDLE_WAIT_S = 0.25
BUSY_TICK_S = 0.1
"""With something running and an idle slot, the queue is asked so often."""
_AFTER_KILL_S = 5.0
_NEVER = float("inf")


@runtime_checkable
class Inline(Protocol):
    """A crew that runs functions in this very thread, and then can't let it beat."""

    def on_long_run(self, beat: Callable[[], None]) -> None:
        """Call `beat` now and then from another thread while a run takes long."""


class Worker:
    """One minion at work. Single-threaded: everything happens in `run`."""

    def __init__(
        self,
        engine: Engine,
        crew: Crew,
        reporter: Reporter,
        settings: Settings,
        *,
        lines: Callable[[str], None],
        clock: Clock | None = None,
        stopping: Stopping | None = None,
        guard: Guard | None = None,
        live: Live | None = None,
        command: str = "",
    ) -> None:
        """`lines` gets each line for a person. `stopping` is what the crew's `wake_fd` belongs
        to. `live` is there on a terminal. `command`, quoted for a shell, is for reports.

        `run` closes everything that it was given here.
        """
        self._engine = engine
        self._crew = crew
        self._reporter = reporter
        self._settings = settings
        self._lines = lines
        self._clock = clock or SystemClock()
        self._stopping = stopping or Stopping()
        self._guard = guard
        self._live = None if settings.quiet else live
        self._command = command
        self._pace = Pace(crew.slots)
        self._link = Link(
            engine,
            self._clock,
            lease_s=settings.lease_s,
            reconnect_s=settings.reconnect_s,
            say=self._say,
        )
        self._book = Book(self._link, reporter, settings, self._pace, self._clock, self._say)
        self._beat_s = settings.lease_s / 4
        self._spares: deque[tuple[float, Lease]] = deque()
        self._suspects: deque[tuple[float, Lease]] = deque()
        self._unsynced = False
        """The end of a marked run could not be told yet: nothing starts before it is."""
        now = self._clock.monotonic()
        self._began = now
        self._beat_at = now + self._beat_s
        self._guard_at = now
        self._lease_at = now
        self._revoke_at = now
        self._live_at = now
        self._idle_since: float | None = None
        self._stats_at = now
        self._stats_every_s = IDLE_WAIT_S
        self._stats: Stats | None = None
        self._progress = Progress()
        self._stops_before = 0
        self._ends_at = now + stop_in_s(settings, self._clock.time())
        self._ending = ""
        """Why it leases nothing more; empty while it does."""
        self._ending_status: int | None = None
        self._kill_at = _NEVER
        self._leave_at = _NEVER
        if isinstance(crew, Inline):
            crew.on_long_run(self._beat_meanwhile)

    def run(self) -> Summary:
        """Work until the end that the settings ask for. Raises nothing of the queue's: the
        summary has the exit status, and `lines` got the reason."""
        summary = self._book.summary
        self._stopping.install()
        try:
            try:
                self._stops_before = self._engine.orders().stops
                if self._guard is not None:
                    self._guard.arm("", self._settings.lease_s)
                self._book.begins(self._command)
                self._work()
                self._settle_status(summary)
            except MinionizeError as error:
                self._fail(summary, error)
        finally:
            self._close(summary)
        summary.seconds = self._clock.monotonic() - self._began
        if not self._settings.quiet:
            durable = self._engine.traits.durable
            self._say(last_words(summary, self._stats, None if durable else self._book.dead))
        return summary

    def _work(self) -> None:
        crew, link, stopping, clock = self._crew, self._link, self._stopping, self._clock
        while True:
            now = clock.monotonic()
            if not self._ending:
                self._look_for_end(now)
            elif now >= self._kill_at or stopping.kill_now:
                self._kill(now)
            if now >= self._beat_at:
                self._beat(now)
            elif link.down and link.expired(now):
                self._expire()
            if self._guard is not None and now >= self._guard_at:
                self._guard.beat()
                self._guard_at = now + min(1.0, self._beat_s / 4)
                lost_guard = self._guard.watch()
                if lost_guard is not None:
                    self._say(lost_guard)
            if self._spares or self._suspects:
                self._start(now)
            if link.flush_at is not None and now >= link.flush_at:
                self._flush()
            if now >= self._revoke_at:
                self._give_back_spares(now)
            if not self._ending:
                self._lease(now)
            if not link.held and self._is_over(now):
                return
            if self._live is not None and now >= self._live_at:
                self._show(now)
            outcomes = crew.wait(self._patience(clock.monotonic()))
            if not outcomes:
                continue
            now = clock.monotonic()
            if now >= self._beat_at:
                # We may have slept for longer than the lease: ask before anything is told.
                self._beat(now)
            if self._spares and not link.marked:
                # The next run first, then the books of the last one.
                self._start(now)
            if self._book.take(outcomes, bool(self._ending)) and not self._flush():
                self._unsynced = True

    def _look_for_end(self, now: float) -> None:
        """Signals, orders, wall time, too many failures."""
        if self._stopping.why:
            self._end(now, self._stopping.why)
        elif self._engine.orders().stops > self._stops_before:
            self._end(now, "minion stop")
        elif now >= self._ends_at:
            self._end(now, "its time is over")
        elif self._book.too_many is not None:
            self._end(now, "too many failures in a row", 70)
            self._say(self._book.too_many_line(self._book.too_many))

    def _end(self, now: float, why: str, status: int | None = None) -> None:
        """Lease nothing more, give back what has not started, end what runs."""
        self._ending = why
        self._ending_status = status
        self._kill_at = now + self._settings.grace_s
        self._leave_at = self._kill_at + _AFTER_KILL_S
        self._give_back(self._take_spares(), "stopped")
        self._crew.terminate()
        self._flush()

    def _kill(self, now: float) -> None:
        """The grace is over."""
        self._crew.kill()
        self._kill_at = _NEVER
        self._stopping.kill_now = False
        self._leave_at = min(self._leave_at, now + _AFTER_KILL_S)

    def _beat(self, now: float) -> None:
        """Renew all leases, mark what runs for long, let the reporter write."""
        link = self._link
        lost = link.extend()
        if lost:
            self._lose(lost, "another minion has it")
        if link.down:
            if link.expired(now):
                self._expire()
            self._beat_at = max(now + 0.05, link.retry_at)
        else:
            self._beat_at = now + self._beat_s
        running = self._crew.running()
        marked, held = link.marked, link.held
        fresh = [
            lease
            for lease, seconds in running
            if seconds >= self._beat_s and lease.id not in marked and lease.id in held
        ]
        if fresh:
            link.started(fresh)
        self._book.report()
        self._reporter.beat(len(running))

    def _beat_meanwhile(self) -> None:
        """Called from another thread while this one is inside a function (`--inline`)."""
        now = self._clock.monotonic()
        if self._guard is not None:
            self._guard.beat()
        with contextlib.suppress(MinionizeError):  # comes up again when this thread asks
            if now >= self._beat_at:
                self._beat(now)
            elif self._link.down and self._link.expired(now):
                self._expire()

    def _expire(self) -> None:
        """Nobody could renew the leases in time: they are lost."""
        self._lose(self._link.give_up_all(), "the queue could not be reached for its lease")
        self._unsynced = False

    def _lose(self, lost: Collection[Lease], why: str) -> None:
        ids = {lease.id for lease in lost}
        unrun = [item for item in self._spares if item[1].id in ids]
        unrun += [item for item in self._suspects if item[1].id in ids]
        if unrun:
            self._spares = deque(item for item in self._spares if item[1].id not in ids)
            self._suspects = deque(item for item in self._suspects if item[1].id not in ids)
        self._book.lost(lost, why)
        executing = ids & {lease.id for lease, _ in self._crew.running()}
        ids -= {item[1].id for item in unrun}
        if executing:
            some = ", ".join(sorted(executing)[:5]) + (", ..." if len(executing) > 5 else "")
            self._say(f"lost the lease of {some} ({why}): killed, given up")
        if ids:
            self._book.aborting |= executing
            self._crew.abort(ids)

    def _start(self, now: float) -> None:
        """Start what waits, as far as there is room."""
        if self._unsynced:
            return
        crew = self._crew
        room = crew.room(self._pace.seconds_each)
        if room and self._suspects and self._suspect_may_start():
            # Behind a run that goes on it would be charged for that one's crash: nothing is
            # queued before a slot is idle.
            if not crew.room(None):
                return
            self._start_suspect()
            room = crew.room(self._pace.seconds_each)
        spares = self._spares
        if room > 0 and spares:
            leases = [spares.popleft()[1] for _ in range(min(room, len(spares)))]
            if self._book.aborting:
                leases = self._not_aborting(leases, now)
            if leases:
                crew.start(leases)

    def _not_aborting(self, leases: list[Lease], now: float) -> list[Lease]:
        """Leave out those whose former run is not dead yet."""
        aborting = self._book.aborting
        self._spares.extend((now, lease) for lease in leases if lease.id in aborting)
        return [lease for lease in leases if lease.id not in aborting]

    def _suspect_may_start(self) -> bool:
        """Whether none is too near to the first of the suspects."""
        _, lease = self._suspects[0]
        marked = self._link.marked
        beside = [(run.crashes, s) for run, s in self._crew.running() if run.id in marked]
        if len(beside) < len(marked):
            # One that was marked ended, and the queue does not know yet.
            return False
        return lease.id not in self._book.aborting and suspect_may_start(
            lease.crashes, beside, self._beat_s
        )

    def _start_suspect(self) -> None:
        """Mark and start the first of the suspects, if the queue can be told."""
        _, lease = self._suspects[0]
        if self._link.started([lease]):
            self._suspects.popleft()
            self._crew.start([lease])

    def _flush(self) -> bool:
        """Tell queue and reporter what gathered."""
        self._book.report()
        if not self._link.flush():
            self._link.flush_at = max(self._link.retry_at, self._link.flush_at or 0.0)
            return False
        self._unsynced = False
        return True

    def _give_back_spares(self, now: float) -> None:
        """Spares that waited for too long: somebody else may have room."""
        self._revoke_at = now + SPARE_S / 8
        old: list[Lease] = []
        for waiting in (self._spares, self._suspects):
            while waiting and now - waiting[0][0] >= SPARE_S:
                old.append(waiting.popleft()[1])
        if len(self._link.held) > len(self._spares) + len(self._suspects) + len(old):
            old += self._crew.revoke(SPARE_S)
        if old:
            self._pace.stalled()
            self._give_back(old, "waited")
            self._flush()

    def _take_spares(self) -> list[Lease]:
        old = [lease for _, lease in (*self._spares, *self._suspects)]
        self._spares.clear()
        self._suspects.clear()
        return old

    def _give_back(self, leases: Sequence[Lease], why: str) -> None:
        self._book.give_back(leases, why)

    def _lease(self, now: float) -> None:
        """Take more, if there is a use for it."""
        if now < self._lease_at:
            return
        link, settings = self._link, self._settings
        spares = len(self._spares) + len(self._suspects)
        in_hand = len(link.held) - link.gathered
        room = self._crew.room(self._pace.seconds_each)
        if not room and not in_hand:
            return  # a function that is still being loaded: others may have room
        limit = lease_limit(self._crew.slots, in_hand, spares, room, self._pace.ahead)
        if settings.max_params is not None:
            limit = min(limit, settings.max_params - self._book.ended - in_hand)
        if limit <= 0:
            return
        if not in_hand:
            self._flush()
        if link.down and now < link.retry_at:
            return
        wait_s = 0.0 if in_hand or self._idle_since is None else IDLE_WAIT_S
        leases = link.lease(limit, wait_s)
        if not leases:
            self._lease_at = now + BUSY_TICK_S if in_hand else now
            return
        self._idle_since = None
        self._stats_every_s = IDLE_WAIT_S
        self._pace.leased(len(leases))
        self._accept(leases, self._clock.monotonic())

    def _accept(self, leases: Sequence[Lease], now: float) -> None:
        """Sort what came: to be run, suspects, and those that crashed too often."""
        most = self._settings.max_crashes
        for lease in leases:
            if lease.crashes:
                failure = crashed_too_often(lease, most)
                if failure is not None:
                    self._book.bury_unrun(lease, failure)
                    continue
            if lease.suspect:
                self._suspects.append((now, lease))
            else:
                self._spares.append((now, lease))
        self._start(now)

    def _is_over(self, now: float) -> bool:
        """With nothing held: whether this was all."""
        if self._ending:
            return True
        most = self._settings.max_params
        if most is not None and self._book.ended >= most:
            self._ending, self._ending_status = f"{most} params were run", 0
            return True
        self._pace.idled()
        if self._idle_since is None:
            self._idle_since = self._stats_at = now
        if now < self._stats_at:
            return False
        stats = self._link.stats()
        self._stats_at = now + self._stats_every_s
        if stats is None:
            return False
        self._stats = stats
        # A thousand idle minions must not keep the queue busy with questions.
        self._stats_every_s = max(min(1.0, 2 * self._stats_every_s), 0.02 * (stats.minions or 0))
        idle_for_s = now - self._idle_since
        over, why = idle_is_over(self._settings.until, stats, idle_for_s, self._settings.idle_s)
        if over:
            self._ending = why
            drained = self._settings.until == "drained"
            self._ending_status = drained_status(stats) if drained else 0
        return over

    def _patience(self, now: float) -> float:
        """How long the crew may wait."""
        link = self._link
        until = min(self._beat_at, self._ends_at, self._kill_at)
        if self._guard is not None:
            until = min(until, self._guard_at)
        if link.flush_at is not None:
            until = min(until, link.flush_at)
        if self._ending:
            if now >= self._leave_at:
                self._leave(now)
            return max(0.0, min(until - now, BUSY_TICK_S))
        if self._book.too_many is not None:
            return 0.0
        if not link.held:
            # The queue does the waiting, unless it can't be asked now.
            return min(IDLE_WAIT_S, max(0.0, link.retry_at - now)) if link.down else 0.0
        if self._spares or self._suspects or self._crew.room(self._pace.seconds_each):
            until = min(until, now + BUSY_TICK_S)
        else:
            until = min(until, self._revoke_at)
        if self._live is not None:
            until = min(until, self._live_at)
        return max(0.0, until - now)

    def _leave(self, now: float) -> None:
        """Told to stop, and after grace and kill something is still held."""
        if self._link.down:
            raise EngineUnavailable(
                f"{self._engine.url}: stopped, but {len(self._link.held)} params could not be "
                "given back: they come back when their leases end"
            )
        self._crew.close()
        gathered = self._link.gathered_ids()
        self._give_back(
            [lease for id_, lease in self._link.held.items() if id_ not in gathered], "stopped"
        )
        self._leave_at = _NEVER
        self._flush()

    def _show(self, now: float) -> None:
        """The live line."""
        self._live_at = now + EVERY_S
        if now >= self._stats_at:
            self._stats = self._link.stats() or self._stats
            self._stats_at = now + STATS_EVERY_S
            if self._stats is not None:
                self._progress.see(self._stats, now)
        if self._live is not None:
            running = len(self._link.held)
            self._live.show(self._progress.text(self._book.summary.done, self._stats, running))

    def _settle_status(self, summary: Summary) -> None:
        """The exit status of an orderly end."""
        summary.why = self._ending
        if self._ending_status is not None:
            summary.exit_status = self._ending_status
            return
        self._stats = self._link.stats()
        summary.exit_status = stopped_status(self._stats)
        import signal

        if self._stopping.by_signal == signal.SIGINT:
            summary.died_of = int(signal.SIGINT)
            summary.exit_status = 130

    def _fail(self, summary: Summary, error: MinionizeError) -> None:
        summary.why = str(error)
        summary.exit_status = error.exit_status
        self._say(str(error))

    def _close(self, summary: Summary) -> None:
        """End what runs, tell what can be told, leave."""
        self._crew.close()
        try:
            with contextlib.suppress(EngineUnavailable):
                self._link.flush()
            self._engine.close()
        except MinionizeError as error:
            if not summary.exit_status or summary.exit_status == 1:
                self._fail(summary, error)
        self._book.ends(summary.why)
        self._reporter.close()
        if self._guard is not None:
            self._guard.close()
        if self._live is not None:
            self._live.clear()
        self._stopping.restore()
        self._stopping.close()

    def _say(self, text: str) -> None:
        if self._live is not None:
            self._live.clear()
        self._lines(text)

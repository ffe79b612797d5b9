"""The loop of a minion: lease, run, settle, until what it was asked to wait for is reached."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from minionize.contracts.crew import Crew, Inline, Outcome, Verdict
from minionize.contracts.engine import Engine
from minionize.contracts.reporter import Reporter
from minionize.errors import EngineUnavailable, MinionizeError
from minionize.settings import Settings
from minionize.values import Clock, SystemClock
from minionize.worker.beating import Beating
from minionize.worker.book import Book
from minionize.worker.checkpoints import Checkpoints
from minionize.worker.collecting import SeldomCollecting
from minionize.worker.decisions import lease_limit
from minionize.worker.ending import Ending
from minionize.worker.guard import Guard
from minionize.worker.lines import last_words
from minionize.worker.link import Link
from minionize.worker.live import Live
from minionize.worker.pace import Pace
from minionize.worker.signals import Stopping
from minionize.worker.summary import Summary
from minionize.worker.waiting import Waiting
from minionize.worker.watching import IDLE_WAIT_S, Watching

SPARE_S = 2.0
"""A spare that waits for longer goes back."""
BUSY_TICK_S = 0.1
"""With something running and an idle slot, the queue is asked so often."""


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
        checkpoints: Checkpoints | None = None,
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
        self._command = command
        self._pace = Pace(crew.slots)
        self._link = Link(
            engine,
            self._clock,
            lease_s=settings.lease_s,
            reconnect_s=settings.reconnect_s,
            say=self._say,
            checkpoints=checkpoints,
        )
        self._book = Book(self._link, reporter, settings, self._pace, self._clock, self._say)
        now = self._clock.monotonic()
        # Before what may have something to say from its beginning.
        self._watching = Watching(self._link, settings, None if settings.quiet else live, now)
        beat_s = settings.lease_s / 4
        link, book = self._link, self._book
        self._waiting = Waiting(
            crew, link, book, self._pace, max_crashes=settings.max_crashes, beat_s=beat_s
        )
        self._beating = Beating(
            link,
            crew,
            book,
            self._waiting,
            reporter,
            guard,
            clock=self._clock,
            beat_s=beat_s,
            say=self._say,
            beat_file=settings.beat_file,
        )
        self._began = now
        self._lease_at = now
        self._revoke_at = now
        self._ending = Ending(
            engine,
            crew,
            link,
            book,
            self._waiting,
            self._watching,
            self._stopping,
            settings,
            now=now,
            time_now=self._clock.time(),
            flush=self._flush,
            say=self._say,
        )
        if isinstance(crew, Inline):
            crew.on_long_run(self._beating.meanwhile)

    def run(self) -> Summary:
        """Work until the end that the settings ask for. Raises nothing of the queue's: the
        summary has the exit status, and `lines` got the reason."""
        summary = self._book.summary
        self._stopping.install()
        # Inline functions have garbage of their own, and it may be large.
        collecting = None if isinstance(self._crew, Inline) else SeldomCollecting()
        try:
            try:
                self._ending.begin()
                if self._guard is not None:
                    self._guard.arm("", self._settings.lease_s)
                self._book.begins(self._command)
                self._work()
                self._ending.tell(summary)
            except MinionizeError as error:
                self._fail(summary, error)
        finally:
            self._close(summary)
            if collecting is not None:
                collecting.restore()
        summary.seconds = self._clock.monotonic() - self._began
        if not self._settings.quiet:
            durable = self._engine.traits.durable
            self._say(
                last_words(summary, self._watching.stats, None if durable else self._book.dead)
            )
        return summary

    def _work(self) -> None:
        crew, link, stopping, clock = self._crew, self._link, self._stopping, self._clock
        waiting, watching, beating = self._waiting, self._watching, self._beating
        ending = self._ending
        while True:
            now = clock.monotonic()
            if not ending.why:
                ending.look(now)
            elif now >= ending.kill_at or stopping.kill_now:
                ending.kill(now)
            if now >= beating.at or link.down:
                beating.go_on(now)
            if waiting:
                waiting.start(now)
            if link.flush_at is not None and (now >= link.flush_at or link.all_ended):
                self._flush()
            if now >= self._revoke_at:
                self._give_back_spares(now)
            if not ending.why:
                self._lease(now)
            if not link.held:
                self._pace.idled()
                if ending.is_over(now):
                    return
                self._lease_at = now  # there is nothing else to do
            if watching.shows_late(now, len(link.held)):
                # With nothing in hand and no room for more, a function is being loaded.
                loading = not link.held and not crew.room(self._pace.seconds_each)
                watching.show(now, self._book.summary.done, len(link.held), loading=loading)
            now = clock.monotonic()
            outcomes = crew.wait(self._patience(now))
            if not outcomes:
                continue
            if waiting.spares and not link.marked:
                outcomes = self._run_on(outcomes)
            now = clock.monotonic()
            # We may have slept for longer than the lease: ask before anything is told.
            beating.renew(now)
            if self._book.take(outcomes, ending.has_stopped) and not self._flush():
                waiting.unsynced = True

    def _run_on(self, outcomes: list[Outcome]) -> list[Outcome]:
        """While spares are there and all goes well, the next run first, and the books of the
        last ones later: together, when an ack must not wait for longer. Returns all outcomes."""
        crew, waiting, stopping, clock = self._crew, self._waiting, self._stopping, self._clock
        now = clock.monotonic()
        self._link.gather(now)
        until = self._due_at()
        # With fewer there is time for a trip to the queue.
        few = self._pace.ahead // 2
        fresh = outcomes
        while now < until and not stopping.why:
            waiting.start(now)
            if len(waiting.spares) <= few:
                break
            for outcome in fresh:
                if outcome.verdict is not Verdict.DONE:
                    return outcomes
            now = clock.monotonic()
            fresh = crew.wait(until - now)
            if not fresh:
                break
            outcomes += fresh
            now = clock.monotonic()
        return outcomes

    def _flush(self) -> bool:
        """Tell queue and reporter what gathered."""
        self._book.report()
        if not self._link.flush(acks_wait=self._book.acks_wait()):
            self._link.flush_at = max(self._link.retry_at, self._link.flush_at or 0.0)
            return False
        self._waiting.unsynced = False
        return True

    def _give_back_spares(self, now: float) -> None:
        """Spares that waited for too long: another minion may have room."""
        self._revoke_at = now + SPARE_S / 8
        old = self._waiting.take_old(now, SPARE_S)
        if len(self._link.held) > len(self._waiting) + len(old):
            old += self._crew.revoke(SPARE_S)
        if old:
            self._pace.stalled()
            self._book.give_back(old, "waited")
            self._flush()

    def _lease(self, now: float) -> None:
        """Take more, if there is a use for it."""
        if now < self._lease_at or now >= self._ending.leases_until:
            return
        link, settings = self._link, self._settings
        spares = len(self._waiting)
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
        wait_s = 0.0 if in_hand else self._watching.patience_s(now)
        leases = link.lease(limit, wait_s)
        if not leases:
            self._lease_at = now + BUSY_TICK_S if in_hand else now
            return
        self._watching.got_some()
        came_at = self._clock.monotonic()
        self._pace.leased(len(leases), None if wait_s else came_at - now)
        self._waiting.accept(leases, came_at)

    def _due_at(self) -> float:
        """When the loop must look after something at the latest."""
        ending = self._ending
        due_at = min(self._beating.at, ending.due_at, ending.kill_at, self._watching.show_at)
        flush_at = self._link.flush_at
        return due_at if flush_at is None or flush_at > due_at else flush_at

    def _patience(self, now: float) -> float:
        """How long the crew may wait."""
        link = self._link
        until = self._due_at()
        if self._ending.why:
            self._ending.leave(now)
            return max(0.0, min(until - now, BUSY_TICK_S))
        if self._book.too_many is not None:
            return 0.0
        if not link.held:
            # The queue does the waiting, unless it can't be asked now.
            return min(IDLE_WAIT_S, max(0.0, link.take_at - now))
        if self._waiting or self._crew.room(self._pace.seconds_each):
            until = min(until, now + BUSY_TICK_S)
        else:
            until = min(until, self._revoke_at)
        return max(0.0, until - now)

    def _fail(self, summary: Summary, error: MinionizeError) -> None:
        summary.why = str(error)
        summary.exit_status = error.exit_status
        self._say(str(error))

    def _close(self, summary: Summary) -> None:
        """End what runs, tell what can be told, leave."""
        self._crew.close()
        if self._guard is not None:
            self._guard.leave()  # it looks around while we take our leave
        try:
            self._book.report()
            if self._book.acks_wait():
                self._book.give_back_unkept()
            with contextlib.suppress(EngineUnavailable):
                self._link.flush(last=True)
            self._engine.close()
        except MinionizeError as error:
            if not summary.exit_status or summary.exit_status == 1:
                self._fail(summary, error)
        self._book.ends(summary.why)
        self._reporter.close()
        if self._guard is not None:
            self._guard.close()
        self._watching.clear()
        self._stopping.restore()
        self._stopping.close()

    def _say(self, text: str) -> None:
        self._watching.clear()
        self._lines(text)

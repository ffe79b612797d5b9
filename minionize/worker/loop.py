"""The loop of a minion: lease, run, settle, until what it was asked to wait for is reached."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from minionize.contracts.crew import Crew, Outcome, Verdict
from minionize.contracts.engine import Engine
from minionize.contracts.reporter import Reporter
from minionize.errors import EngineUnavailable, MinionizeError
from minionize.settings import Settings
from minionize.values import Clock, SystemClock
from minionize.worker.beating import Beating
from minionize.worker.book import Book
from minionize.worker.collecting import SeldomCollecting
from minionize.worker.decisions import drained_status, lease_limit, stop_in_s, stopped_status
from minionize.worker.guard import Guard
from minionize.worker.lines import last_words
from minionize.worker.link import GATHER_S, Link
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
        beat_s = settings.lease_s / 4
        self._waiting = Waiting(
            crew,
            self._link,
            self._book,
            self._pace,
            max_crashes=settings.max_crashes,
            beat_s=beat_s,
        )
        self._beating = Beating(
            self._link,
            crew,
            self._book,
            self._waiting,
            reporter,
            guard,
            clock=self._clock,
            beat_s=beat_s,
            say=self._say,
        )
        now = self._clock.monotonic()
        self._watching = Watching(self._link, settings, None if settings.quiet else live, now)
        self._began = now
        self._lease_at = now
        self._revoke_at = now
        self._stops_before = 0
        self._ends_at = now + stop_in_s(settings, self._clock.time())
        self._ending = ""
        """Why it leases nothing more; empty while it does."""
        self._ending_status: int | None = None
        self._kill_at = _NEVER
        self._leave_at = _NEVER
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
        while True:
            now = clock.monotonic()
            if not self._ending:
                self._look_for_end(now)
            elif now >= self._kill_at or stopping.kill_now:
                self._kill(now)
            if now >= beating.at or link.down:
                beating.go_on(now)
            if waiting:
                waiting.start(now)
            if link.flush_at is not None and now >= link.flush_at:
                self._flush()
            if now >= self._revoke_at:
                self._give_back_spares(now)
            if not self._ending:
                self._lease(now)
            if not link.held and self._is_over(now):
                return
            if now >= watching.show_at:
                watching.show(now, self._book.summary.done, len(link.held))
            now = clock.monotonic()
            outcomes = crew.wait(self._patience(now))
            if not outcomes:
                continue
            if waiting.spares and not link.marked:
                outcomes = self._run_on(outcomes)
            now = clock.monotonic()
            # We may have slept for longer than the lease: ask before anything is told.
            beating.renew(now)
            if self._book.take(outcomes, bool(self._ending)) and not self._flush():
                waiting.unsynced = True

    def _run_on(self, outcomes: list[Outcome]) -> list[Outcome]:
        """While spares are there and all goes well, the next run first, and the books of the
        last ones later: together, when an ack must not wait for longer. Returns all outcomes."""
        crew, waiting, stopping, clock = self._crew, self._waiting, self._stopping, self._clock
        now = clock.monotonic()
        until = min(self._due_at(), now + GATHER_S)
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
        if self._link.flush_at is None and now >= until:
            self._link.flush_at = now
        return outcomes

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
        self._book.give_back(self._waiting.take_all(), "stopped")
        self._crew.terminate()
        self._flush()

    def _kill(self, now: float) -> None:
        """The grace is over."""
        self._crew.kill()
        self._kill_at = _NEVER
        self._stopping.kill_now = False
        self._leave_at = min(self._leave_at, now + _AFTER_KILL_S)

    def _flush(self) -> bool:
        """Tell queue and reporter what gathered."""
        self._book.report()
        if not self._link.flush():
            self._link.flush_at = max(self._link.retry_at, self._link.flush_at or 0.0)
            return False
        self._waiting.unsynced = False
        return True

    def _give_back_spares(self, now: float) -> None:
        """Spares that waited for too long: somebody else may have room."""
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
        if now < self._lease_at:
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
        self._pace.leased(len(leases))
        self._waiting.accept(leases, self._clock.monotonic())

    def _is_over(self, now: float) -> bool:
        """With nothing held: whether this was all."""
        if self._ending:
            return True
        most = self._settings.max_params
        if most is not None and self._book.ended >= most:
            self._ending, self._ending_status = f"{most} params were run", 0
            return True
        self._pace.idled()
        over, why = self._watching.idle_is_over(now)
        if over:
            self._ending = why
            drained = self._settings.until == "drained"
            self._ending_status = drained_status(self._watching.stats) if drained else 0
        return over

    def _due_at(self) -> float:
        """When the loop must look after something at the latest."""
        due_at = min(self._beating.at, self._ends_at, self._kill_at, self._watching.show_at)
        flush_at = self._link.flush_at
        return due_at if flush_at is None or flush_at > due_at else flush_at

    def _patience(self, now: float) -> float:
        """How long the crew may wait."""
        link = self._link
        until = self._due_at()
        if self._ending:
            if now >= self._leave_at:
                self._leave(now)
            return max(0.0, min(until - now, BUSY_TICK_S))
        if self._book.too_many is not None:
            return 0.0
        if not link.held:
            # The queue does the waiting, unless it can't be asked now.
            return min(IDLE_WAIT_S, max(0.0, link.retry_at - now)) if link.down else 0.0
        if self._waiting or self._crew.room(self._pace.seconds_each):
            until = min(until, now + BUSY_TICK_S)
        else:
            until = min(until, self._revoke_at)
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
        self._book.give_back(
            [lease for id_, lease in self._link.held.items() if id_ not in gathered], "stopped"
        )
        self._leave_at = _NEVER
        self._flush()

    def _settle_status(self, summary: Summary) -> None:
        """The exit status of an orderly end."""
        summary.why = self._ending
        if self._ending_status is not None:
            summary.exit_status = self._ending_status
            return
        summary.exit_status = stopped_status(self._watching.ask())
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
        self._watching.clear()
        self._stopping.restore()
        self._stopping.close()

    def _say(self, text: str) -> None:
        self._watching.clear()
        self._lines(text)

"""The beat of a minion: leases are renewed, lost ones given up, and the guard told that all is
well."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection

from minionize.contracts.crew import Crew
from minionize.contracts.reporter import Reporter
from minionize.errors import MinionizeError
from minionize.values import Clock, Lease
from minionize.worker.book import Book
from minionize.worker.guard import Guard
from minionize.worker.link import Link
from minionize.worker.waiting import Waiting


class Beating:
    """What must happen in time, whatever else goes on. Times are monotonic seconds."""

    def __init__(
        self,
        link: Link,
        crew: Crew,
        book: Book,
        waiting: Waiting,
        reporter: Reporter,
        guard: Guard | None,
        *,
        clock: Clock,
        beat_s: float,
        say: Callable[[str], None],
        beat_file: str | None = None,
    ) -> None:
        """`beat_file` is touched with each beat of the guard, whatever becomes of that."""
        self._link = link
        self._crew = crew
        self._book = book
        self._waiting = waiting
        self._reporter = reporter
        self._guard = guard
        self._clock = clock
        self._beat_s = beat_s
        self._say = say
        now = clock.monotonic()
        self._beat_at = now + beat_s
        self._retried = 0.0
        """The retry that began with a beat."""
        self._beat_file = beat_file
        self._well()
        self._guard_at = float("inf") if guard is None else now

    @property
    def at(self) -> float:
        """When `go_on` must be called at the latest."""
        return min(self._beat_at, self._guard_at)

    def go_on(self, now: float) -> None:
        """Do what is due at `now`; while the queue can't be reached call it in any case."""
        link = self._link
        if link.down and link.retry_at != self._retried:
            # Each retry begins with it: leases may be renewed though nothing else works.
            self._beat_at = min(self._beat_at, link.retry_at)
        self.renew(now)
        if link.down and link.expired(now):
            self._expire()
        if self._guard is not None and now >= self._guard_at:
            self._guard.beat()
            self._well()
            self._guard_at = now + min(1.0, self._beat_s / 4)
            lost = self._guard.watch()
            if lost is not None:
                self._say(lost)

    def renew(self, now: float) -> None:
        """Renew all leases if that is due, mark what runs for long, let the reporter write."""
        if now < self._beat_at:
            return
        link = self._link
        if now >= link.retry_at:
            self._retried = link.retry_at
        lost = link.extend()
        if lost:
            self._lose(lost, "another minion has it")
        if link.down and link.expired(now):
            self._expire()
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

    def meanwhile(self) -> None:
        """Called from another thread while the loop is inside a function (`--inline`)."""
        now = self._clock.monotonic()
        if self._guard is not None:
            self._guard.beat()
        self._well()
        with contextlib.suppress(MinionizeError):  # comes up again when the loop asks
            self.renew(now)
            if self._link.down and self._link.expired(now):
                self._expire()

    def _well(self) -> None:
        if self._beat_file is None:
            return
        try:
            with open(self._beat_file, "a"):
                os.utime(self._beat_file)
        except OSError as error:
            self._say(
                f"--beat-file {self._beat_file} can't be touched ({os.strerror(error.errno or 0)}):"
                " no health check will see this minion; name another one"
            )
            self._beat_file = None

    def _expire(self) -> None:
        """Nobody could renew the leases in time: they are lost."""
        self._lose(self._link.give_up_all(), "the queue could not be reached for its lease")
        self._waiting.unsynced = False

    def _lose(self, lost: Collection[Lease], why: str) -> None:
        ids = {lease.id for lease in lost}
        unrun = self._waiting.drop(ids)
        self._book.lost(lost, why)
        executing = ids & {lease.id for lease, _ in self._crew.running()}
        ids -= unrun
        if executing:
            some = ", ".join(sorted(executing)[:5]) + (", ..." if len(executing) > 5 else "")
            self._say(f"lost the lease of {some} ({why}): killed, given up")
        if ids:
            self._book.aborting |= executing
            self._crew.abort(ids)

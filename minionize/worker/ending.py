"""How a minion ends: what for, what becomes of what it holds, and with which exit status."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from minionize.contracts.crew import Crew, Outcome
from minionize.contracts.engine import Engine
from minionize.errors import EngineUnavailable
from minionize.settings import Settings
from minionize.worker.book import Book
from minionize.worker.decisions import (
    drained_status,
    lease_in_s,
    stop_comes_s,
    stop_in_s,
    stopped_status,
)
from minionize.worker.lines import duration
from minionize.worker.link import Link
from minionize.worker.signals import SCHEDULERS_SIGNALS, Stopping
from minionize.worker.summary import Summary
from minionize.worker.waiting import Waiting
from minionize.worker.watching import Watching

if TYPE_CHECKING:
    from minionize.worker.wall_time import WallTime

_AFTER_KILL_S = 5.0
_ASK_BEFORE_S = 10.0
"""So long before its time is over a minion asks the scheduler whether that is still so."""
_ANSWER_EVERY_S = 0.1
_LATE_S = 3.0
"""So long an answer is waited for by one that asked later than that."""
_SAME_S = 2.0
"""Ends that differ by less are the same: clocks do."""
_NEVER = float("inf")


class Ending:
    """Whether this minion ends, and the way there. Times are monotonic seconds."""

    def __init__(
        self,
        engine: Engine,
        crew: Crew,
        link: Link,
        book: Book,
        waiting: Waiting,
        watching: Watching,
        stopping: Stopping,
        settings: Settings,
        *,
        now: float,
        time_now: float,
        flush: Callable[[], bool],
        say: Callable[[str], None],
    ) -> None:
        """`time_now`: the Unix time. `flush` tells queue and reporter what gathered."""
        self._engine = engine
        self._crew = crew
        self._link = link
        self._book = book
        self._waiting = waiting
        self._watching = watching
        self._stopping = stopping
        self._settings = settings
        self._flush = flush
        self._say = say
        self.why = ""
        """Why nothing more is leased; empty while there is no reason."""
        self.kill_at = _NEVER
        """When the grace of what runs is over."""
        self.at = self.leases_until = _NEVER
        """When the time of this minion is over; and until when it takes params."""
        self._began = now
        self._asked_at = now
        self._clocks = time_now - now
        self._wall_time: WallTime | None = None
        if settings.deadline is not None:
            from minionize.worker.wall_time import WallTime

            self._wall_time = WallTime.of(settings, time_now)
        self._ask_at = _NEVER
        """When the scheduler is asked for the end of the job, or for the answer."""
        self._ends_at(settings, now)
        self._stops_before = 0
        self._status: int | None = None
        """None: what the queue says in the end."""
        self._cut_short = False
        """Started again it would go on: not with as little time as it had from the beginning."""
        self._leave_at = _NEVER

    def _ends_at(self, settings: Settings, now: float) -> None:
        """What these settings say of the end, at this time."""
        self._settings = settings
        if settings.max_time_s is not None:  # from the beginning on
            settings = settings._replace(max_time_s=settings.max_time_s - (now - self._began))
        left_s = stop_in_s(settings, now + self._clocks)
        self.at, self.leases_until = now + left_s, now + lease_in_s(settings, left_s)
        self._ask_at = _NEVER if self._wall_time is None else self.leases_until - _ASK_BEFORE_S

    @property
    def due_at(self) -> float:
        """When `look` has something to do at the latest."""
        return min(self.at, self._ask_at)

    def _ask(self, now: float) -> None:
        """Ask the scheduler for the end of the job, or see what it has answered."""
        wall_time = self._wall_time
        assert wall_time is not None
        if not wall_time.asking:
            wall_time.ask(now)
            self._ask_at = self._asked_at = now
        told = wall_time.answer(now)
        if told is None:
            self._ask_at = now + _ANSWER_EVERY_S if wall_time.asking else _NEVER
            return
        before = self._settings.deadline or 0.0
        if abs(told.end - before) > _SAME_S:
            self._ends_at(self._settings._replace(deadline=told.end), now)
            if told.end > before and told.line:
                self._say(told.line)
        else:
            # It is asked again at the very end, if that is another time.
            last = self.at - _ASK_BEFORE_S
            self._ask_at = last if last > now else _NEVER

    def _is_sure(self, now: float) -> bool:
        """Whether no answer is to be waited for: it may be that this is not the end."""
        if self._wall_time is None or not self._wall_time.asking:
            return True
        limit = self.at if now >= self.at else self.leases_until
        return now >= max(limit, self._asked_at + _LATE_S)

    def begin(self) -> None:
        """Heed orders from now on: those of before were for others."""
        self._stops_before = self._engine.orders().stops

    def look(self, now: float) -> None:
        """While nothing ends it: signals, orders, its time, too many failures."""
        if now >= self._ask_at:
            self._ask(now)
        if self._stopping.why:
            self._end(now, self._stopping.why)
            self._cut_short = self._stopping.by_signal in SCHEDULERS_SIGNALS
        elif self._engine.orders().stops > self._stops_before:
            self._end(now, "minion stop")
        elif now >= self.at and self._is_sure(now):
            self._end(now, "its time is over")
            self._cut_short = self._began < self.leases_until
        elif self._book.too_many is not None:
            self._end(now, "too many failures in a row", 70)
            self._say(self._book.too_many_line(self._book.too_many))
        elif (
            now >= self.leases_until
            and self._is_sure(now)
            and len(self._link.held) > len(self._crew.running())
        ):
            waiting = self._waiting.take_all() + self._crew.revoke(0.0)
            self._book.give_back(waiting, "too little time left")
            self._flush()

    def _end(self, now: float, why: str, status: int | None = None) -> None:
        """Lease nothing more, give back what has not started, end what runs."""
        self.why = why
        self._status = status
        if self._wall_time is not None:
            self._wall_time.close()
        self.kill_at = now + self._settings.grace_s
        self._leave_at = self.kill_at + _AFTER_KILL_S
        self._book.give_back(self._waiting.take_all(), "stopped")
        self._crew.terminate()
        self._flush()

    def has_stopped(self, outcome: Outcome) -> bool:
        """Whether a run that did not end well was stopped together with this minion."""
        if not self.why:
            self._stopping.wait(stop_comes_s(outcome, self._crew.slots))
        return bool(self.why or self._stopping.why)

    def kill(self, now: float) -> None:
        """The grace is over."""
        self._crew.kill()
        self.kill_at = _NEVER
        self._stopping.kill_now = False
        self._leave_at = min(self._leave_at, now + _AFTER_KILL_S)

    def leave(self, now: float) -> None:
        """While it ends: when something is still held a while after the kill, give it back.
        EngineUnavailable where the queue can't be told."""
        if now < self._leave_at:
            return
        if self._book.acks_wait():
            self._book.give_back_unkept()
            self._link.flush(last=True)
            if not self._link.held:
                return
        if self._link.down and not self._link.busy:
            raise EngineUnavailable(
                f"{self._engine.url}: stopped, but {len(self._link.held)} params could not be "
                "given back: they come back when their leases end"
            )
        self._crew.close()
        gathered = self._link.gathered_ids()
        self._book.give_back(
            [lease for id_, lease in self._link.held.items() if id_ not in gathered], "stopped"
        )
        # A busy queue may be gone before it takes them.
        self._leave_at = _NEVER if self._flush() else now + _AFTER_KILL_S

    def is_over(self, now: float) -> bool:
        """With nothing held and nothing got: whether this was all."""
        if self.why:
            return True
        most = self._settings.max_params
        if most is not None and self._book.ended >= most:
            self.why = f"{most} params were run"
            self._status = None if self._watching.in_kubernetes else 0
            return True
        if now >= self.leases_until and self._is_sure(now):
            self.why = f"less than {duration(self._settings.min_left_s or 0.0)} left"
            self._cut_short = self._began < self.leases_until
            return True
        over, why, drained = self._watching.idle_is_over(now)
        if over:
            self.why = why
            stats, dead = self._watching.stats, self._book.summary.dead
            self._status = drained_status(stats, dead) if drained else 0
        return over

    def tell(self, summary: Summary) -> None:
        """Reason and exit status of an orderly end."""
        if self._wall_time is not None:
            self._wall_time.close()
        summary.why = self.why
        if self._status is not None:
            summary.exit_status = self._status
            return
        summary.exit_status = stopped_status(self._watching.ask())
        summary.cut_short = self._cut_short
        import signal

        if self._stopping.by_signal == signal.SIGINT:
            summary.died_of = int(signal.SIGINT)
            summary.exit_status = 130

"""The books of a minion: what became of each run, as told to queue, reporter and person."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence

from minionize.contracts.crew import Flaw, Outcome, Verdict
from minionize.contracts.engine import TellsForgotten
from minionize.contracts.reporter import Reporter
from minionize.events import Event, Kind
from minionize.settings import Settings
from minionize.values import Clock, Failure, Lease
from minionize.worker.decisions import (
    INNOCENT,
    NEVER_BEGAN,
    UNABLE_S,
    FailuresInARow,
    Settlement,
    settle,
)
from minionize.worker.delivery import UNDELIVERED
from minionize.worker.lines import FailureLines, last_line, printable
from minionize.worker.link import Link
from minionize.worker.memory import OomKills
from minionize.worker.pace import Pace
from minionize.worker.summary import Summary
from minionize.worker.unkept_results import NOT_KEPT, UnkeptResults

_NAMED = 5
"""Dead letters that the last line names, where there is no queue to look at afterwards."""

_REMEDIES = {
    Flaw.REST: ": --grace sets how long processes of a run may go on after its end",
    Flaw.REPLACED: ": put {id} into the file's name",
}


def drop(path: str) -> None:
    """Remove the file of a result that is not kept."""
    with contextlib.suppress(OSError):
        os.unlink(path)


class Book:
    """Takes outcomes, and tells the link, the reporter and the person."""

    def __init__(
        self,
        link: Link,
        reporter: Reporter,
        settings: Settings,
        pace: Pace,
        clock: Clock,
        say: Callable[[str], None],
    ) -> None:
        self._link = link
        self._reporter = reporter
        self._pace = pace
        self._clock = clock
        self._max_attempts = settings.max_attempts
        self._most_in_a_row = settings.max_failures_in_a_row
        self._keeps_params = link.engine.traits.keeps_done
        self._forgets = link.engine if isinstance(link.engine, TellsForgotten) else None
        self._wants_events = reporter.wants_events
        self._events: list[Event] = []
        self._in_a_row = FailuresInARow(settings.max_failures_in_a_row)
        self._failures = FailureLines(say, clock, settings.max_attempts)
        self._unkept = UnkeptResults(reporter, captured=bool(settings.capture))
        self._quiet = settings.quiet
        self._say = say
        self._oom_kills = OomKills()
        self._told_lost = False
        self._told_undelivered = False
        self._told_crowded = False
        self._told_unable: set[str] = set()
        self.summary = Summary()
        self.dead: list[str] = []
        """Ids of the first few that became dead letters here."""
        self.ended = 0
        """Runs that came to an end of their own."""
        self.too_many: Failure | None = None
        """The commonest reason, once there were too many failures in a row."""
        self.aborting: set[str] = set()
        """Ids of lost leases whose runs are being killed."""

    def take(self, outcomes: Sequence[Outcome], stopped: Callable[[Outcome], bool]) -> bool:
        """Settle these. `stopped` tells of one that did not end well whether that is because
        this minion is being stopped: then it is innocent.

        Returns whether one of them was marked as started: then it must be told at once.
        """
        link = self._link
        held, marked, acks = link.held, link.marked, link.acks
        events = self._events if self._wants_events else None
        forgets = self._forgets
        keeps_params = self._keeps_params and (forgets is None or not forgets.forgotten_below)
        at_s = self._clock.time()
        now = self._clock.monotonic()
        count = done = 0
        seconds = 0.0
        urgent = False
        # Once for each run: what is looked up here, one field after the other, takes longest.
        is_done, ack = Verdict.DONE, Kind.ACK
        for outcome in outcomes:
            (
                lease, verdict, slot, took_s, exit_status, cpu_s, peak_kib, peak_below,
                reason, detail, _, result, stdout, stderr, flaws, result_file,
            ) = outcome  # fmt: skip
            mine = held.get(lease.id)
            if mine is not lease and mine != lease:
                self.aborting.discard(lease.id)
                if result_file is not None:
                    drop(result_file)
                continue
            if marked and lease.id in marked:
                urgent = True
            if verdict is not is_done:
                if verdict not in NEVER_BEGAN:
                    count += 1
                    seconds += took_s
                if done:
                    # Their order matters to the count of failures in a row.
                    self._in_a_row.ended_well()
                    self.summary.done += done
                    self.ended += done
                    done = 0
                self._not_done(outcome, stopped(outcome), at_s, now)
                continue
            count += 1
            done += 1
            seconds += took_s
            if flaws:
                self._tell_flaws(outcome)
            acks.append(lease)
            if events is not None:
                events.append(
                    Event(
                        ack,
                        at_s,
                        lease.id,
                        lease.attempt,
                        slot,
                        took_s,
                        exit_status,
                        cpu_s,
                        peak_kib,
                        peak_below,
                        reason,
                        detail,
                        False,
                        0.0,
                        result,
                        stdout,
                        stderr,
                        None if keeps_params else self._param(lease),
                        "",
                        result_file or "",
                    )
                )
        if done:
            self._in_a_row.ended_well()
            self.summary.done += done
            self.ended += done
            if events is None and not self._told_lost and outcomes[-1].result is not None:
                self._told_lost = True
                self._say(
                    "what the function returns is lost under the null reporter: "
                    "--reporter json keeps it"
                )
        if acks:
            link.gather(now)
        if count:
            self._pace.ended(count, seconds, now)
        return urgent

    def _tell_flaws(self, outcome: Outcome) -> None:
        """Done, with something that a person should know: count it, and say the first one."""
        for flaw in outcome.flaws:
            seen = self.summary.flaws.get(flaw, 0)
            self.summary.flaws[flaw] = seen + 1
            if not seen:
                id_, reason = printable(outcome.lease.id), printable(outcome.reason, 300)
                self._say(f"{id_}: done, but {reason}{_REMEDIES[flaw]}")

    def _not_done(self, outcome: Outcome, stopping: bool, at_s: float, now: float) -> None:
        lease = outcome.lease
        outcome = self._oom_kills.explain(outcome)
        if outcome.result_file is not None:
            drop(outcome.result_file)
        settlement = INNOCENT if stopping else settle(outcome, self._max_attempts)
        if outcome.verdict is Verdict.CROWDED and not self._told_crowded and not self._quiet:
            self._told_crowded = True
            self._say(f"{printable(outcome.reason)}: fewer run at once here until there is room")
        if outcome.verdict is Verdict.UNABLE and not stopping:
            self._say_unable(outcome)
            if self._in_a_row.failed(1, outcome.reason, outcome.detail):
                self.too_many = self._in_a_row.commonest()
        self._link.settled(lease, settlement, now)
        if outcome.reason == UNDELIVERED and not self._told_undelivered:
            self._told_undelivered = True
            self._say(
                f"{lease.id}: {UNDELIVERED}: the disk it goes to may be full: make room, or start "
                "again with another place for it"
            )
        charged = settlement.charge or settlement.kind == "bury"
        if settlement.kind == "bury":
            self._one_more_dead(lease)
        elif not settlement.charge:
            self.summary.given_back += 1
        if charged:
            self.ended += 1
            reason, detail = settlement.failure or (outcome.reason, outcome.detail)
            self.summary.failed += 1
            if not self._quiet:
                self._failures.failed(lease, reason, detail, settlement)
            rejected = outcome.verdict is Verdict.REJECTED
            if not rejected and self._in_a_row.failed(lease.attempt, reason, detail):
                self.too_many = self._in_a_row.commonest()
        elif settlement.later:
            self.ended += 1
        if self._wants_events:
            self._events.append(
                Event(
                    Kind.DEAD if settlement.kind == "bury" else Kind.GIVE_BACK,
                    at_s,
                    lease.id,
                    lease.attempt,
                    outcome.slot,
                    outcome.seconds,
                    outcome.exit_status,
                    outcome.cpu_s,
                    outcome.peak_kib,
                    outcome.peak_below,
                    settlement.failure.reason if settlement.failure else outcome.reason,
                    outcome.detail,
                    charged,
                    settlement.delay_s,
                    outcome.result,
                    outcome.stdout,
                    outcome.stderr,
                    self._param(lease),
                )
            )

    def _say_unable(self, outcome: Outcome) -> None:
        """Each reason once: that of many params is one."""
        if outcome.reason in self._told_unable or self._quiet:
            return
        self._told_unable.add(outcome.reason)
        last = last_line(outcome.detail)
        said = f" ({printable(last)})" if last else ""
        self._say(
            f"{outcome.lease.id}: {printable(outcome.reason)}{said}: given back, not charged; "
            "this host is at fault"
        )

    def bury_unrun(self, lease: Lease, failure: Failure) -> None:
        """A dead letter that is not run any more."""
        self._link.settled(lease, Settlement("bury", failure=failure), self._clock.monotonic())
        self._one_more_dead(lease)
        if not self._quiet:
            self._failures.failed(lease, failure.reason, "", Settlement("bury"))
        self._event(Kind.DEAD, lease, failure.reason)

    def _one_more_dead(self, lease: Lease) -> None:
        self.summary.dead += 1
        if len(self.dead) < _NAMED:
            self.dead.append(lease.id)

    def give_back(self, leases: Iterable[Lease], why: str) -> None:
        """Given back unrun and uncharged."""
        now = self._clock.monotonic()
        for lease in leases:
            self._link.settled(lease, INNOCENT, now)
            self.summary.given_back += 1
            self._event(Kind.GIVE_BACK, lease, why)

    def lost(self, leases: Iterable[Lease], why: str) -> None:
        """These leases were lost; the link holds them no more."""
        for lease in leases:
            self.summary.lost += 1
            self._event(Kind.LOST, lease, why)

    def too_many_line(self, failure: Failure) -> str:
        """Why a minion that only fails stops."""
        last = last_line(failure.detail)
        said = f" ({printable(last)})" if last else ""
        return (
            f"stopped: the last {self._in_a_row.count} first attempts all failed, mostly with "
            f"{printable(failure.reason)}{said}; what is left was given back. Mend this host or "
            f"program, or change --max-failures-in-a-row ({self._most_in_a_row}, 0 for never)"
        )

    def begins(self, command: str) -> None:
        """The minion begins."""
        if self._wants_events:
            self._events.append(Event(Kind.BEGIN, self._clock.time(), command=command))

    def ends(self, why: str) -> None:
        """The minion ends."""
        self._failures.say_unsaid()
        if self._wants_events:
            self._events.append(Event(Kind.END, self._clock.time(), reason=why))
        self.report()

    def report(self) -> None:
        """Pass on the events that gathered."""
        if self._events:
            events, self._events = self._events, []
            self._reporter.report(events)
            self._unkept.reported(events)

    def acks_wait(self) -> str:
        """Why no ack can be told to the queue now: the report has not kept the results of those
        runs. Empty where it has. Gives those back whose results the report had to drop."""
        if self._unkept.are_lost:
            self.give_back_unkept()
            return ""
        link = self._link
        return self._unkept.why(ask=not link.down or self._clock.monotonic() >= link.retry_at)

    def give_back_unkept(self) -> None:
        """The runs whose acks wait are not done: they run again, at no one's charge."""
        self._unkept.given_up()
        leases = self._link.take_back_acks()
        now = self._clock.monotonic()
        for lease in leases:
            self._link.settled(lease, Settlement("nack", delay_s=UNABLE_S), now)
            self._event(Kind.GIVE_BACK, lease, NOT_KEPT)
        self.summary.done -= len(leases)
        self.summary.given_back += len(leases)
        self.ended -= len(leases)
        if leases and self._in_a_row.failed(1, NOT_KEPT, ""):
            self.too_many = self._in_a_row.commonest()

    def _param(self, lease: Lease) -> str | None:
        """The text, where the queue won't have it when the param is done."""
        if not self._keeps_params:
            return lease.text
        below = 0 if self._forgets is None else self._forgets.forgotten_below
        return lease.text if below and int(lease.id) < below else None

    def _event(self, kind: Kind, lease: Lease, reason: str) -> None:
        if self._wants_events:
            param = self._param(lease)
            event = Event(
                kind, self._clock.time(), lease.id, lease.attempt, reason=reason, param=param
            )
            self._events.append(event)

"""What becomes of a run, and when a minion ends: pure functions, no clock and no queue."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from typing import NamedTuple

from minionize.contracts.crew import Outcome, Verdict
from minionize.settings import Settings
from minionize.values import Failure, Lease, Stats

LATERS_CHARGED = 20
"""The so-many-th `later` in a row counts as a failed attempt."""
UNABLE_S = 5.0
"""What this machine can't run waits for so long: another may take it, and so may we again."""
LEASES_MOST = 16_384
"""Spares are never more than this, however short the runs: they are memory."""
LEAVE_S = 2.0
"""What a minion takes to leave once its programs have ended."""
STOP_COMES_S = 0.25
"""A scheduler signals all processes of a job, one after the other: when a run died of such a
signal, ours comes within this time or not at all."""
_WAIT_SHARE = 0.05
"""Of the time of its runs, a minion waits so much for a signal that may explain a failure."""
GAVE_WAY = "idle, others have the rest"
"""Why a minion ended that left before the queue was drained."""
_STOPS = ("SIGHUP", "SIGINT", "SIGUSR1", "SIGUSR2", "SIGTERM")
_STOP_REASONS = frozenset(
    [f"signal {name}" for name in _STOPS]
    + [f"exit {128 + signal.Signals[name]}" for name in _STOPS]
)
"""How a run fails that got the scheduler's signal; the second as a shell tells it."""
ISOLATED_CRASHES = 3
"""From so many crashes on, a suspect runs with no other suspect beside it."""


class Settlement(NamedTuple):
    """What the queue is told about one lease that came to an end."""

    kind: str
    """`ack`, `nack` or `bury`."""
    delay_s: float = 0.0
    charge: bool = False
    later: bool = False
    failure: Failure | None = None
    """With `bury`."""


NEVER_BEGAN = frozenset({Verdict.ABORTED, Verdict.CROWDED, Verdict.UNABLE})
"""Verdicts without a charge, which tell nothing of how long a run takes."""
ACK = Settlement("ack")
INNOCENT = Settlement("nack")


def backoff_s(attempt: int, *, base_s: float = 1.0, cap_s: float = 300.0) -> float:
    """Seconds to wait before the next attempt: doubles from `base_s`, never above `cap_s`."""
    return min(cap_s, base_s * 2.0 ** min(max(attempt, 1) - 1, 30))


def settle(outcome: Outcome, max_attempts: int) -> Settlement:
    """What becomes of a lease whose run ended like this."""
    lease, verdict = outcome.lease, outcome.verdict
    if verdict is Verdict.DONE:
        return ACK
    if verdict in (Verdict.ABORTED, Verdict.CROWDED):
        return INNOCENT
    if verdict is Verdict.UNABLE:
        return Settlement("nack", delay_s=UNABLE_S)
    if verdict is Verdict.REJECTED:
        return Settlement("bury", failure=Failure(outcome.reason or "rejected", outcome.detail))
    if verdict is Verdict.LATER:
        asked = lease.laters + 1
        if asked < LATERS_CHARGED:
            delay_s = backoff_s(asked) if outcome.delay_s is None else max(0.0, outcome.delay_s)
            return Settlement("nack", delay_s=delay_s, later=True)
        reason = f"asked for later {asked} times in a row"
    else:
        reason = outcome.reason or "failed"
    if lease.attempt >= max_attempts:
        return Settlement("bury", failure=Failure(reason, outcome.detail))
    return Settlement("nack", delay_s=backoff_s(lease.attempt), charge=True)


def crashed_too_often(lease: Lease, max_crashes: int) -> Failure | None:
    """Why `lease` is buried unrun, or None. `max_crashes` 0: never."""
    if 0 < max_crashes <= lease.crashes:
        return Failure(f"crashed its minion {lease.crashes} times")
    return None


def suspect_may_start(crashes: int, beside: Iterable[tuple[int, float]], beat_s: float) -> bool:
    """Whether a suspect may start beside the suspects that run: (crashes, seconds running).

    A poison takes all that are marked with it, so suspects start one by one, a beat apart; and one
    that saw `ISOLATED_CRASHES` starts and runs alone among suspects, so that of those that were
    charged together only the poison goes on to the end.
    """
    return all(
        seconds >= beat_s and others < ISOLATED_CRASHES and crashes < ISOLATED_CRASHES
        for others, seconds in beside
    )


def lease_limit(slots: int, held: int, spares: int, room: int, ahead: int) -> int:
    """How many params to lease now; 0 for none.

    One per slot and `ahead` more are held at most. While half of the spares are still there
    none is asked for, so that a trip to the queue is worth it; an idle slot does not wait.
    """
    if spares > room and 2 * spares > ahead:
        return 0
    return max(0, slots + ahead - held)


class FailuresInARow:
    """Counts first attempts that failed with none that ended well between."""

    def __init__(self, most: int) -> None:
        """`most`: stop at so many; 0 for never."""
        self._most = most
        self._reasons: dict[str, tuple[int, str]] = {}
        self.count = 0

    def ended_well(self) -> None:
        """A run ended well: begin anew."""
        if self.count:
            self.count = 0
            self._reasons.clear()

    def failed(self, attempt: int, reason: str, detail: str) -> bool:
        """One more failed attempt; True when it is time to stop. Retries do not count: they
        gather at the end of a campaign."""
        if attempt > 1:
            return False
        self.count += 1
        times, _ = self._reasons.get(reason, (0, ""))
        self._reasons[reason] = (times + 1, detail)
        return 0 < self._most <= self.count

    def commonest(self) -> Failure:
        """The reason seen most often, with the detail of its last time."""
        reason, (_, detail) = max(self._reasons.items(), key=lambda item: item[1][0])
        return Failure(reason, detail)


def stop_comes_s(outcome: Outcome, slots: int) -> float:
    """How long to wait for a signal of our own, since this run may have got the one that is meant
    for the whole job. 0 if it can't have.

    Who saves its state on TERM may end with any status. That can't be told from another failure, so
    all of those together wait for no more than a small share of what `slots` do.
    """
    if outcome.verdict is not Verdict.FAILED:
        return 0.0
    if outcome.reason in _STOP_REASONS:
        return STOP_COMES_S
    if not outcome.exit_status:
        return 0.0
    return min(STOP_COMES_S, outcome.seconds * _WAIT_SHARE / slots)


class Ended(NamedTuple):
    """Whether an idle minion is done."""

    over: bool
    why: str = ""
    drained: bool = False
    """Then it ends with 1 where there are dead letters."""


def idle_is_over(until: str, stats: Stats | None, idle_for_s: float, idle_s: float) -> Ended:
    """Whether a minion that holds nothing and got nothing has reached what it waits for.

    `stats` is None where the queue could not be asked. Where counts are unknown, drained is
    idle for `idle_s`.
    """
    if until == "forever" or stats is None:
        return Ended(False)
    if until == "empty":
        nothing = idle_for_s > 0 if stats.waiting is None else stats.waiting == 0
        return Ended(nothing, "nothing to take now")
    drained = stats.drained
    if drained is None:
        return Ended(
            idle_for_s >= idle_s and not stats.feeders and not stats.paused,
            f"nothing came for {idle_s:g} s",
            drained=True,
        )
    return Ended(drained, "drained", drained=True)


def others_have_the_rest(stats: Stats | None) -> bool:
    """Whether all that is left is leased by others, so that an idle minion can only wait for one
    of them to drop something."""
    if stats is None or stats.feeders:
        return False
    return stats.waiting == 0 and stats.delayed == 0 and bool(stats.running)


def leaves_idle(idle_before: int | None, keep_idle: int) -> bool:
    """Whether an idle minion gives its node back, when others have had the rest for --idle.

    `idle_before`: how many idle minions, surely alive, come before this one in the order of ids.
    All see the same order, so the first `keep_idle` of them stay, whatever the others see and
    decide. None where the queue can't tell: then all stay.
    """
    return idle_before is not None and idle_before >= keep_idle


def stop_in_s(settings: Settings, time_now: float) -> float:
    """Seconds from now until a minion must begin to stop; infinite where there is no limit.

    The scheduler's end must find it gone: so its programs get their TERM before that, with the
    grace and a little for the queue between.
    """
    left_s = float("inf")
    if settings.max_time_s is not None:
        left_s = settings.max_time_s
    if settings.deadline is not None:
        left_s = min(left_s, settings.deadline - time_now - settings.grace_s - LEAVE_S)
    return left_s


def lease_in_s(settings: Settings, stop_in_s: float) -> float:
    """Seconds from now until a minion takes nothing more, as its runs have `stop_in_s`; 0 or less
    where its whole time is shorter than --min-left."""
    return stop_in_s - (settings.min_left_s or 0.0)


def stopped_status(stats: Stats | None) -> int:
    """Exit status after a stop by signal, order or wall time: 75 while params remain."""
    if stats is None or stats.drained is not True:
        return 75
    return drained_status(stats)


def drained_status(stats: Stats | None, own_dead: int = 0) -> int:
    """Exit status of a drained queue: 1 when it holds dead letters or lost params; where the queue
    can't tell, when this minion made dead letters (`own_dead`)."""
    dead = own_dead if stats is not None and stats.dead is None else stats and stats.dead
    return 1 if dead or (stats is not None and stats.lost) else 0

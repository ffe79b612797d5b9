"""What becomes of a run, and when a minion ends."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minionize.contracts.crew import Outcome, Verdict
from minionize.settings import Settings
from minionize.values import Failure, Lease, Stats
from minionize.worker.decisions import (
    STOP_COMES_S,
    FailuresInARow,
    backoff_s,
    crashed_too_often,
    drained_status,
    idle_is_over,
    lease_in_s,
    lease_limit,
    leaves_idle,
    others_have_the_rest,
    settle,
    stop_comes_s,
    stop_in_s,
    stopped_status,
    suspect_may_start,
)
from minionize.worker.lines import last_line
from minionize.worker.pace import Pace

EMPTY = Stats(put=3, waiting=0, delayed=0, running=0, done=3, dead=0, purged=0)


def test_backoff_doubles_to_five_minutes() -> None:
    assert [backoff_s(n) for n in range(1, 11)] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]


@given(st.integers(min_value=-5, max_value=10**9))
def test_backoff_never_leaves_its_bounds(attempt: int) -> None:
    assert 1.0 <= backoff_s(attempt) <= 300.0


def outcome(verdict: Verdict, **of_lease: int) -> Outcome:
    return Outcome(Lease("1", "1", **of_lease), verdict, reason="exit 3", detail="oops")  # type: ignore[arg-type]


def test_a_good_run_is_acked_and_an_aborted_one_is_nobodys_fault() -> None:
    assert settle(outcome(Verdict.DONE), 3).kind == "ack"
    innocent = settle(outcome(Verdict.ABORTED, attempt=3), 3)
    assert (innocent.kind, innocent.charge, innocent.later, innocent.delay_s) == (
        "nack",
        False,
        False,
        0.0,
    )


@given(st.integers(1, 50), st.integers(1, 50))
def test_a_failed_attempt_comes_back_until_the_last(attempt: int, most: int) -> None:
    settlement = settle(outcome(Verdict.FAILED, attempt=attempt), most)
    if attempt >= most:
        assert settlement.kind == "bury"
        assert settlement.failure == Failure("exit 3", "oops")
    else:
        assert settlement.kind == "nack" and settlement.charge and not settlement.later
        assert settlement.delay_s == backoff_s(attempt)


def test_rejected_is_dead_at_once() -> None:
    assert settle(outcome(Verdict.REJECTED), 3).kind == "bury"


@given(st.integers(0, 18))
def test_later_is_uncharged_after_a_growing_delay(laters: int) -> None:
    settlement = settle(outcome(Verdict.LATER, laters=laters), 3)
    assert settlement.kind == "nack" and settlement.later and not settlement.charge
    assert settlement.delay_s == backoff_s(laters + 1)


def test_the_twentieth_later_in_a_row_counts_as_a_failure() -> None:
    assert settle(outcome(Verdict.LATER, laters=19), 3).charge
    assert settle(outcome(Verdict.LATER, laters=19, attempt=3), 3).kind == "bury"


def test_later_with_a_wish_comes_when_it_wished() -> None:
    asked = outcome(Verdict.LATER)._replace(delay_s=7.5)
    assert settle(asked, 3).delay_s == 7.5


def test_who_crashed_its_minion_too_often_is_buried_unrun() -> None:
    assert crashed_too_often(Lease("1", "1", crashes=4), 5) is None
    assert crashed_too_often(Lease("1", "1", crashes=5), 5) == Failure("crashed its minion 5 times")
    assert crashed_too_often(Lease("1", "1", crashes=50), 0) is None


def test_suspects_start_a_beat_apart_and_often_charged_ones_alone() -> None:
    assert suspect_may_start(0, [], 15)
    assert not suspect_may_start(0, [(0, 3.0)], 15)
    assert suspect_may_start(0, [(0, 16.0), (2, 20.0)], 15)
    assert not suspect_may_start(0, [(3, 1000.0)], 15)
    assert not suspect_may_start(3, [(0, 1000.0)], 15)


@given(
    st.integers(1, 64),
    st.integers(0, 500),
    st.integers(0, 500),
    st.integers(0, 64),
    st.integers(0, 9),
)
def test_never_more_than_slots_and_spares_are_held(
    slots: int, held: int, spares: int, room: int, ahead: int
) -> None:
    limit = lease_limit(slots, held, spares, room, ahead)
    assert limit >= 0
    assert limit == 0 or held + limit <= slots + ahead


def test_an_idle_slot_asks_even_with_spares_wanted() -> None:
    assert lease_limit(2, 1, 0, 1, 0) == 1
    assert lease_limit(2, 2, 0, 0, 0) == 0
    assert lease_limit(2, 102, 100, 0, 150) == 0, "over half of the spares are still there"
    assert lease_limit(2, 52, 50, 0, 150) == 100


def test_ahead_doubles_up_to_half_a_second_of_work() -> None:
    pace = Pace(2)
    assert pace.ahead == 0
    seen = []
    now = 0.0
    for _ in range(12):
        pace.leased(1)
        now += 0.001
        pace.ended(2, 0.002, now)
        seen.append(pace.ahead)
    assert seen[:4] == [2, 4, 8, 16]
    assert seen[-1] == 1000, "two slots of 1 ms are 1000 runs in half a second"


def test_long_runs_have_no_spares() -> None:
    pace = Pace(1)
    pace.leased(1)
    pace.ended(1, 36000.0, 36000.0)
    pace.leased(1)
    assert pace.ahead == 0


def test_a_sudden_long_run_shrinks_the_window() -> None:
    pace = Pace(1)
    for now in range(1, 5):
        pace.leased(1)
        pace.ended(1, 0.001, now / 1000)
    assert pace.ahead > 4
    pace.stalled()
    assert pace.ahead == 0


def test_first_attempts_that_fail_in_a_row_stop_the_minion() -> None:
    row = FailuresInARow(3)
    assert not row.failed(1, "exit 1", "a")
    row.ended_well()
    assert not row.failed(1, "exit 1", "a")
    assert not row.failed(2, "exit 1", "retries gather at the end")
    assert not row.failed(1, "exit 2", "b")
    assert row.failed(1, "exit 1", "c")
    assert row.commonest() == Failure("exit 1", "c")


def test_the_commonest_reason_is_one_of_those_in_the_row() -> None:
    row = FailuresInARow(9)
    for _ in range(5):
        row.failed(1, "exit 1", "before")
    row.ended_well()
    row.failed(1, "exit 2", "after")
    assert row.commonest() == ("exit 2", "after")


def test_zero_failures_in_a_row_is_never() -> None:
    row = FailuresInARow(0)
    assert not any(row.failed(1, "exit 1", "") for _ in range(100))


def test_drained_empty_and_forever() -> None:
    busy = EMPTY._replace(running=2)
    assert idle_is_over("drained", EMPTY, 0.0, 30).over
    assert not idle_is_over("drained", busy, 1e9, 30).over
    assert not idle_is_over("drained", EMPTY._replace(feeders=1), 1e9, 30).over
    assert idle_is_over("empty", busy, 0.0, 30).over
    assert not idle_is_over("empty", EMPTY._replace(waiting=1), 1e9, 30).over
    assert not idle_is_over("forever", EMPTY, 1e9, 30).over
    assert not idle_is_over("drained", None, 1e9, 30).over


def test_where_counts_are_unknown_empty_is_a_look_that_found_nothing() -> None:
    assert idle_is_over("empty", Stats(), 0.001, 30).over
    assert idle_is_over("empty", Stats(), 0.9, 30).over
    assert not idle_is_over("empty", Stats(), 0.0, 30).over
    assert not idle_is_over("empty", Stats(), 0.0, 30).drained


def test_where_counts_are_unknown_drained_is_idle_for_a_while() -> None:
    assert not idle_is_over("drained", Stats(), 29.0, 30).over
    assert idle_is_over("drained", Stats(), 30.0, 30).over
    assert not idle_is_over("drained", Stats(paused=True), 1e9, 30).over


def test_exit_statuses_of_ends() -> None:
    assert drained_status(EMPTY) == 0
    assert drained_status(EMPTY._replace(dead=1)) == 1
    assert drained_status(EMPTY, own_dead=1) == 0  # it was retried meanwhile
    assert drained_status(EMPTY._replace(dead=None)) == 0
    assert drained_status(EMPTY._replace(dead=None), own_dead=1) == 1
    assert drained_status(None) == 0
    assert stopped_status(EMPTY) == 0
    assert stopped_status(EMPTY._replace(dead=1)) == 1
    assert stopped_status(EMPTY._replace(delayed=1)) == 75
    assert stopped_status(None) == 75


def test_it_is_gone_before_the_scheduler_ends_it() -> None:
    assert stop_in_s(Settings(), 1000.0) == math.inf
    assert stop_in_s(Settings(max_time_s=60), 1000.0) == 60
    assert stop_in_s(Settings(max_time_s=60, deadline=1040.0, grace_s=10), 1000.0) == 28


def test_a_segfault_is_told_by_its_first_line() -> None:
    fatal = 'Fatal Python error: Segmentation fault\n\nStack:\n  File "<string>", line 1\n'
    assert last_line(fatal) == "Fatal Python error: Segmentation fault"
    assert last_line("a\nb\n\n") == "b"


def test_with_less_time_than_asked_for_nothing_is_leased() -> None:
    assert lease_in_s(Settings(), 100.0) == 100.0
    assert lease_in_s(Settings(min_left_s=30.0), 100.0) == 70.0
    assert lease_in_s(Settings(min_left_s=30.0), 20.0) < 0
    assert lease_in_s(Settings(min_left_s=30.0), math.inf) == math.inf


def test_the_rest_is_with_others() -> None:
    assert others_have_the_rest(EMPTY._replace(running=1))
    assert not others_have_the_rest(EMPTY)
    for left in ({"waiting": 1}, {"delayed": 1}, {"feeders": 1}, {"waiting": None}):
        assert not others_have_the_rest(EMPTY._replace(running=1, **left))
    assert not others_have_the_rest(Stats())
    assert not others_have_the_rest(None)


@given(st.sets(st.text("abc", max_size=4), min_size=1), st.integers(1, 5), st.data())
def test_some_of_the_idle_ones_stay_whatever_each_sees(
    ids: set[str], keep: int, data: st.DataObject
) -> None:
    """Each sees some of those that are there, and never one that isn't."""
    stay = 0
    for me in ids:
        before = {other for other in ids if other < me}
        seen = data.draw(st.sets(st.sampled_from(sorted(before)))) if before else set()
        stay += not leaves_idle(len(seen), keep)
    assert stay >= min(keep, len(ids))
    assert not leaves_idle(None, 0)


def test_all_but_the_asked_for_leave_if_all_see_all() -> None:
    assert sum(not leaves_idle(rank, 2) for rank in range(10)) == 2
    assert sum(not leaves_idle(rank, 0) for rank in range(10)) == 0


def test_how_long_a_schedulers_signal_is_waited_for() -> None:
    def waits_s(
        reason: str, seconds: float, verdict: Verdict = Verdict.FAILED, *, slots: int = 1
    ) -> float:
        status = int(reason[5:]) if reason.startswith("exit") else None
        lease = Lease("1", "1")
        return stop_comes_s(
            Outcome(lease, verdict, reason=reason, exit_status=status, seconds=seconds), slots
        )

    for seconds in (0.001, 3600.0):
        for reason in ("signal SIGTERM", "signal SIGUSR2", "exit 143", "exit 140", "exit 130"):
            assert waits_s(reason, seconds) == STOP_COMES_S
        for reason in ("signal SIGSEGV", "signal SIGKILL", "timeout"):
            assert waits_s(reason, seconds) == 0
        assert waits_s("exit 143", seconds, Verdict.LATER) == 0
    assert waits_s("exit 1", 3600.0) == waits_s("exit 1", 3600.0, slots=64) == STOP_COMES_S
    assert waits_s("exit 1", 1.0) == pytest.approx(0.05)
    assert waits_s("exit 1", 1.0, slots=10) == pytest.approx(0.005)


def test_who_waits_long_for_the_queue_comes_seldom_and_not_more_often() -> None:
    pace = Pace(1)
    now = 0.0
    for _ in range(8):
        pace.leased(1, 0.9)  # the lock is much asked for
        now += 0.9
        for _ in range(5):
            now += 0.1
            pace.ended(1, 0.1, now)
    assert pace.ahead == 15, "a second and a half of its work, however slow the waiting made it"

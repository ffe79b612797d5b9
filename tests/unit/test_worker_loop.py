"""What becomes of params in the loop, and what the loop leaves behind."""

from __future__ import annotations

import gc
import os
from collections.abc import Collection, Sequence
from typing import Any

import pytest
from made_worker import Around, Made, Make, done, failed, make_one

from minionize.contracts.crew import Flaw, Outcome, Verdict
from minionize.contracts.engine import Engine, EngineOptions
from minionize.engines.registry import open_engine
from minionize.events import Event, Kind
from minionize.testing import ManualClock
from minionize.values import Clock, Failure, Lease, State
from minionize.worker.link import GATHER_S


@pytest.fixture
def make() -> Make:
    return make_one


def test_everything_is_run_once_and_acked(make: Make) -> None:
    made = make(done, range(1000), slots=3)
    summary = made.run()
    assert (summary.done, summary.exit_status, summary.why) == (1000, 0, "drained")
    assert sorted(int(lease.text) for lease in made.crew.ran) == list(range(1000))
    assert made.queue.stats().done == 1000
    assert made.events.kinds() == ["begin", *["ack"] * 1000, "end"]
    assert made.lines == [f"1000 done in {summary.seconds:.1f} s"]


class Ages(Around):
    """An engine that notes for how long acks waited."""

    def __init__(self, engine: Engine, clock: Clock, ended_at: dict[str, float]) -> None:
        super().__init__(engine)
        self._clock = clock
        self._ended_at = ended_at
        self.seconds: list[float] = []

    def ack(self, leases: Sequence[Lease]) -> None:
        now = self._clock.monotonic()
        self.seconds += [now - self._ended_at[lease.id] for lease in leases]
        self._engine.ack(leases)


@pytest.mark.parametrize("run_s", [0.0001, 0.003, 0.007, 0.015])
def test_an_ack_waits_for_20_ms_at_most(make: Make, run_s: float) -> None:
    clock = ManualClock()
    ended_at: dict[str, float] = {}

    def takes_a_while(lease: Lease) -> Outcome:
        clock.advance(run_s)
        ended_at[lease.id] = clock.monotonic()
        return Outcome(lease, Verdict.DONE, 0, run_s)

    made = make(takes_a_while, range(500), reporter="null")
    made.clock = clock
    wrapped: list[Ages] = []

    def wrap(engine: Engine) -> Any:
        wrapped.append(Ages(engine, clock, ended_at))
        return wrapped[0]

    made.wrap = wrap
    assert made.run().done == 500
    assert len(wrapped[0].seconds) == 500
    # In this crew a run lasts while it is started, and that nobody can interrupt.
    assert max(wrapped[0].seconds) < GATHER_S + 2.01 * run_s


def test_a_failed_attempt_comes_back_and_the_last_one_is_a_dead_letter(make: Make) -> None:
    made = make(lambda lease: failed(lease) if lease.text == "1" else done(lease), range(3))
    made.settings = made.settings._replace(max_attempts=2)
    summary = made.run()
    assert (summary.done, summary.failed, summary.dead) == (2, 2, 1)
    assert summary.exit_status == 1
    assert made.dead() == {"1": Failure("exit 3", "line\noops\n")}
    assert [lease.attempt for lease in made.crew.ran if lease.text == "1"] == [1, 2]
    gone = [event for event in made.events.seen if event.kind in (Kind.GIVE_BACK, Kind.DEAD)]
    assert [(event.kind, event.charged, event.delay_s) for event in gone] == [
        (Kind.GIVE_BACK, True, 1.0),
        (Kind.DEAD, True, 0.0),
    ]
    assert made.lines[0] == "2: exit 3 (oops): attempt 1 of 2, again in 1 s"
    assert made.lines[1] == "2: exit 3 (oops): it is dead now"
    assert made.lines[2].startswith("2 done, 1 dead (1 new) in ")
    assert made.lines[2].endswith(": 2 (see above why)")


def test_what_is_done_with_a_flaw_is_counted_and_the_first_one_told(make: Make) -> None:
    def does(lease: Lease) -> Outcome:
        reason = "its processes went on" if lease.param else ""
        return done(lease)._replace(flaws=(Flaw.REST,) if reason else (), reason=reason)

    made = make(does, range(4))
    assert made.run().flaws == {Flaw.REST: 3}
    assert sum("done, but its processes went on" in line for line in made.lines) == 1


def test_quiet_says_nothing_of_that(make: Make) -> None:
    made = make(failed, [1], max_attempts=1, quiet=True)
    made.run()
    assert made.lines == []


def test_a_minion_that_only_fails_stops_and_gives_the_rest_back(make: Make) -> None:
    made = make(failed, range(100), slots=2, max_failures_in_a_row=5)
    summary = made.run()
    assert summary.exit_status == 70
    assert 5 <= summary.failed <= 6
    stats = made.queue.stats()
    assert (stats.waiting or 0) + (stats.delayed or 0) == 100
    fresh = [entry for entry in made.queue.scan(State.WAITING) if entry.attempt == 1]
    assert len(fresh) >= 94, "what it would have failed next is not charged"
    line = next(line for line in made.lines if line.startswith("stopped:"))
    assert "exit 3 (oops)" in line and "--max-failures-in-a-row" in line


def test_what_the_program_asks_for_later_is_not_charged(make: Make) -> None:
    def does(lease: Lease) -> Outcome:
        if lease.laters < 2:
            return Outcome(lease, Verdict.LATER, 0, 0.0, 75, reason="exit 75", delay_s=0.01)
        return done(lease)

    made = make(does, ["a"])
    summary = made.run()
    assert (summary.done, summary.failed, summary.given_back) == (1, 0, 2)
    assert [(lease.attempt, lease.laters) for lease in made.crew.ran] == [(1, 0), (1, 1), (1, 2)]


def test_the_twentieth_later_is_charged(make: Make) -> None:
    def does(lease: Lease) -> Outcome:
        return Outcome(lease, Verdict.LATER, 0, 0.0, 75, reason="exit 75", delay_s=0.0)

    made = make(does, ["a"], max_attempts=1)
    assert made.run().dead == 1
    assert len(made.crew.ran) == 20
    assert made.dead()['"a"'] == Failure("asked for later 20 times in a row", "")


def test_a_crew_bug_still_leaves_the_queue_and_the_signals_in_order(make: Make) -> None:
    def does(lease: Lease) -> Outcome:
        raise RuntimeError("bug")

    made = make(does, [1, 2])
    with pytest.raises(RuntimeError, match="bug"):
        made.run()
    stats = made.queue.stats()
    assert (stats.waiting, stats.running) == (2, 0)


def test_garbage_is_looked_for_seldom_only_while_it_works(make: Make) -> None:
    before = gc.get_threshold()
    seen: list[int] = []

    def does(lease: Lease) -> Outcome:
        seen.append(gc.get_threshold()[0])
        return done(lease)

    make(does, [0]).run()
    assert gc.get_threshold() == before
    assert seen[0] > before[0]


def test_the_next_runs_start_before_the_books_are_done(make: Make) -> None:
    made = make(done, range(3000))
    told: list[int] = []
    report = made.events.report

    def count(events: Sequence[Event]) -> None:
        told.append(sum(event.kind is Kind.ACK for event in events))
        report(events)

    made.events.report = count  # type: ignore[method-assign]
    summary = made.run()
    assert (summary.done, sum(told)) == (3000, 3000)
    assert max(told) > 10, "short runs are told together"


def _log_waits(made: Made, log: list[str]) -> None:
    """Into `log`: when the crew is waited for, and which questions the queue is asked."""
    wait = made.crew.wait

    def waits(timeout_s: float) -> list[Outcome]:
        log.append("wait")
        outcomes = wait(timeout_s)
        log.extend(f"{outcome.lease.text} ended" for outcome in outcomes)
        return outcomes

    made.crew.wait = waits  # type: ignore[method-assign]

    def logged(engine: Engine) -> Engine:
        lease, ack = engine.lease, engine.ack

        def asks(limit: int, wait_s: float) -> Sequence[Lease]:
            log.append("lease" if wait_s <= 0 else "idle")
            found = lease(limit, wait_s)
            if not found and "ack" in log:
                made.crew.ends.set()  # asked in vain: the next question comes in a while
            return found

        def acks(leases: Collection[Lease]) -> None:
            log.append("ack")
            ack(leases)

        engine.lease = asks  # type: ignore[method-assign]
        engine.ack = acks  # type: ignore[method-assign]
        return engine

    made.wrap = logged


def test_the_ack_of_the_last_run_waits_for_no_other(make: Make) -> None:
    made = make(lambda lease: done(lease) if lease.text == "1" else None, [1, 2], slots=2)
    log: list[str] = []
    _log_waits(made, log)
    assert made.run().done == 2
    ended_at = log.index("2 ended")
    assert log[ended_at : ended_at + 2] == ["2 ended", "ack"]


def test_a_minion_with_nothing_in_hand_waits_for_the_queue_and_for_nothing_else(
    make: Make,
) -> None:
    made = make(lambda lease: done(lease) if lease.text == "1" else None, [0, 1, 2], slots=2)
    other = open_engine(made.url, EngineOptions(minion_id="other", lease_s=600))
    held = other.lease(1, 0.0)
    log: list[str] = []
    _log_waits(made, log)
    logged = made.wrap

    def frees(engine: Engine) -> Engine:
        engine = logged(engine)
        lease = engine.lease

        def asks(limit: int, wait_s: float) -> Sequence[Lease]:
            if wait_s > 0:
                other.ack(held)
            return lease(limit, wait_s)

        engine.lease = asks  # type: ignore[method-assign]
        return engine

    made.wrap = frees
    assert (made.run().done, made.queue.stats().done) == (2, 3)
    after = log[log.index("2 ended") :]
    assert after[: after.index("idle")].count("wait") <= 2, after


def test_stopping_leaves_no_handlers_and_no_descriptors(make: Make) -> None:
    import signal

    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    fds = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        make(done, [1]).run()
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    assert len(os.listdir("/proc/self/fd")) == fds


def test_that_results_are_lost_is_said_once(make: Make) -> None:
    made = make(lambda lease: done(lease)._replace(result="1"), range(20))
    made.events.wants_events = False
    made.run()
    assert len([line for line in made.lines if "lost under the null reporter" in line]) == 1

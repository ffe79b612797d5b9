"""The loop over a queue in memory, with a crew whose runs end at once."""

from __future__ import annotations

import gc
import itertools
import os
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import pytest

from minionize.contracts.crew import Outcome, Verdict
from minionize.contracts.engine import Engine, EngineOptions, Queue
from minionize.engines.registry import open_engine, open_queue
from minionize.errors import EngineUnavailable, QueueDamaged
from minionize.events import Event, Kind
from minionize.settings import Settings
from minionize.values import Failure, Lease, State
from minionize.worker.loop import Worker
from minionize.worker.signals import Stopping
from minionize.worker.summary import Summary

names = itertools.count()
Does = Callable[[Lease], Outcome]


def done(lease: Lease) -> Outcome:
    return Outcome(lease, Verdict.DONE, 0, 0.001)


def failed(lease: Lease) -> Outcome:
    return Outcome(lease, Verdict.FAILED, 0, 0.001, 3, reason="exit 3", detail="line\noops\n")


class Crew:
    """Runs `does` at once for each lease; what gives None goes on until it is ended."""

    def __init__(self, does: Callable[[Lease], Outcome | None], slots: int = 1) -> None:
        self.slots = slots
        self.does = does
        self.ran: list[Lease] = []
        self.log: list[str] = []
        self._ready: list[Outcome] = []
        self._long: dict[str, tuple[Lease, float]] = {}
        self.closed = False

    def room(self, seconds_each: float | None) -> int:
        return self.slots - len(self._long) - len(self._ready)

    def start(self, leases: Sequence[Lease]) -> None:
        assert 0 < len(leases) <= self.room(None)
        for lease in leases:
            self.ran.append(lease)
            outcome = self.does(lease)
            if outcome is None:
                self._long[lease.id] = (lease, time.monotonic())
            else:
                self._ready.append(outcome)

    def running(self) -> Sequence[tuple[Lease, float]]:
        now = time.monotonic()
        return [(lease, now - began) for lease, began in self._long.values()]

    def wait(self, timeout_s: float) -> list[Outcome]:
        if not self._ready:
            time.sleep(min(timeout_s, 0.05))
        ready, self._ready = self._ready, []
        return ready

    def revoke(self, older_than_s: float) -> list[Lease]:
        return []

    def abort(self, ids: Collection[str]) -> None:
        self.log.append(f"abort {sorted(ids)}")
        self._end(ids)

    def terminate(self) -> None:
        self.log.append("terminate")
        self._end(list(self._long))

    def kill(self) -> None:
        self._end(list(self._long))

    def _end(self, ids: Collection[str]) -> None:
        for id_ in ids:
            if id_ in self._long:
                self._ready.append(Outcome(self._long.pop(id_)[0], Verdict.ABORTED, 0, 1.0))

    def close(self) -> None:
        self.closed = True


class Events:
    wants_events = True

    def __init__(self) -> None:
        self.seen: list[Event] = []
        self.beats = 0

    def report(self, events: Sequence[Event]) -> None:
        self.seen += events

    def beat(self, running: int) -> None:
        self.beats += 1

    def close(self) -> None:
        return

    def kinds(self) -> list[str]:
        return [event.kind.value for event in self.seen]


class Made:
    """A queue, and a minion of it."""

    def __init__(
        self, does: Callable[[Lease], Outcome | None], slots: int, **settings: Any
    ) -> None:
        self.url = f"memory:worker-{next(names)}"
        self.queue: Queue = open_queue(self.url, EngineOptions(minion_id="feeder"))
        self.settings = Settings(slots=slots, **settings)
        self.crew = Crew(does, slots)
        self.events = Events()
        self.lines: list[str] = []
        self.stopping = Stopping()
        self.wrap: Callable[[Engine], Engine] = lambda engine: engine

    def run(self) -> Summary:
        options = EngineOptions(minion_id="m1", lease_s=self.settings.lease_s)
        engine = self.wrap(open_engine(self.url, options))
        worker = Worker(
            engine,
            self.crew,
            self.events,
            self.settings,
            lines=self.lines.append,
            stopping=self.stopping,
        )
        summary = worker.run()
        assert self.crew.closed
        return summary

    def dead(self) -> dict[str, Failure | None]:
        return {entry.text: entry.failure for entry in self.queue.scan(State.DEAD)}


@pytest.fixture
def make() -> Callable[..., Made]:
    def make(
        does: Callable[[Lease], Outcome | None],
        params: Sequence[Any],
        slots: int = 1,
        **settings: Any,
    ) -> Made:
        made = Made(does, slots, **settings)
        made.queue.put(params)
        return made

    return make


Make = Callable[..., Made]


def test_everything_is_run_once_and_acked(make: Make) -> None:
    made = make(done, range(1000), slots=3)
    summary = made.run()
    assert (summary.done, summary.exit_status, summary.why) == (1000, 0, "drained")
    assert sorted(int(lease.text) for lease in made.crew.ran) == list(range(1000))
    assert made.queue.stats().done == 1000
    assert made.events.kinds() == ["begin", *["ack"] * 1000, "end"]
    assert made.lines == [f"1000 done in {summary.seconds:.1f} s"]


def test_a_failed_attempt_comes_back_and_the_last_one_is_a_dead_letter(make: Make) -> None:
    made = make(lambda lease: failed(lease) if lease.text == "1" else done(lease), range(3))
    made.settings = replace(made.settings, max_attempts=2)
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


def test_max_params_are_run_and_no_more_are_taken(make: Make) -> None:
    made = make(done, range(100), slots=4, max_params=10)
    summary = made.run()
    assert (summary.done, summary.exit_status) == (10, 0)
    assert made.queue.stats().waiting == 90


def test_until_empty_leaves_what_is_delayed(make: Make) -> None:
    made = make(failed, [1, 2], until="empty")
    assert made.run().exit_status == 0
    assert made.queue.stats().delayed == 2


def test_time_is_over(make: Make) -> None:
    made = make(lambda lease: None, [1, 2], max_time_s=0.2)
    summary = made.run()
    assert (summary.exit_status, summary.why) == (75, "its time is over")
    assert summary.given_back == 1
    assert [entry.attempt for entry in made.queue.scan(State.WAITING)] == [1, 1]
    assert "terminate" in made.crew.log


def test_told_to_stop_it_gives_back_what_runs(make: Make) -> None:
    made = make(lambda lease: None if lease.text == "1" else done(lease), [0, 1, 2])
    threading.Timer(0.3, made.stopping.request, ["SIGTERM", 15]).start()
    summary = made.run()
    assert (summary.done, summary.exit_status, summary.died_of) == (1, 75, None)
    assert [entry.attempt for entry in made.queue.scan(State.WAITING)] == [1, 1]


def test_after_int_it_says_that_it_should_die_of_it(make: Make) -> None:
    made = make(lambda lease: None, [0])
    made.stopping.request("SIGINT", 2)
    summary = made.run()
    assert (summary.exit_status, summary.died_of) == (130, 2)


def test_minion_stop_reaches_those_at_work(make: Make) -> None:
    made = make(lambda lease: None, [0], lease_s=0.4)
    threading.Timer(0.2, made.queue.steer, kwargs={"stop": True}).start()
    summary = made.run()
    assert (summary.why, summary.exit_status) == ("minion stop", 75)


def test_who_crashed_too_often_is_buried_unrun(make: Make) -> None:
    made = make(done, [0, 1], max_crashes=1, lease_s=5.0)
    options = EngineOptions(minion_id="crashes", lease_s=0.05)
    doomed = open_engine(made.url, options)
    doomed.started(doomed.lease(1, 0))  # and is never heard of again
    time.sleep(0.1)
    summary = made.run()
    assert [lease.text for lease in made.crew.ran] == ["1"]
    assert (summary.done, summary.dead) == (1, 1)
    assert made.dead() == {"0": Failure("crashed its minion 1 times", "")}


class Wrapped:
    """An engine that notes what is asked of it, and can be away for a while."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.traits = engine.traits
        self.url = engine.url
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self.away: Callable[[str], bool] = lambda name: False
        self.lost: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._engine, name)

        def asks(*args: Any, **kwargs: Any) -> Any:
            if self.away(name):
                raise EngineUnavailable("memory: gone fishing")
            if args and not isinstance(args[0], int):
                self.asked.append((name, tuple(lease.id for lease in args[0])))
            if name == "extend" and self.lost:
                lost = [lease for lease in args[0] if lease.id in self.lost]
                self.lost -= {lease.id for lease in lost}
                return lost
            return method(*args, **kwargs)

        return asks


def wrapped(made: Made) -> Wrapped:
    """Put a Wrapped between the minion and its queue."""
    found: list[Wrapped] = []

    def wrap(engine: Engine) -> Engine:
        found.append(Wrapped(engine))
        return found[0]

    engine = wrap(
        open_engine(made.url, EngineOptions(minion_id="m1", lease_s=made.settings.lease_s))
    )
    made.wrap = lambda _: engine
    return found[0]


def test_suspects_are_marked_before_they_start_and_acked_before_the_next(make: Make) -> None:
    made = make(done, range(5), slots=2)
    doomed = open_engine(made.url, EngineOptions(minion_id="dies", lease_s=0.05))
    assert len(doomed.lease(5, 0)) == 5
    time.sleep(0.1)
    engine = wrapped(made)
    started: list[int] = []

    def does(lease: Lease) -> Outcome:
        marks = [ids for name, ids in engine.asked if name == "started"]
        assert lease.suspect and marks[-1] == (lease.id,)
        acked = [id_ for name, ids in engine.asked if name == "ack" for id_ in ids]
        assert len(acked) == len(made.crew.ran) - 1, "one after the other, each end told first"
        started.append(int(lease.text))
        return done(lease)

    made.crew.does = does
    summary = made.run()
    assert sorted(started) == list(range(5))
    assert (summary.done, summary.exit_status) == (5, 0)


class Queueing(Crew):
    """Takes leases behind a run that goes on, as a crew of functions does."""

    def room(self, seconds_each: float | None) -> int:
        idle = max(0, super().room(None))
        return idle if seconds_each is None else idle + 4

    def start(self, leases: Sequence[Lease]) -> None:
        if any(lease.suspect for lease in leases):
            assert len(leases) == 1 and self.room(None) > 0, "a suspect in a slot that is busy"
        for lease in leases:
            self.ran.append(lease)
            self._ready.append(self.does(lease) or done(lease))

    def wait(self, timeout_s: float) -> list[Outcome]:
        ready, self._ready = self._ready[:2], self._ready[2:]
        return ready


def test_a_suspect_waits_for_a_slot_that_is_idle(make: Make) -> None:
    made = make(done, range(20))
    made.crew = Queueing(done)
    doomed = open_engine(made.url, EngineOptions(minion_id="dies", lease_s=0.05))
    assert len(doomed.lease(20, 0)) == 20
    time.sleep(0.1)
    made.queue.put(range(20, 60))
    summary = made.run()
    assert (summary.done, summary.exit_status) == (60, 0)
    assert sum(lease.suspect for lease in made.crew.ran) == 20


def test_a_run_that_outlasts_a_beat_is_marked_once(make: Make) -> None:
    made = make(lambda lease: None, [0], lease_s=0.2, max_time_s=0.6)
    engine = wrapped(made)
    made.run()
    assert [ids for name, ids in engine.asked if name == "started"] == [("1",)]
    assert sum(name == "extend" for name, _ in engine.asked) >= 5
    assert made.events.beats >= 5


def test_a_lost_lease_kills_its_run_and_settles_nothing(make: Make) -> None:
    made = make(lambda lease: None if lease.text == "0" else done(lease), [0, 1], lease_s=0.4)
    engine = wrapped(made)
    engine.lost = {"1"}
    made.settings = replace(made.settings, max_time_s=1.0)
    summary = made.run()
    assert summary.lost == 1
    assert made.crew.log[0] == "abort ['1']"
    assert not any("1" in ids for name, ids in engine.asked if name in ("ack", "nack", "bury"))
    assert "lost" in made.events.kinds()
    assert any("lost the lease of 1" in line for line in made.lines)


def test_a_queue_that_is_away_for_a_while_costs_nothing(make: Make) -> None:
    made = make(done, range(200), slots=2)
    engine = wrapped(made)
    calls = itertools.count()
    engine.away = lambda name: name != "orders" and 5 <= next(calls) < 9
    summary = made.run()
    assert (summary.done, summary.lost, summary.exit_status) == (200, 0, 0)
    assert len(made.crew.ran) == 200
    assert made.lines[0].startswith("memory: gone fishing; trying again for ")
    assert "reached again" in made.lines[1]


def test_a_queue_that_stays_away_ends_the_minion_with_69(make: Make) -> None:
    made = make(done, range(200), reconnect_s=0.3)
    engine = wrapped(made)
    engine.away = lambda name: name not in ("orders", "close") and len(made.crew.ran) > 20
    summary = made.run()
    assert summary.exit_status == 69
    assert "gone fishing (tried for" in summary.why
    assert summary.why in made.lines


def test_runs_are_given_up_when_nobody_could_renew_their_leases(make: Make) -> None:
    made = make(lambda lease: None, [0], lease_s=0.3, reconnect_s=1.0)
    engine = wrapped(made)
    engine.away = lambda name: name not in ("orders", "close") and bool(made.crew.ran)
    summary = made.run()
    assert (summary.exit_status, summary.lost) == (69, 1)
    assert made.crew.log[0] == "abort ['1']"


def test_a_damaged_queue_is_no_matter_of_patience(make: Make) -> None:
    made = make(done, [1])

    def damaged(name: str) -> bool:
        if name == "stats":
            raise QueueDamaged("head: bad checksum; restore it")
        return False

    wrapped(made).away = damaged
    summary = made.run()
    assert summary.exit_status == 69
    assert "head: bad checksum; restore it" in made.lines


def test_spares_go_back_when_a_long_run_holds_the_slot(make: Make) -> None:
    made = make(lambda lease: None if lease.text == "500" else done(lease), range(2000))
    engine = wrapped(made)
    deadline = time.monotonic() + 30

    def away(name: str) -> bool:
        gave_back = any(asked == "nack" for asked, _ in engine.asked)
        if gave_back or time.monotonic() > deadline:
            made.stopping.request("enough", 0)
        return False

    engine.away = away
    summary = made.run()
    assert summary.failed == summary.dead == 0
    nacks = [ids for name, ids in engine.asked if name == "nack"]
    assert len(nacks[0]) > 1
    assert all(entry.attempt == 1 for entry in made.queue.scan(State.WAITING))


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


def test_stopping_leaves_no_handlers_and_no_descriptors(make: Make) -> None:
    import signal

    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    fds = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        make(done, [1]).run()
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    assert len(os.listdir("/proc/self/fd")) == fds

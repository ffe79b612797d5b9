"""Leases in the loop: suspects, marks, lost ones, spares, and a queue that is away."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import pytest
from made_worker import Around, Crew, Made, Make, done, make_one

from minionize.contracts.crew import Outcome, Verdict
from minionize.contracts.engine import Engine, EngineOptions
from minionize.engines.registry import open_engine
from minionize.errors import EngineUnavailable, QueueDamaged
from minionize.testing import ManualClock
from minionize.values import Failure, Lease, State


@pytest.fixture
def make() -> Make:
    return make_one


def test_who_crashed_too_often_is_buried_unrun(make: Make) -> None:
    made = make(done, [0, 1], max_crashes=1, lease_s=5.0)
    options = EngineOptions(minion_id="crashes", lease_s=2.0)
    doomed = open_engine(made.url, options)
    doomed.started(doomed.lease(1, 0))  # and is never heard of again
    time.sleep(2.1)
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


class Haunted(Crew):
    """Each wait tells first of a run whose lease this minion does not hold any more."""

    def wait(self, timeout_s: float) -> list[Outcome]:
        outcomes = super().wait(timeout_s)
        return [done(Lease("99", "99")), *outcomes] if outcomes else []


def test_the_end_of_a_lost_run_hides_no_end_beside_it(make: Make) -> None:
    made = make(done, range(3), max_time_s=3.0)
    made.crew = Haunted(done)
    summary = made.run()
    assert (summary.done, summary.exit_status) == (3, 0)


class Looks(Crew):
    """Notes which ends of suspects were not told when it is waited for again."""

    def __init__(self) -> None:
        super().__init__(lambda lease: done(lease) if lease.suspect else None, 2)
        self.told: Callable[[], set[str]] = set
        self.ended: set[str] = set()
        self.late: set[str] = set()

    def wait(self, timeout_s: float) -> list[Outcome]:
        self.late |= self.ended - self.told()
        outcomes = super().wait(timeout_s)
        self.ended |= {outcome.lease.id for outcome in outcomes if outcome.lease.suspect}
        if len(self.ended) == 3:
            self.ends.set()
        return outcomes


def test_the_end_of_a_marked_run_is_told_at_once_though_another_goes_on(make: Make) -> None:
    made = make(done, range(3), slots=2)
    doomed = open_engine(made.url, EngineOptions(minion_id="dies", lease_s=0.05))
    assert len(doomed.lease(3, 0)) == 3
    time.sleep(0.1)
    made.queue.put(["long"])
    crew = made.crew = Looks()
    engine = wrapped(made)
    crew.told = lambda: {id_ for name, ids in engine.asked if name == "ack" for id_ in ids}
    assert made.run().done == 4
    assert (len(crew.ended), crew.late) == (3, set())


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
    made = make(lambda lease: None, [0], lease_s=1.0)
    engine = wrapped(made)

    def away(name: str) -> bool:
        if sum(asked == "extend" for asked, _ in engine.asked) >= 5 and made.events.beats >= 5:
            made.stopping.request("enough", 0)
        return False

    engine.away = away
    made.run()
    assert [ids for name, ids in engine.asked if name == "started"] == [("1",)]
    assert sum(name == "extend" for name, _ in engine.asked) >= 5
    assert made.events.beats >= 5


class Beats(Around):
    """An engine that notes when it is told that the minion is alive."""

    def __init__(self, engine: Engine, clock: ManualClock) -> None:
        super().__init__(engine)
        self._clock = clock
        self.at: list[float] = []

    def extend(self, leases: Collection[Lease]) -> Collection[Lease]:
        self.at.append(self._clock.monotonic())
        lost: Collection[Lease] = self._engine.extend(leases)
        return lost


@pytest.mark.parametrize("run_s", [0.2, 0.7, 1.1, 1.9])
def test_a_minion_beats_in_time_whatever_came_just_before(make: Make, run_s: float) -> None:
    lease_s, clock = 8.0, ManualClock()

    def takes_a_while(lease: Lease) -> Outcome:
        clock.advance(run_s)
        return Outcome(lease, Verdict.DONE, 0, run_s)

    made = make(takes_a_while, range(int(5 * lease_s / run_s)), lease_s=lease_s)
    made.clock = clock
    engines: list[Beats] = []

    def wrap(engine: Engine) -> Any:
        engines.append(Beats(engine, clock))
        return engines[0]

    made.wrap = wrap
    began = clock.monotonic()
    made.run()
    at = [began, *engines[0].at, clock.monotonic()]
    assert max(later - sooner for sooner, later in itertools.pairwise(at)) < lease_s / 2


def test_a_lost_lease_kills_its_run_and_settles_nothing(make: Make) -> None:
    made = make(lambda lease: None if lease.text == "0" else done(lease), [0, 1], lease_s=1.0)
    engine = wrapped(made)
    engine.lost = {"1"}

    def away(name: str) -> bool:
        if "lost" in made.events.kinds():
            made.stopping.request("enough", 0)
        return False

    engine.away = away
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


@pytest.mark.parametrize("lease_s", [6.0, 3600.0])
def test_a_queue_that_gives_nothing_but_trouble_ends_the_minion_once_its_hands_are_empty(
    make: Make, monkeypatch: pytest.MonkeyPatch, lease_s: float
) -> None:
    """A full disk: what it holds is renewed and acked, and what it wants can't be written."""
    made = make(lambda lease: None, range(2), slots=3, reconnect_s=2.0, lease_s=lease_s)
    end_s = time.monotonic() + 3.0
    engine = wrapped(made)
    refused = itertools.count()
    turns = itertools.count()
    wait = made.crew.wait

    def counted(timeout_s: float) -> list[Outcome]:
        next(turns)
        return wait(timeout_s)

    monkeypatch.setattr(made.crew, "wait", counted)

    def away(name: str) -> bool:
        if time.monotonic() > end_s:
            made.crew.ends.set()
        if name != "lease" or len(made.crew.ran) < 2:
            return False
        if next(refused) == 0:
            made.queue.put([2])
        return True

    engine.away = away
    summary = made.run()
    assert (summary.exit_status, summary.done, summary.lost) == (69, 2, 0), made.lines
    assert 3 < next(refused) < 60, "now and then"
    assert next(turns) < 2000, "it does not turn round and round"
    fishing, reached, *again = made.lines
    assert "trying again for 2 s" in fishing
    assert "reached again" in reached, "as after any break"
    assert again[0] == fishing, "it only takes no more"
    assert "tried for" in again[1]
    assert len(again) == 3


def test_what_was_given_up_and_can_never_be_given_back_ends_the_minion(make: Make) -> None:
    made = make(lambda lease: None, [0], reconnect_s=1.5, lease_s=0.6)
    engine = wrapped(made)

    def away(name: str) -> bool:
        lost = "abort ['1']" in made.crew.log
        return name == "nack" if lost else name == "extend" and bool(made.crew.ran)

    engine.away = away
    summary = made.run()
    assert (summary.exit_status, summary.lost) == (69, 1)
    assert len(made.lines) <= 5, made.lines
    assert not any("reached again" in line for line in made.lines)


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
    deadline = time.monotonic() + 180

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

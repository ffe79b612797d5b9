"""Short programs: what is judged of them, and when one slot stays empty for their sake."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from program_crews import Make, Runs, end_of, ends, lease, made_crews

from minionize.worker import short_runs
from minionize.worker.short_runs import (
    AGAIN_MOST_S,
    AGAIN_S,
    JUDGED,
    LONG_S,
    RELIEF_S,
    REST_S,
    SHORT_S,
    WINDOW,
    ShortRuns,
)

CPUS = 4
QUICK_S, SLOW_S = 0.0001, 0.0003
"""What starts take with a CPU for each, and behind another program."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one each time that short slices are asked for; there are `CPUS` CPUs."""
    asked: list[int] = []
    monkeypatch.setattr(short_runs, "ask_for_short_slices", lambda: asked.append(1))
    monkeypatch.setattr(short_runs, "_cpus", lambda: CPUS)
    return asked


def judged(run_s: float) -> ShortRuns:
    """Runs that took so long, and nothing left empty, at 1 s."""
    runs = ShortRuns(CPUS, 0.0, 1.0)
    for _ in range(JUDGED):
        runs.ended(run_s)
    assert runs.empty_slots(1.0, []) == 0
    return runs


def known() -> ShortRuns:
    """The same, known as short, and what a start takes with a CPU for it."""
    runs = judged(0.001)
    for _ in range(3):
        runs.started(0, QUICK_S, 0.1)
    return runs


def crowded(runs: ShortRuns, seconds: float, now: float) -> bool:
    """Starts beside busy CPUs; whether a slot stays empty for that."""
    for _ in range(WINDOW):
        runs.started(CPUS - 1, seconds, now)
    return runs.empty_slots(now, []) == 1


def test_short_slices_are_asked_for_once_when_all_of_the_last_runs_were_short(
    asked: list[int],
) -> None:
    runs = ShortRuns(1, 0.0, 1.0)
    runs.ended(2 * SHORT_S * JUDGED)
    for _ in range(JUDGED - 1):
        runs.ended(0.001)
    assert not asked
    for _ in range(3 * JUDGED):
        runs.ended(0.001)
    assert len(asked) == 1


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("slots", [1, CPUS - 1, CPUS, CPUS + 1])
def test_there_is_a_rest_at_first_where_there_is_a_slot_for_each_cpu(slots: int) -> None:
    runs = ShortRuns(slots, 10.0, 1.0)
    assert runs.tight == (slots == CPUS)
    assert runs.rest_until == (10.0 + REST_S if slots == CPUS else 0.0)
    assert runs.empty_slots(10.0, []) == 0


@pytest.mark.usefixtures("asked")
def test_a_quick_start_is_forgotten_sooner() -> None:
    assert ShortRuns(CPUS, 0.0, 2 * REST_S).rest_until == pytest.approx(0.4 * REST_S)


def test_on_one_cpu_there_is_no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(short_runs, "_cpus", lambda: 1)
    runs = ShortRuns(1, 0.0, 1.0)
    assert not runs.tight
    assert not runs.rest_until


@pytest.mark.usefixtures("asked")
def test_beside_a_long_run_nothing_stays_empty_from_then_on() -> None:
    runs = known()
    assert crowded(runs, SLOW_S, LONG_S)
    assert runs.empty_slots(2 * LONG_S, [1.5 * LONG_S]) == 1
    assert runs.empty_slots(3 * LONG_S, [1.5 * LONG_S, 2.9 * LONG_S]) == 0
    assert runs.empty_slots(3 * LONG_S, []) == 0


@pytest.mark.usefixtures("asked")
def test_one_stays_empty_again_while_starts_beside_busy_cpus_take_long() -> None:
    runs = known()
    assert not crowded(runs, QUICK_S, 1.0)
    assert crowded(runs, SLOW_S, 2.0)
    assert runs.empty_slots(2.0 + RELIEF_S, []) == 0


@pytest.mark.usefixtures("asked")
def test_what_a_start_takes_has_to_be_known() -> None:
    """Until it is, one stays empty to find it out."""
    assert crowded(judged(0.001), QUICK_S, 1.0)


@pytest.mark.usefixtures("asked")
def test_long_programs_may_take_long_to_start() -> None:
    assert not crowded(judged(1.0), SLOW_S, 1.0)


@pytest.mark.usefixtures("asked")
def test_where_it_does_not_help_it_is_tried_ever_more_seldom() -> None:
    runs = known()
    began: list[float] = []
    for tick in range(10_000):
        now = 1.0 + tick * 0.01
        was_empty = runs.empty_slots(now, []) == 1
        if crowded(runs, SLOW_S, now) and not was_empty:
            began.append(now)
    gaps = [late - early - RELIEF_S for early, late in pairwise(began)]
    assert gaps[0] == pytest.approx(AGAIN_S, abs=0.05)
    assert gaps[2] == pytest.approx(4 * AGAIN_S, abs=0.05)
    assert gaps[-1] == pytest.approx(AGAIN_MOST_S, abs=0.05)
    # And soon again once it helped.
    assert not crowded(runs, QUICK_S, 200.0)
    assert crowded(runs, SLOW_S, 201.0)
    assert crowded(runs, SLOW_S, 201.0 + RELIEF_S + 1.1 * AGAIN_S)


# -- in a crew of programs ---------------------------------------------------------------------


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with made_crews(tmp_path) as make:
        yield make


@pytest.mark.usefixtures("asked")
def test_a_crew_rests_once_before_its_first_programs(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(short_runs, "REST_S", 0.5)
    monkeypatch.setattr("time.process_time", lambda: 10.0)
    crew = make(Runs("/bin/true"), slots=CPUS)
    made_at = time.monotonic()
    for earliest_s in (0.45, 0.0):
        crew.start([lease(0)])
        assert time.monotonic() - made_at >= earliest_s
        ends(crew)
        monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("it rests again"))


@pytest.mark.usefixtures("asked")
def test_a_crew_leaves_a_slot_empty_but_not_beside_a_long_program(make: Make) -> None:
    crew = make(Runs("/bin/sleep", append=True), slots=CPUS)
    assert crew.room(None) == CPUS
    crew._short_runs.empty_until = time.monotonic() + 3600.0
    assert crew.room(None) == CPUS - 1
    crew.start([lease(60) for _ in range(CPUS - 1)])
    began = time.monotonic()
    assert not crew.wait(30.0)  # not for so long: somebody may be waiting for the last slot
    assert time.monotonic() - began < 10.0
    assert crew.room(None) == 1
    crew.start([lease(0)])
    assert crew.room(None) == 0
    ends(crew)
    assert crew.room(None) == 1


def test_a_crew_judges_again_whether_its_programs_are_short(
    asked: list[int], make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(short_runs, "JUDGED", 5)
    # The first five take 0.4 s each, since one is long; were they kept in mind, ten took 0.2 s.
    monkeypatch.setattr(short_runs, "SHORT_S", 0.3)
    crew = make(Runs("/bin/sleep", append=True))
    for seconds in (2, 0, 0, 0, 0, 0):
        end_of(crew, lease(seconds))
    assert not asked
    for _ in range(11):
        end_of(crew, lease(0))
    assert len(asked) == 1


@pytest.mark.usefixtures("asked")
def test_a_crew_leaves_a_slot_empty_when_starts_take_too_long(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"JUDGED": 1, "WINDOW": 1, "SHORT_S": 3600.0, "LONG_S": 3600.0}.items():
        monkeypatch.setattr(short_runs, name, value)
    monkeypatch.setattr(short_runs, "RELIEF_S", 3600.0)
    crew = make(Runs("/bin/sleep", append=True), slots=CPUS)
    end_of(crew, lease(0))
    assert crew.room(None) == CPUS
    crew.start([lease(60) for _ in range(CPUS - 1)])
    assert crew.room(None) == 1
    # Beside three that go on; what a start takes with a CPU for it is not known yet.
    monkeypatch.setattr(short_runs, "_FEW", 100)
    end_of(crew, lease(0))
    assert crew.room(None) == 0

"""A queue that does all but hand out params: for how long that is borne. And how fast runs are."""

from __future__ import annotations

import pytest

from minionize.errors import EngineUnavailable
from minionize.testing import ManualClock
from minionize.worker.pace import Pace
from minionize.worker.taking import FIRST_RETRY_S, QUIET_S, Taking

RECONNECT_S = 60.0
ERROR = EngineUnavailable("the disk is full")


class Bench:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.said: list[str] = []
        self.taking = Taking(self.clock, reconnect_s=RECONNECT_S, url="q", say=self.said.append)

    def fails(self, *, holds: bool = False) -> bool:
        return self.taking.fails_alone(ERROR, holds=holds)

    def fail_for(self, seconds: float, *, holds: bool = False) -> None:
        """It fails now and then for so long, and all else works."""
        end = self.clock.monotonic() + seconds
        while self.clock.monotonic() <= end:
            self.fails(holds=holds)
            self.taking.else_works()
            self.clock.advance(1.0)


def test_it_counts_once_something_else_worked() -> None:
    bench = Bench()
    assert not bench.fails()
    assert not bench.fails()
    bench.taking.else_works()
    assert bench.fails()
    assert bench.said == ["the disk is full; trying again for 60 s"]
    assert bench.taking.waits()
    bench.clock.advance(3.0)
    assert not bench.taking.waits()
    assert bench.fails()
    assert len(bench.said) == 1


def test_the_pauses_between_tries_grow_up_to_a_quarter_of_the_patience() -> None:
    bench = Bench()
    bench.fails()
    bench.taking.else_works()
    pauses = []
    for _ in range(12):
        bench.fails(holds=True)
        pauses.append(bench.taking.retry_at - bench.clock.monotonic())
        bench.clock.advance(pauses[-1])
    assert pauses[0] <= FIRST_RETRY_S < min(pauses[-4:])
    assert max(pauses) <= RECONNECT_S / 4


def test_one_that_holds_nothing_gives_up_in_the_end() -> None:
    bench = Bench()
    bench.fail_for(RECONNECT_S)
    bench.clock.advance(2.0)
    with pytest.raises(EngineUnavailable, match=r"disk is full \(tried for 6\d s; see --reconnect"):
        bench.fail_for(RECONNECT_S)


def test_one_that_holds_something_goes_on_and_has_its_patience_afterwards() -> None:
    bench = Bench()
    bench.fail_for(RECONNECT_S - 10)
    bench.fail_for(3 * RECONNECT_S, holds=True)
    bench.fail_for(RECONNECT_S - 10)


def test_what_could_be_taken_in_between_begins_the_patience_anew() -> None:
    bench = Bench()
    for _ in range(5):
        bench.fail_for(RECONNECT_S - 10)
        bench.taking.works()
        assert not bench.taking.waits()
    assert bench.said == ["the disk is full; trying again for 60 s"]
    bench.clock.advance(QUIET_S)
    bench.taking.works()
    assert bench.said[1:] == ["q: params can be taken again after 284 s"]
    assert not bench.fails(), "as at the beginning"


@pytest.mark.parametrize(("count", "each"), [(1, 0.9), (2, 0.8), (5, 0.5), (100, 0.5)])
def test_a_batch_weighs_more_than_one_run_and_never_all(count: int, each: float) -> None:
    pace = Pace(1)
    pace.ended(1, 1.0, 0.0)
    pace.ended(count, 0.0, 1.0)
    assert pace.seconds_each == pytest.approx(each)

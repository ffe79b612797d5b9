"""When a minion ends: what it was told to do is over, its time is, or others do the rest."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from made_worker import Around, Make, done, failed, make_one

from minionize.contracts.crew import Outcome, Verdict
from minionize.contracts.engine import Engine, EngineOptions
from minionize.engines.registry import open_engine
from minionize.values import Failure, Lease, State, Stats


@pytest.fixture
def make() -> Make:
    return make_one


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


def test_what_is_given_back_is_counted_whether_it_ran_or_waited(make: Make) -> None:
    def does(lease: Lease) -> Outcome | None:
        return done(lease) if lease.param < 50 else None

    made = make(does, range(100), slots=2)
    threading.Timer(0.5, made.stopping.request, ["SIGTERM", 15]).start()
    summary = made.run()
    told = made.events.kinds().count("give_back")
    assert summary.given_back == told > 2
    assert made.queue.stats().waiting == 50


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


def test_cut_short_is_what_the_scheduler_did(make: Make) -> None:
    for why, number, cut_short in (
        ("SIGTERM", 15, True),
        ("SIGUSR2", 12, True),
        ("SIGHUP", 1, False),
    ):
        made = make(lambda lease: None, [0])
        made.stopping.request(why, number)
        summary = made.run()
        assert (summary.exit_status, summary.cut_short) == (75, cut_short)
    made = make(lambda lease: None, [0], max_time_s=0.1)
    assert made.run().cut_short
    made = make(done, [0], max_time_s=60)
    assert not made.run().cut_short


def test_a_run_that_got_the_jobs_signal_first_is_innocent(make: Make) -> None:
    """The scheduler signals all processes of a job, and a program may be the first of them."""

    def does(lease: Lease) -> Outcome:
        threading.Timer(0.05, made.stopping.request, ["SIGTERM", 15]).start()
        return Outcome(lease, Verdict.FAILED, 0, 0.1, -15, reason="signal SIGTERM")

    made = make(does, [0])
    summary = made.run()
    assert (summary.failed, summary.given_back, summary.exit_status) == (0, 1, 75)
    assert [entry.attempt for entry in made.queue.scan(State.WAITING)] == [1]


def test_a_run_that_dies_of_a_signal_of_its_own_is_not(make: Make) -> None:
    def does(lease: Lease) -> Outcome:
        return Outcome(lease, Verdict.FAILED, 0, 0.1, -15, reason="signal SIGTERM")

    made = make(does, [0], max_attempts=1)
    assert (made.run().exit_status, made.dead()["0"]) == (1, Failure("signal SIGTERM", ""))


def test_too_near_to_its_end_nothing_is_taken(make: Make) -> None:
    made = make(done, range(3), max_time_s=60.0, min_left_s=120.0)
    summary = made.run()
    assert made.crew.ran == []
    assert (summary.exit_status, summary.why) == (75, "less than 2 min left")
    assert not summary.cut_short, "started again it would have no more time"
    assert made.queue.stats().waiting == 3


def test_near_to_its_end_it_goes_when_its_runs_do(make: Make) -> None:
    ends = threading.Event()

    def does(lease: Lease) -> Outcome | None:
        if lease.text == "0":
            threading.Timer(0.6, ends.set).start()
            return None
        return done(lease)

    made = make(does, range(3), max_time_s=60.0, min_left_s=59.7)
    made.crew.ends = ends
    summary = made.run()
    assert (summary.done, summary.exit_status, summary.cut_short) == (1, 75, True)
    assert "terminate" not in made.crew.log
    assert [entry.text for entry in made.queue.scan(State.WAITING)] == ["1", "2"]


def test_under_kubernetes_nothing_but_a_drained_queue_is_0(make: Make) -> None:
    pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    made = make(done, range(3), max_params=2, env=pod)
    assert made.run().exit_status == 75
    made = make(done, range(3), max_params=3, env=pod)
    assert made.run().exit_status == 0
    made = make(failed, [0], max_params=1, max_attempts=1, env=pod)
    assert made.run().exit_status == 1
    # What is delayed now would be nobody's.
    made = make(failed, [0], until="empty", max_attempts=2, env=pod)
    assert (made.run().exit_status, made.queue.stats().dead) == (1, 1)


class Others(Around):
    """An engine with a param that another minion holds, and other minions that are idle."""

    def __init__(self, engine: Engine, before: int | None) -> None:
        super().__init__(engine)
        self.before = before
        self.asked = 0

    def idle_before(self, enough: int) -> int | None:
        self.asked += 1
        return None if self.before is None else min(enough, self.before)


@pytest.mark.parametrize(
    ("before", "settings", "leaves"),
    [
        (1, {}, True),
        (0, {}, False),
        (None, {}, False),
        (1, {"keep_idle": 2}, False),
        (2, {"keep_idle": 2}, True),
        (0, {"keep_idle": 0}, True),
        (1, {"until": "forever"}, False),
        (1, {"env": {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}}, False),
    ],
)
def test_the_idle_give_way(
    make: Make, before: int | None, settings: dict[str, Any], leaves: bool
) -> None:
    made = make(done, [0, 1], idle_s=0.1, **settings)
    holder = open_engine(made.url, EngineOptions(minion_id="a", lease_s=60.0))
    (held,) = holder.lease(1, 1.0)
    made.wrap = lambda engine: Others(engine, before)
    threading.Timer(1.0, holder.ack, [[held]]).start()
    threading.Timer(1.5, made.stopping.request, ["SIGTERM", 15]).start()
    summary = made.run()
    assert summary.done == 1
    gave_way = summary.why == "idle, others have the rest"
    assert gave_way is leaves
    if leaves:
        assert summary.exit_status == 0
        assert made.lines[-1].endswith("s, idle, others have the rest")
    holder.close()


def test_who_else_is_idle_is_asked_seldom(make: Make) -> None:
    made = make(done, [0, 1], idle_s=100.0, lease_s=100.0)
    holder = open_engine(made.url, EngineOptions(minion_id="a", lease_s=60.0))
    (held,) = holder.lease(1, 1.0)
    engines: list[Others] = []

    def wrap(engine: Engine) -> Any:
        engines.append(Others(engine, 1))
        return engines[0]

    made.wrap = wrap
    threading.Timer(1.0, holder.ack, [[held]]).start()
    assert made.run().done == 1
    assert engines[0].asked == 0  # it is a look at every minion: not at the end of each campaign
    holder.close()


class OfAThousand(Around):
    """An engine of so many minions that each asks seldom; how often it was asked for the stats."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.asked = 0

    def stats(self) -> Stats:
        self.asked += 1
        return self._engine.stats()._replace(minions=1000)

    def looks_drained(self) -> bool:
        return bool(self._engine.stats().drained)


def test_the_end_that_is_seen_is_not_waited_for(make: Make) -> None:
    made = make(done, [0, 1])
    holder = open_engine(made.url, EngineOptions(minion_id="a", lease_s=60.0))
    (held,) = holder.lease(1, 1.0)
    threading.Timer(0.3, holder.ack, [[held]]).start()
    engines: list[OfAThousand] = []

    def wrap(engine: Engine) -> Any:
        engines.append(OfAThousand(engine))
        return engines[0]

    made.wrap = wrap
    summary = made.run()
    assert (summary.done, summary.exit_status) == (1, 0)
    # Its own turn would have come after 20 s.
    assert summary.seconds < 15 and engines[0].asked <= 3
    holder.close()


def test_who_stays_does_not_ask_for_the_end_again_and_again(make: Make) -> None:
    made = make(done, [0], until="forever")
    engines: list[OfAThousand] = []

    def wrap(engine: Engine) -> Any:
        engines.append(OfAThousand(engine))
        return engines[0]

    made.wrap = wrap
    threading.Timer(2.0, made.stopping.request, ["SIGTERM", 15]).start()
    made.run()
    assert engines[0].asked <= 3

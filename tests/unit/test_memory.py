"""What queues in memory do beyond the contract: bounds, waits, options, threads."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import pytest

from minionize.contracts.engine import EngineOptions
from minionize.engines import memory
from minionize.errors import EngineUnavailable, NoSuchQueue, NotSupported, UsageError
from minionize.values import State

OPTIONS = EngineOptions(minion_id="me", lease_s=60)
_numbers = itertools.count()


@pytest.fixture
def name() -> Iterator[str]:
    name = f"unit-{next(_numbers)}"
    yield name
    memory.drop(name)


def test_done_params_are_only_counted_where_told_so(name: str) -> None:
    queue = memory.open_queue(f"{name}?keep=0", OPTIONS)
    queue.put(range(3))
    engine = memory.open_engine(name, OPTIONS)
    engine.ack(engine.lease(3, 0))
    assert not engine.traits.keeps_done
    assert not queue.traits.keeps_done
    assert queue.stats().done == 3
    assert queue.look_up(["1", "2", "3"]) == {}
    with pytest.raises(NotSupported, match="keep=0"):
        queue.scan(State.DONE)
    with pytest.raises(NotSupported):
        queue.requeue(None, State.DONE)


def test_a_lease_waits_for_what_is_put_meanwhile(name: str) -> None:
    queue = memory.open_queue(name, OPTIONS)
    queue.put([])
    engine = memory.open_engine(name, OPTIONS)
    feeder = threading.Timer(0.2, queue.put, [["late"]])
    feeder.start()
    assert [lease.param for lease in engine.lease(1, 60.0)] == ["late"]
    feeder.join()


def test_a_full_queue_lets_its_feeder_wait(name: str) -> None:
    queue = memory.open_queue(f"{name}?keep=0&most=10", OPTIONS)
    queue.put([0])
    engine = memory.open_engine(name, OPTIONS)
    peak = 0

    def feed() -> None:
        with queue.feeding():
            for start in range(1, 500, 5):
                queue.put_texts(map(str, range(start, start + 5)))

    feeder = threading.Thread(target=feed)
    feeder.start()
    seen: list[int] = []
    while feeder.is_alive() or not engine.stats().drained:
        leases = engine.lease(3, 0.05)
        peak = max(peak, engine.stats().waiting or 0)
        seen += [lease.param for lease in leases]
        engine.ack(leases)
    feeder.join()
    assert seen == list(range(501))
    assert peak <= 15


def test_a_feeder_that_waits_is_freed_when_its_queue_is_closed(name: str) -> None:
    queue = memory.open_queue(f"{name}?most=1", OPTIONS)
    queue.put([1])
    errors: list[Exception] = []

    def feed() -> None:
        try:
            queue.put([2])
        except EngineUnavailable as error:
            errors.append(error)

    feeder = threading.Thread(target=feed)
    feeder.start()
    queue.close()
    feeder.join(30)
    assert not feeder.is_alive()
    assert "closed" in str(errors[0])
    assert queue.stats().put == 1


@pytest.mark.parametrize("option", ["keep=2", "most=0", "most=x", "least=1"])
def test_options_that_are_none_are_told(option: str) -> None:
    with pytest.raises(UsageError, match="neither keep=0 nor most=N"):
        memory.open_queue(f"q?{option}", OPTIONS)


def test_dropped_queues_are_gone(name: str) -> None:
    queue = memory.open_queue(name, OPTIONS)
    queue.put([1])
    memory.drop(name)
    with pytest.raises(NoSuchQueue):
        memory.open_engine(name, OPTIONS)
    queue.put([2])
    assert queue.stats().put == 1


def test_where_none_may_be_made_none_is_made(name: str) -> None:
    queue = memory.open_queue(name, EngineOptions(create=False))
    with pytest.raises(NoSuchQueue):
        queue.put([1])
    with pytest.raises(NoSuchQueue), queue.feeding():
        raise AssertionError


def test_given_back_params_go_before_new_ones(name: str) -> None:
    memory.open_queue(name, OPTIONS).put(range(5))
    engine = memory.open_engine(name, OPTIONS)
    engine.nack(engine.lease(2, 0))
    assert [lease.param for lease in engine.lease(5, 0)] == [0, 1, 2, 3, 4]
    assert not engine.lease(5, 0.01)

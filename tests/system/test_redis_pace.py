"""Of many idle minions each looks into Redis seldom, and sees none the later what concerns it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from redis_field import until
from services.redis import RedisServer, lacking

from minionize.contracts.engine import EngineOptions
from minionize.engines.redis import open_engine, open_queue
from minionize.engines.redis.minion import RedisEngine
from minionize.engines.redis.people import RedisQueue

LOOK_S = 3.0
"""One of 400 looks no more often than that."""


class Crowd:
    """A queue with a minion, and 400 others that are alive and do nothing."""

    def __init__(self, server: RedisServer) -> None:
        self.url = server.url("q")
        self.client: Any = server.client()
        self.queue: RedisQueue = open_queue(self.url, EngineOptions(minion_id="looks"))
        self.queue.put([0])
        self.engine = self.minion("one")
        far = int((time.time() + 100_000) * 1000)
        self.client.zadd("{q}:minions", {f"other-{number}:1": far for number in range(400)})
        self.idle(self.engine, first=True)

    def minion(self, name: str, lease_s: float = 60.0) -> RedisEngine:
        return open_engine(self.url, EngineOptions(lease_s=lease_s, minion_id=name))

    def idle(self, engine: RedisEngine, *, first: bool = False) -> None:
        """There is nothing, and `engine` has looked."""
        if first:
            engine.ack(engine.lease(1, 0))
        assert engine.lease(1, 0) == []

    def scripts(self) -> int:
        return int(self.client.info("commandstats")["cmdstat_evalsha"]["calls"])

    def close(self) -> None:
        self.engine.close()
        self.queue.close()
        self.client.close()


@pytest.fixture
def crowd(tmp_path: Path, needs_server: Callable[[str], NoReturn]) -> Iterator[Crowd]:
    if why := lacking("valkey"):
        needs_server(why)
    with RedisServer(tmp_path / "server", "valkey") as server:
        crowd = Crowd(server)
        yield crowd
        crowd.close()


def test_one_of_many_waits_and_looks_seldom(crowd: Crowd) -> None:
    begin, before = time.monotonic(), crowd.scripts()
    for _ in range(10):
        assert crowd.engine.lease(1, 0.1) == []
    looks = (time.monotonic() - begin) / LOOK_S + 1
    assert crowd.scripts() - before <= looks


def test_what_is_put_or_given_back_wakes_it(crowd: Crowd) -> None:
    before = crowd.scripts()
    crowd.queue.put([1])
    (lease,) = crowd.engine.lease(1, 60)
    other = crowd.minion("two")
    crowd.engine.nack([lease], charge=False)
    (lease,) = other.lease(1, 60)
    assert lease.param == 1
    assert crowd.scripts() > before
    other.ack([lease])
    other.close()


def test_what_it_gave_back_for_later_comes_when_it_is_due(crowd: Crowd) -> None:
    def soon() -> bool:
        crowd.queue.put([1])
        (lease,) = crowd.engine.lease(1, 60)
        crowd.engine.nack([lease], delay_s=0.2)
        begin = time.monotonic()
        (lease,) = crowd.engine.lease(1, 60)
        took_s = time.monotonic() - begin
        crowd.engine.ack([lease])
        crowd.idle(crowd.engine)
        assert took_s > 0.15
        return took_s < LOOK_S / 2

    until(soon)  # whatever stalls this machine now and then


def test_another_ones_look_wakes_it_for_what_a_dead_minion_held(crowd: Crowd) -> None:
    crowd.queue.put([1])
    dies = crowd.minion("dies", lease_s=0.5)
    dies.lease(1, 0)
    dies.abandon()
    until(lambda: crowd.engine.lease(1, 0.1) != [])


def test_the_end_is_seen_with_a_look_and_a_stop_too(crowd: Crowd) -> None:
    assert crowd.engine.looks_drained()
    assert crowd.engine.stats().drained
    assert not crowd.engine.looks_drained()
    crowd.queue.put([1])
    (lease,) = crowd.engine.lease(1, 60)
    until(lambda: crowd.engine.lease(1, 0.1) == [])
    assert not crowd.engine.looks_drained()  # it is done by nobody yet
    crowd.engine.ack([lease])
    crowd.queue.steer(stop=True)
    until(lambda: crowd.engine.lease(1, 0.1) == [] and crowd.engine.looks_drained())
    assert crowd.engine.orders().stops == 1

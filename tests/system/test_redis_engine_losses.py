"""The Redis engine where something is lost: answers, consumers, what somebody deleted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from redis_field import until
from redis_room import Room, at_work
from services.proxy import Proxy
from services.redis import KINDS, RedisServer

from minionize.engines.redis.minion import RedisEngine
from minionize.errors import (
    EngineUnavailable,
    NoSuchQueue,
)
from minionize.values import State


@pytest.fixture(scope="module", params=KINDS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer]:
    with at_work(request.param, tmp_path_factory) as server:
        yield server


@pytest.fixture
def room(server: RedisServer, request: pytest.FixtureRequest) -> Iterator[Room]:
    with Room(server, f"q{abs(hash(request.node.name))}") as room:
        yield room


def test_an_answer_that_got_lost_is_asked_for_again(room: Room) -> None:
    """What the server handed out to nobody is ours and comes with the next lease."""
    queue = room.queue()
    queue.put(range(20))
    with Proxy("127.0.0.1", room.server.port) as proxy:
        room.port = proxy.port
        engine = room.engine(lease_s=4.0)  # answers may take 1 s
        got = list(engine.lease(3, 0))
        proxy.slow(1.5)
        with pytest.raises(EngineUnavailable, match="does not answer"):
            engine.lease(5, 0)
        proxy.mend()
        until(lambda: queue.stats().running == 8)
        got += engine.lease(5, 0)
        got += engine.lease(20, 0)
        assert sorted(lease.param for lease in got) == list(range(20))
        engine.ack(got)
        assert engine.stats().drained
        engine.close()


@pytest.mark.parametrize("texts", ["ours", "trimmed", "unreadable"])
def test_an_answer_that_got_lost_was_longer_than_those_that_follow(room: Room, texts: str) -> None:
    """All that it held comes, in parts: whoever is alive keeps what it does not know of, else."""
    queue = room.queue()
    queue.put(range(4))
    others = 12
    for number in range(others):
        room.client.xadd(room.name, {"a": number, "b": number} if texts == "unreadable" else
                         {"minionize": number})  # fmt: skip
    with Proxy("127.0.0.1", room.server.port) as proxy:
        room.port = proxy.port
        engine = room.engine(lease_s=4.0)  # answers may take 1 s
        engine.ack(engine.lease(1, 0))
        engine.extend([])  # what was acked is heard of with the next command
        proxy.slow(1.5)
        with pytest.raises(EngineUnavailable, match="does not answer"):
            engine.lease(13, 0)
        proxy.mend()
        until(lambda: queue.stats().running == 13)
        if texts == "trimmed":
            room.client.xtrim(room.name, maxlen=2, approximate=False)
        done = 1
        for _ in range(16):
            leases = engine.lease(3, 0)
            assert len(leases) <= 3
            done += len(leases)
            engine.ack(leases)
        stats = engine.stats()
        gone = {"ours": 0, "trimmed": 13, "unreadable": others}[texts]
        assert (stats.done, stats.dead) == (done, gone)
        assert done + gone == 16 and stats.drained
        engine.close()


@pytest.mark.parametrize("broken", ["cut", "drop", "stall", "flush"])
def test_an_ack_whose_answer_got_lost_is_done_once(room: Room, broken: str) -> None:
    queue = room.queue()
    queue.put(range(9))
    with Proxy("127.0.0.1", room.server.port) as proxy:
        room.port = proxy.port
        engine = room.engine(lease_s=4.0)
        leases = engine.lease(9, 0)
        if broken == "flush":
            room.client.script_flush()
        else:
            getattr(proxy, broken)()
        with contextlib.suppress(EngineUnavailable):
            engine.ack(leases[:3])
        with contextlib.suppress(EngineUnavailable):
            engine.extend(leases[3:])
        proxy.mend()
        until(lambda: extended(engine))
        engine.ack(leases[3:6])
        engine.ack(leases[6:])
        assert engine.stats()[:5] == (9, 0, 0, 0, 9)
        engine.close()


def extended(engine: RedisEngine) -> bool:
    """Whether the queue can be reached again."""
    try:
        engine.extend([])
    except EngineUnavailable:
        return False
    return True


def test_a_consumer_that_vanished_loses_nothing(room: Room) -> None:
    """Somebody's own consumer in our group, and a minion whose record is gone."""
    queue = room.queue()
    queue.put(range(4))
    room.client.xreadgroup("minions", "somebody", {room.name: ">"}, count=2)
    victim = room.engine()
    victim.lease(1, 0)
    victim.abandon()
    room.client.delete(f"{{{room.name}}}:minions")
    engine = room.engine(lease_s=0.3)
    found: dict[str, bool] = {}

    def all_found() -> bool:
        engine.extend([])
        found.update((lease.id, lease.suspect) for lease in engine.lease(10, 0.05))
        return len(found) == 4

    until(all_found)
    assert sorted(found.values()) == [False, True, True, True]


def test_a_server_that_forgot_its_scripts_is_told_again(room: Room) -> None:
    queue, engine = room.queue(), None
    queue.put(range(3))
    engine = room.engine()
    for _ in range(3):
        room.client.script_flush()
        (lease,) = engine.lease(1, 1.0)
        room.client.script_flush()
        engine.ack([lease])
    room.client.script_flush()
    assert not engine.lease(1, 0.1)
    assert engine.stats().drained


def test_what_somebody_trimmed_is_counted_and_said(room: Room) -> None:
    queue = room.queue()
    queue.put(range(10))
    engine = room.engine()
    held = engine.lease(2, 0)
    room.client.xtrim(room.name, maxlen=3, approximate=False)
    engine.nack(held[:1])  # its text is gone there; we know it
    engine.ack(held[1:])
    rest = list(engine.lease(10, 0.1))
    rest += engine.lease(10, 0.1)
    assert sorted(lease.param for lease in rest) == [0, 7, 8, 9]
    engine.ack(rest)
    stats = engine.stats()
    assert stats.drained
    assert (stats.put, stats.done, stats.dead, stats.purged) == (10, 5, 1, 4)
    (letter,) = queue.scan(State.DEAD)
    assert letter.param == {"lost": 5}
    assert (
        letter.failure is not None
        and "5 params are gone: somebody trimmed" in letter.failure.detail
    )
    assert queue.requeue() == 0, "there is nothing to run"
    assert engine.stats() == stats, "said once"


def test_what_a_dead_minion_held_and_somebody_trimmed_is_a_dead_letter(room: Room) -> None:
    queue = room.queue()
    queue.put([1])
    victim = room.engine(lease_s=0.2)
    (held,) = victim.lease(1, 0)
    victim.abandon()
    room.client.xtrim(room.name, maxlen=0, approximate=False)
    engine = room.engine()
    until(lambda: not engine.lease(1, 0.05) and not engine.stats().running)
    (letter,) = queue.scan(State.DEAD)
    assert (letter.id, letter.failure and letter.failure.reason) == (
        held.id,
        "trimmed from the stream",
    )
    assert engine.stats().drained


def test_a_group_that_somebody_destroyed_is_made_again(room: Room) -> None:
    queue = room.queue()
    queue.put([1, 2])
    engine = room.engine()
    room.client.xgroup_destroy(room.name, "minions")
    assert [lease.param for lease in engine.lease(5, 1.0)] == [1, 2]


def test_a_queue_that_somebody_deleted_is_said(room: Room) -> None:
    queue = room.queue()
    queue.put([1, 2])
    engine = room.engine()
    room.client.flushall()
    with pytest.raises(NoSuchQueue, match="no queue redis://"):
        engine.lease(1, 1.0)
    with pytest.raises(NoSuchQueue):
        engine.extend([])
    engine.abandon()

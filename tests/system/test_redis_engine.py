"""The Redis engine where the contract suite does not look: messages of others, large ones, and how
soon a param starts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from redis_room import Room, at_work
from services.redis import KINDS, RedisServer, lacking

from minionize.contracts.engine import EngineOptions
from minionize.engines.redis import open_engine, open_queue
from minionize.engines.redis.feeding import parts_of
from minionize.errors import (
    ForeignVersion,
    QueueRefused,
    UsageError,
)
from minionize.values import Failure, State


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


def test_messages_of_others_are_params(room: Room) -> None:
    for value in ("plain", "ü", "two\nlines", "3"):
        room.client.xadd(room.name, {"anything": value})
    engine = room.engine()
    leases = engine.lease(10, 1.0)
    assert [lease.param for lease in leases] == ["plain", "ü", "two\nlines", "3"]
    engine.nack(leases[:1], delay_s=0.01)
    engine.bury(leases[1:2], Failure("no"))
    engine.ack(leases[2:])
    (again,) = engine.lease(1, 5.0)
    assert (again.param, again.id, again.attempt) == ("plain", leases[0].id, 2)
    engine.ack([again])
    stats = engine.stats()
    assert (stats.put, stats.done, stats.dead) == (4, 3, 1)
    assert stats.drained
    assert [entry.param for entry in room.queue().scan(State.DEAD)] == ["ü"]


def test_json_of_others_is_decoded_and_what_is_none_is_dead(room: Room) -> None:
    room.client.xadd(room.name, {"body": '{"lr": 0.1,\n "n": [1]}', "by": "ada"})
    room.client.xadd(room.name, {"body": "no json", "by": "ada"})
    room.client.xadd(room.name, {"other": "1", "by": "ada"})
    room.client.xadd(room.name, {"body": b"\xff", "by": "ada"})
    engine = room.engine("&field=body&decoder=json")
    (lease,) = engine.lease(10, 1.0)
    assert lease.param == {"lr": 0.1, "n": [1]}
    assert "\n" not in lease.text
    queue = room.queue("&field=body&decoder=json")
    reasons = [entry.failure.reason for entry in queue.scan(State.DEAD) if entry.failure]
    assert reasons == [
        "message is no JSON",
        "message has no such field",
        "message is not UTF-8",
    ]
    # The messages are kept as they were: another decoder can read them.
    assert queue.requeue() == 3
    text = room.engine("&field=body")
    assert [lease.param for lease in text.lease(10, 1.0)] == ["no json"]
    stats = queue.stats()
    assert (stats.put, stats.dead, stats.running) == (4, 2, 2)


def test_the_decoder_may_come_from_the_environment(room: Room) -> None:
    room.client.xadd(room.name, {"body": "[1]"})
    (lease,) = room.engine(REDIS_DECODER="json").lease(1, 1.0)
    assert lease.param == [1]
    with pytest.raises(UsageError, match="REDIS_DECODER: there is no decoder 'yaml'"):
        room.engine(REDIS_DECODER="yaml")


def test_no_trim_of_ours_takes_what_is_not_done(room: Room) -> None:
    """Done messages go in one trim: up to the first that is pending, and none that waits."""
    queue = room.queue()
    queue.put(range(50))
    engine, other = room.engine(), room.engine()
    first = list(other.lease(5, 0))
    mine = list(engine.lease(20, 0))
    engine.ack(mine[:-1])
    stats = engine.stats()  # after what it acked
    assert (stats.waiting, stats.running, stats.done) == (25, 6, 19)
    assert queue.look_up([mine[0].id]) == {}
    assert room.client.xlen(room.name) == 50
    other.ack(first)
    other.stats()
    assert room.client.xlen(room.name) == 50 - 24
    engine.ack(mine)
    stats = engine.stats()
    assert (stats.waiting, stats.running, stats.done) == (25, 0, 25)
    assert room.client.xlen(room.name) == 25
    # Large ones are deleted at once.
    queue.put(["x" * 100_000] * 3)
    engine.ack(engine.lease(25, 0))
    large = engine.lease(3, 0)
    other_held = large[:1]
    engine.ack(large[1:])
    engine.stats()
    assert room.client.xlen(room.name) == 1
    engine.ack(other_held)


def test_a_param_put_on_an_idle_queue_starts_soon(room: Room) -> None:
    queue = room.queue()
    queue.put([0])
    engine = room.engine()
    engine.ack(engine.lease(1, 1.0))
    waits: list[float] = []
    for _ in range(5):
        put_at: list[float] = []

        def put(moments: list[float] = put_at) -> None:
            time.sleep(0.1)
            moments.append(time.monotonic())
            queue.put([1])

        putter = threading.Thread(target=put)
        putter.start()
        leases = engine.lease(1, 5.0)
        came = time.monotonic()
        putter.join()
        waits.append(came - put_at[0])
        engine.ack(leases)
    assert sorted(waits)[2] < 0.05, waits


def test_a_delayed_param_starts_when_it_is_due(room: Room) -> None:
    queue = room.queue()
    queue.put([0])
    engine = room.engine()
    late: list[float] = []
    for _ in range(5):
        (lease,) = engine.lease(1, 1.0)
        begin = time.monotonic()
        engine.nack([lease], delay_s=0.33, charge=False)
        (lease,) = engine.lease(1, 5.0)
        late.append(time.monotonic() - begin - 0.33)
        engine.nack([lease], charge=False)
    assert min(late) > -0.005, late
    assert sorted(late)[2] < 0.05, late


def test_pause_holds_even_who_waits_already(room: Room) -> None:
    queue = room.queue()
    queue.put([0])
    engine = room.engine()
    engine.ack(engine.lease(1, 1.0))

    def pause_and_put() -> None:
        time.sleep(0.1)
        queue.steer(paused=True)
        queue.put([1])

    other = threading.Thread(target=pause_and_put)
    other.start()
    assert not engine.lease(1, 0.5)
    other.join()
    assert queue.stats().waiting == 1
    queue.steer(paused=False)
    assert [lease.param for lease in engine.lease(1, 1.0)] == [1]


def test_other_groups_formats_and_types_are_refused(room: Room) -> None:
    room.queue().put([1])
    with pytest.raises(UsageError, match="say group=minions in the URL"):
        room.engine("&group=others")
    room.client.hset(f"{{{room.name}}}:meta", "format", "7 minions")
    with pytest.raises(ForeignVersion, match="format 7"):
        room.engine()
    with pytest.raises(ForeignVersion, match="format 7"):
        room.queue().put([1])
    room.client.delete(room.name, f"{{{room.name}}}:meta")
    room.client.set(room.name, "text")
    with pytest.raises(UsageError, match="no stream: choose another"):
        room.queue().put([1])


def test_a_large_put_is_all_or_nothing_and_in_order(room: Room) -> None:
    queue = room.queue()
    assert queue.put(range(5000)) == 5000
    assert not room.client.keys("*:feed:*")
    engine = room.engine()
    first = engine.lease(4000, 0)
    first = [*first, *engine.lease(4000, 0)]
    assert [lease.param for lease in first] == list(range(5000))


def test_minions_go_on_where_a_feeder_died_after_announcing(room: Room) -> None:
    queue = room.queue()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(queue._feeder), "_unload", lambda self: None)
        assert queue.put(range(3000)) == 3000
    stats = queue.stats()
    assert (stats.put, stats.waiting) == (3000, 3000)
    assert room.client.xlen(room.name) == 0
    engine = room.engine()
    assert [lease.param for lease in engine.lease(1500, 0)] == list(range(1500))
    assert len(list(queue.scan(State.WAITING))) == 1500
    assert queue.purge() == 1500


def test_parts_are_bounded_by_count_and_size() -> None:
    sizes = [len(part) for part in parts_of(iter(["x"] * 3500))]
    assert sum(sizes) == 3500 and max(sizes) <= 1000
    for part in parts_of("y" * 100_000 for _ in range(100)):
        assert sum(map(len, part)) < 3 << 20
    assert [len(part) for part in parts_of("y" * 5_000_000 for _ in range(3))][-1] >= 1


def test_credentials_show_nowhere(room: Room, tmp_path: Path) -> None:
    secret = "pass-word-1"
    address = f"redis://ada:{secret}@127.0.0.1:{room.port}/0?stream={room.name}"
    with pytest.raises(QueueRefused) as caught:
        open_engine(address, EngineOptions(minion_id="m"))
    assert secret not in str(caught.value) and "ada" not in str(caught.value)
    file = tmp_path / "password"
    file.write_text(f"{secret}\n")
    queue = open_queue(room.url(), EngineOptions(env={"REDIS_PASSWORD_FILE": str(file)}))
    with pytest.raises(QueueRefused) as caught:
        queue.stats()
    assert secret not in str(caught.value) + repr(queue._wire.place)
    assert caught.value.exit_status == 69


def test_needs_a_server(needs_server: Callable[[str], NoReturn]) -> None:
    """Where no server is at all, this file has tested nothing."""
    if all(map(lacking, KINDS)):
        needs_server(lacking("valkey"))

"""Policies of a real server by which params vanish: `feed`, `minionize`, `status` and `doctor` name
the setting, whatever the user may ask."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis_room import Room, at_work
from services.minions import MAIN, MINION_MAIN, Minions
from services.redis import KINDS, RedisServer

from minionize.contracts.engine import EngineOptions
from minionize.engines.redis import open_engine, open_queue
from minionize.engines.redis.policies import UNKNOWN
from minionize.values import Harm


@pytest.fixture(scope="module", params=KINDS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer]:
    with at_work(request.param, tmp_path_factory) as server:
        yield server


@pytest.fixture
def room(server: RedisServer, request: pytest.FixtureRequest) -> Iterator[Room]:
    with Room(server, f"t-{abs(hash(request.node.name))}") as room:
        yield room
    client = server.client()
    client.config_set("maxmemory", 0)
    client.config_set("maxmemory-policy", "noeviction")
    client.close()


def said(minions: Minions, *args: str, main: str = MINION_MAIN) -> tuple[int, str]:
    return minions.ended(minions.start(main, *args, "-q", minions.url))


def test_an_evicting_server_is_named_by_each_command(room: Room, tmp_path: Path) -> None:
    minions = Minions(tmp_path, room.url())
    room.client.config_set("maxmemory", "90mb")
    room.client.config_set("maxmemory-policy", "allkeys-lru")
    minions.put([1])
    for args, main in (
        (("feed", "--grid", "x=1"), MINION_MAIN),
        (("true",), MAIN),
    ):
        order = args if main == MINION_MAIN else ()
        process = minions.start(main, *order, "-q", minions.url, *([] if order else args))
        status, text = minions.ended(process)
        assert status == 0, text
        assert "warning: maxmemory-policy allkeys-lru" in text and "90 MiB" in text, text
        assert "set maxmemory-policy to noeviction" in text, text
    status, text = said(minions, "doctor")
    assert status == 1 and "warn  policy" in text and "to noeviction" in text, text
    status, text = said(minions, "status")
    assert status == 0 and "maxmemory-policy allkeys-lru: params can be dropped" in text, text
    room.client.config_set("maxmemory-policy", "noeviction")
    status, text = said(minions, "doctor")
    assert status == 0 and "none that drops, delays or hides params" in text, text
    status, text = said(minions, "feed", "--grid", "x=1")
    assert "warning" not in text and "maxmemory" not in text, text


def test_doctor_tells_of_the_server_before_there_is_a_queue(room: Room, tmp_path: Path) -> None:
    room.client.config_set("maxmemory-policy", "allkeys-random")
    status, text = said(Minions(tmp_path, room.url()), "doctor")
    assert status == 2 and "maxmemory-policy allkeys-random: once maxmemory is set" in text, text


def test_evicted_keys_are_counted(room: Room) -> None:
    queue = room.queue()
    queue.put([1])
    used = room.client.info("memory")["used_memory"]
    room.client.config_set("maxmemory", used + 2_000_000)
    room.client.config_set("maxmemory-policy", "allkeys-random")
    before = room.client.info("stats")["evicted_keys"]
    for number in range(100):
        room.client.set(f"other-{number}", b"x" * 100_000)
    room.client.config_set("maxmemory", "1gb")
    now = room.client.info("stats")["evicted_keys"]
    assert now > before
    (policy,) = queue.policies()
    assert f"it dropped {now:,} keys" in policy.effect


def test_keys_that_another_program_had_expire(room: Room) -> None:
    queue = room.queue()
    queue.put([1])
    assert queue.policies() == []
    room.client.pexpire(room.name, 3_600_000)
    room.client.pexpire(f"{{{room.name}}}:meta", 60_000)
    assert [policy.setting for policy in queue.policies()] == [
        f"EXPIRE {room.name}",
        f"EXPIRE {{{room.name}}}:meta",
    ]
    assert {policy.harm for policy in queue.policies()} == {Harm.LOSS}


@pytest.mark.parametrize("command", ["-info", "-config", "-pttl"])
def test_what_may_not_be_asked_keeps_nobody_from_work(room: Room, command: str) -> None:
    room.client.config_set("maxmemory-policy", "allkeys-lru")
    room.client.acl_setuser("few", reset=True)
    room.client.execute_command("ACL", "SETUSER", "few", "on", ">word", "~*", "+@all", command)
    options = EngineOptions(minion_id="few", env={"REDIS_USER": "few", "REDIS_PASSWORD": "word"})
    queue = open_queue(room.url(), options)
    queue.put([1])
    engine = open_engine(room.url(), options)
    try:
        assert len(engine.lease(1, 0)) == 1
        for found in (engine.policies(), queue.policies()):
            if command == "-info":
                assert list(found) == [UNKNOWN]
            else:
                assert [policy.harm for policy in found] == [Harm.LOSS]
    finally:
        engine.close()
        queue.close()
        room.client.acl_deluser("few")


def test_params_that_another_program_deleted_are_said_to_be_lost(
    room: Room, tmp_path: Path
) -> None:
    minions = Minions(tmp_path, room.url())
    minions.put([1, 2, 3])
    ids = [id_ for id_, _ in room.client.xrange(room.name)]
    room.client.xdel(room.name, *ids)
    status, text = said(minions, "wait")
    assert status == 1 and "3 lost" in text, text
    status, text = said(minions, "status")
    assert "3 lost" in text, text
    status, text = said(minions, "status", "--json")
    assert json.loads(text)["lost"] == 3
    status, text = said(minions, "doctor")
    assert status == 1 and "3 params are gone" in text, text
    # The next minion makes a dead letter of it, which stays until it is dropped.
    status, text = minions.ended(minions.start(MAIN, "-q", minions.url, "true"))
    assert status == 1 and "1 dead" in text, text
    assert minions.stats().lost == 0

"""Minions on Redis while all goes wrong that can: nothing is lost, and nobody idles silently."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import pytest
from redis_field import AOF, RedisField, at_work, until
from services.minions import assert_not_reached
from services.proxy import Proxy
from services.redis import RedisServer

EASY = ("--lease", "5", "--reconnect", "30", "-j", "2")


@pytest.fixture
def server(tmp_path: Path, needs_server: Callable[[str], NoReturn]) -> Iterator[RedisServer]:
    with at_work(tmp_path, needs_server) as server:
        yield server


@pytest.fixture
def field(tmp_path: Path, server: RedisServer) -> Iterator[RedisField]:
    with closing(RedisField(tmp_path, server)) as field:
        yield field


@pytest.fixture
def durable(tmp_path: Path, needs_server: Callable[[str], NoReturn]) -> Iterator[RedisField]:
    """On a server whose data outlives it."""
    with (
        at_work(tmp_path, needs_server, *AOF) as server,
        closing(RedisField(tmp_path, server)) as field,
    ):
        yield field


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", server.port) as proxy:
        yield proxy


def through(proxy: Proxy) -> str:
    return f"redis://127.0.0.1:{proxy.port}/0?stream=q"


def test_the_server_is_killed_and_comes_back_on_its_data(durable: RedisField) -> None:
    durable.put(range(300))
    minions = [durable.minion(*EASY) for _ in range(2)]
    durable.until_joined(2)
    for done in (60, 150):
        durable.until_done(done)
        durable.server.kill()
        time.sleep(0.5)
        durable.server.start()
    assert [durable.ended(minion) for minion in minions] == [0, 0]
    durable.assert_all_done(300)
    for minion in minions:
        assert "reached again" in durable.said(minion)


def test_breaks_shorter_than_the_lease_cost_nothing(field: RedisField, proxy: Proxy) -> None:
    field.put(range(200))
    # Long beside the breaks: on a busy machine each takes seconds more.
    lease = ("--lease", "15", "--reconnect", "60", "-j", "2")
    minions = [field.minion(*lease, url=through(proxy)) for _ in range(2)]
    field.until_joined(2)
    field.until_done(20)
    proxy.cut()
    time.sleep(0.7)
    proxy.mend()
    field.until_done(60)
    for _ in range(5):
        proxy.drop()
        time.sleep(0.05)
    field.until_done(100)
    proxy.stall()
    time.sleep(5.0)
    proxy.mend()
    field.until_done(140)
    proxy.slow(0.2)
    time.sleep(1.0)
    proxy.mend()
    assert [field.ended(minion) for minion in minions] == [0, 0]
    field.assert_all_done(200)
    again = [param for param, times in Counter(field.lines("ends")).items() if times > 1]
    assert not again, "run twice though the lease lived"


def test_a_minion_that_holds_nothing_sees_that_it_is_away(field: RedisField, proxy: Proxy) -> None:
    field.put([])
    assert_not_reached(through(proxy), {}, proxy)


def test_a_break_longer_than_the_lease_gives_it_to_others(field: RedisField, proxy: Proxy) -> None:
    field.put(range(150))
    cut_off = field.minion("--lease", "2", "-j", "2", url=through(proxy))
    field.until_done(20)
    proxy.stall()
    other = field.minion("--lease", "2", "-j", "2")
    assert field.ended(other) == 0
    field.assert_all_done(150)
    until(lambda: "does not answer" in field.said(cut_off), lambda: field.said(cut_off))
    proxy.mend()
    assert field.ended(cut_off) == 0
    field.assert_all_done(150)


def test_a_server_that_stays_away_ends_it_with_69_and_a_line(
    field: RedisField, proxy: Proxy
) -> None:
    field.put(range(5000))
    minion = field.minion("--lease", "2", "--reconnect", "2", url=through(proxy))
    field.until_done(10)
    proxy.cut()
    assert field.ended(minion) == 69
    last = field.said(minion).splitlines()
    assert any("can't be reached (connection re" in line and "--reconnect" in line for line in last)
    late = field.minion("--reconnect", "0", url=through(proxy))
    assert field.ended(late) == 69
    assert "can't be reached (connection refused): look whether the server is up" in field.said(
        late
    )
    assert len(field.said(late).splitlines()) <= 2


def test_a_killed_minion_is_taken_over(field: RedisField) -> None:
    field.put(range(200))
    victim = field.minion("--lease", "1", "-j", "4")
    other = field.minion("--lease", "1", "-j", "2")
    field.until_done(40)
    victim.kill()
    victim.wait()
    assert field.ended(other) == 0
    field.assert_all_done(200)


def test_without_memory_nothing_is_put_and_all_is_drained(field: RedisField) -> None:
    field.put(range(200))
    client = field.server.client()
    minions = [field.minion(*EASY) for _ in range(2)]
    field.until_done(20)
    client.config_set("maxmemory", 1)
    feed = field.command("feed", "--grid", "a=0:3")
    assert field.ended(feed) == 69
    assert "the server has no memory left: let minions empty the queue" in field.said(feed)
    # Suspects, marks, retries and dead letters as well: all that minions do goes on.
    late = field.minion(*EASY)
    assert [field.ended(minion) for minion in (*minions, late)] == [0, 0, 0]
    field.assert_all_done(200)
    client.close()


def test_failures_are_kept_without_memory(field: RedisField) -> None:
    field.put(range(3))
    client = field.server.client()
    client.config_set("maxmemory", 1)
    minion = field.minion("--max-attempts", "2", "--lease", "2", run='test "$1" != 1')
    assert field.ended(minion) == 1, field.said(minion)
    assert [entry.param for entry in field.dead()] == [1]
    client.close()


def test_a_read_only_replica_is_said_and_recovered_from(field: RedisField) -> None:
    field.put(range(100))
    client = field.server.client()
    stays = field.minion("--lease", "4", "--reconnect", "30")
    field.until_done(10)
    client.execute_command("REPLICAOF", "127.0.0.1", "1")
    until(lambda: "read-only replica: name its master" in field.said(stays))
    ends = field.minion("--reconnect", "1")
    assert field.ended(ends) == 69
    assert "read-only replica" in field.said(ends)
    client.execute_command("REPLICAOF", "NO", "ONE")
    assert field.ended(stays) == 0
    field.assert_all_done(100)
    client.close()


def test_rights_that_are_taken_away_end_it_at_once(field: RedisField) -> None:
    field.put(range(1000))
    client = field.server.client()
    minion = field.minion(*EASY)
    field.until_done(10)
    client.execute_command("ACL", "SETUSER", "default", "-xack", "-xreadgroup")
    assert field.ended(minion) == 69
    assert "this user may not do that" in field.said(minion)
    client.execute_command("ACL", "SETUSER", "default", "+@all", ">secret-word", "resetpass")
    client.execute_command("ACL", "SETUSER", "default", ">secret-word")
    late = field.minion(*EASY)
    assert field.ended(late) == 69
    assert "wants another user or password: set REDIS_USER and REDIS_PASSWORD" in field.said(late)
    wrong = field.minion(*EASY, REDIS_PASSWORD="other-word")
    assert field.ended(wrong) == 69
    assert "other-word" not in field.said(wrong)
    client.close()


def test_a_server_that_loads_is_waited_for(durable: RedisField) -> None:
    durable.put(range(20))
    client = durable.server.client()
    with client.pipeline(transaction=False) as many:
        for number in range(8000):
            many.set(f"other{number}", number)
        many.execute()
    client.close()
    durable.server.kill()
    slowly = ("--key-load-delay", "500", "--loading-process-events-interval-bytes", "1024")
    durable.server.start(*slowly, wait=False)
    until(durable.server.listens)
    minion = durable.minion(*EASY)
    assert durable.ended(minion) == 0
    assert "still loading its data" in durable.said(minion)
    durable.assert_all_done(20)


@pytest.mark.parametrize(
    "rubbish", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x16", b"*-7\r\n?"]
)
def test_rubbish_answers_are_said(field: RedisField, proxy: Proxy, rubbish: bytes) -> None:
    field.put(range(5000))
    minion = field.minion("--lease", "2", "--reconnect", "1", url=through(proxy))
    field.until_done(10)
    proxy.answer(rubbish)
    assert field.ended(minion) == 69
    assert "Traceback" not in field.said(minion)
    late = field.minion("--lease", "2", "--reconnect", "1", url=through(proxy))
    assert field.ended(late) == 69
    assert "Traceback" not in field.said(late)
    assert len(field.said(late).splitlines()) <= 2, field.said(late)


def test_a_poison_dies_alone(field: RedisField) -> None:
    field.put(range(40))
    run = (
        'case $1 in 7|21) kill -9 $PPID; exec sleep 600;; esac; echo "$1" >>runs; echo "$1" >>ends'
    )
    options = ("--lease", "1", "--max-crashes", "2", "-j", "2")
    for _ in range(20):
        minion = field.minion(*options, run=run)
        if field.ended(minion) >= 0:
            break
    assert field.ended(minion) == 1, field.said(minion)
    dead = field.dead()
    assert sorted(entry.param for entry in dead) == [7, 21]
    assert {entry.failure.reason for entry in dead if entry.failure} == {
        "crashed its minion 2 times"
    }
    assert set(map(int, field.lines("ends"))) == set(range(40)) - {7, 21}


def test_a_feeder_that_is_killed_put_nothing_and_leaves_nothing(field: RedisField) -> None:
    client = field.server.client()
    (field.folder / "many").write_text("".join(f"{'x' * 200} {n}\n" for n in range(200_000)))
    feeder = field.command("feed", "--format", "lines", "many")
    until(lambda: client.keys("{q}:feed:*"))
    feeder.kill()
    feeder.wait()
    (left,) = client.keys("{q}:feed:*")
    assert 0 < client.pttl(left) <= 3600_000, "it goes by itself"
    stats = field.stats()
    assert (stats.put, stats.waiting) == (0, 0)
    client.close()


def test_feeding_goes_on_after_a_break(field: RedisField, proxy: Proxy) -> None:
    (field.folder / "many").write_text("".join(f"{n}\n" for n in range(300_000)))
    client = field.server.client()
    feeder = field.command("feed", "--typed", "--format", "lines", "many", url=through(proxy))
    until(lambda: client.keys("{q}:feed:*"))
    proxy.drop()
    time.sleep(0.2)
    proxy.drop()
    assert field.ended(feeder) == 0, field.said(feeder)
    stats = field.stats()
    assert (stats.put, stats.waiting) == (300_000, 300_000)
    client.close()

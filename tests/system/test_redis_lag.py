"""What an autoscaler reads of a queue is what waits, after each command of ours; and what it is
told to read instead where the server can't know."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis_room import Room, at_work
from services.minions import MAIN, MINION_MAIN, Minions
from services.redis import KINDS, RedisServer

from minionize.engines.redis.minion import RedisEngine
from minionize.values import Failure, Lease, State

STEPS = 100


@pytest.fixture(scope="module", params=KINDS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer]:
    with at_work(request.param, tmp_path_factory) as server:
        yield server


@pytest.fixture
def room(server: RedisServer) -> Iterator[Room]:
    with Room(server, f"lag-{secrets.token_hex(4)}") as room:
        yield room


class Scaler:
    """Reads what docs/redis.md says."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.client = room.client
        self.streams = (room.name, f"{{{room.name}}}:back", f"{{{room.name}}}:suspects")
        self.has_lag = room.server.kind != "redis6"

    def lags(self) -> list[int | None]:
        found = []
        for stream in self.streams:
            (group,) = self.client.xinfo_groups(stream)
            found.append(group.get("lag"))
        return found

    def check(self, after: str) -> None:
        stats = self.room.queue().stats()
        assert None not in (stats.waiting, stats.running, stats.delayed)
        if self.has_lag:
            lags = self.lags()
            assert None not in lags, (after, lags, stats)
            assert sum(filter(None, lags)) == stats.waiting, (after, lags, stats)
        assert self.client.xlen(f"{{{self.room.name}}}:later") == stats.delayed, (after, stats)
        length = sum(self.client.xlen(stream) for stream in self.streams)
        left = (stats.waiting or 0) + (stats.running or 0)
        assert length >= left and (left > 0 or length == 0), (after, length, stats)


class History:
    """Random steps of one minion and one person."""

    def __init__(self, room: Room, chance: random.Random) -> None:
        self.chance = chance
        self.queue = room.queue()
        self.feed()
        self.engine: RedisEngine = room.engine()
        self.held: list[Lease] = []

    def step(self) -> str:
        steps: list[Callable[[], object]] = [
            self.feed, self.feed, self.lease, self.lease, self.done, self.done, self.fail,
            self.wait, self.bury, self.retry, self.purge, self.beat, self.leave,
        ]  # fmt: skip
        step = self.chance.choice(steps)
        step()
        return step.__name__

    def some(self) -> list[Lease]:
        """Some of those that are held, the newest as well as the oldest."""
        self.chance.shuffle(self.held)
        count = self.chance.randint(0, len(self.held))
        some, self.held = self.held[:count], self.held[count:]
        return some

    def feed(self) -> None:
        size = self.chance.choice((1, 1, 3000))
        self.queue.put(["x" * size] * self.chance.randint(1, 12))

    def lease(self) -> None:
        self.held += self.engine.lease(self.chance.randint(1, 6), 0)

    def done(self) -> None:
        self.engine.ack(self.some())
        self.engine.extend(self.held)

    def fail(self) -> None:
        self.engine.nack(self.some())

    def wait(self) -> None:
        self.engine.nack(self.some(), delay_s=3600, charge=False, later=True)

    def bury(self) -> None:
        self.engine.bury(self.some(), Failure("no"))

    def retry(self) -> None:
        self.queue.requeue()

    def purge(self) -> None:
        self.queue.purge(self.chance.choice((None, State.WAITING, State.DEAD)))

    def beat(self) -> None:
        self.engine.extend(self.held)

    def leave(self) -> None:
        if self.chance.random() < 0.3:
            self.engine._leave()
            self.held.clear()
            self.engine._join()


def test_lag_and_length_say_what_waits_whatever_we_did(room: Room) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    history = History(room, random.Random(seed))
    scaler = Scaler(room)
    told: list[str] = []
    for _ in range(STEPS):
        told.append(history.step())
        scaler.check(f"seed {seed}: {' '.join(told[-12:])}")


def test_what_a_dead_minion_held_waits(room: Room) -> None:
    queue, scaler = room.queue(), Scaler(room)
    queue.put(range(10))
    dying = room.engine(lease_s=0.2)
    assert len(dying.lease(4, 0)) == 4
    dying.abandon()
    other = room.engine()
    leases: list[Lease] = []
    while not any(lease.suspect for lease in leases):
        leases += other.lease(1, 0.1)
    scaler.check("taken over")


@pytest.mark.parametrize("which", [slice(0, 1), slice(1, 2), slice(-1, None), slice(0, None)])
def test_a_beat_mends_what_others_deleted(room: Room, which: slice) -> None:
    queue, scaler = room.queue(), Scaler(room)
    queue.put(range(5))
    engine = room.engine()
    held = engine.lease(1, 0)
    left = [id_ for id_, _ in room.client.xrange(room.name)][1:]
    deleted = left[which]
    room.client.xdel(room.name, *deleted)
    queue.steer(stop=False)  # the next beat looks around
    engine.extend(held)
    scaler.check("beat")
    if scaler.has_lag:
        assert scaler.lags()[0] == 4 - len(deleted)
    # And it goes on counting right.
    queue.put(range(3))
    scaler.check("put")
    engine.lease(2, 0)
    scaler.check("lease")


def test_the_other_metric_where_nothing_mends_the_lag(room: Room) -> None:
    room.queue().put(range(5))
    first, *_ = (id_ for id_, _ in room.client.xrange(room.name))
    room.client.xdel(room.name, first)
    assert room.client.xlen(room.name) == 4
    everything = [id_ for id_, _ in room.client.xrange(room.name)]
    room.client.xdel(room.name, *everything)
    assert room.client.xlen(room.name) == 0


def test_commands(room: Room, tmp_path: Path) -> None:
    minions, scaler = Minions(tmp_path, room.url()), Scaler(room)

    def run(*args: str, main: str = MINION_MAIN) -> None:
        status, said = minions.ended(minions.start(main, *args))
        assert status in (0, 1), said
        scaler.check(" ".join(args))

    url = minions.url
    run("feed", "-q", url, "--grid", "x=1:20")
    run("-q", url, "--max-params", "3", "true", main=MAIN)
    run("-q", url, "--max-params", "4", "--max-attempts", "1", "false", main=MAIN)
    run("retry", "-q", url)
    run("-q", url, "--max-params", "2", "false", main=MAIN)
    run("cp", url, url.replace("stream=", "stream=other"))
    run("cp", "--move", url, url.replace("stream=", "stream=more"))
    run("feed", "-q", url, "--grid", "x=1:5")
    run("purge", "-q", url, "--yes")
    run("feed", "-q", url, "--grid", "x=1:5")
    if scaler.has_lag:
        assert scaler.lags() == [4, 0, 0]

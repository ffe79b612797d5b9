"""Each answer of a Redis server gets lost once, one after the other: whoever asked asks again, and
nothing is lost with it, done twice, or kept by somebody who does not know of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest
from redis_field import at_work
from services.proxy import Proxy
from services.redis import RedisServer

from minionize.contracts.engine import EngineOptions
from minionize.engines.redis import open_engine, open_queue
from minionize.engines.redis.minion import RedisEngine
from minionize.engines.redis.reports import ReportServer
from minionize.errors import EngineUnavailable
from minionize.reporters.remote import RemoteReport, RemoteStore
from minionize.values import Failure, Lease, State, SystemClock

CROWD = 200
"""Where there are so many minions each looks every few seconds, and else waits to be woken."""

T = TypeVar("T")


@pytest.fixture
def server(tmp_path: Path, needs_server: Callable[[str], NoReturn]) -> Iterator[RedisServer]:
    with at_work(tmp_path, needs_server) as server:
        yield server


class Room:
    """A stream that is reached through a proxy, or past it."""

    def __init__(self, server: RedisServer, proxy: Proxy, stream: str) -> None:
        self.server = server
        self.proxy = proxy
        self.stream = stream
        self.client: Any = server.client()
        self.queue = open_queue(server.url(stream), EngineOptions(minion_id="looks"))

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.proxy.port}/0?stream={self.stream}"

    def close(self) -> None:
        self.proxy.mend()
        self.queue.close()
        self.client.close()


def until_all_were_lost(server: RedisServer, story: Callable[[Room], None]) -> None:
    """`story` once without a fault, so that the server knows the scripts; then with the first
    answer lost, with the second, and so on."""
    with Proxy("127.0.0.1", server.port) as proxy:
        for after in count(-1):
            room = Room(server, proxy, f"q{after}")
            if after >= 0:
                proxy.lose(after)
            try:
                story(room)
                if proxy.loses:
                    break
            except Exception as error:
                raise AssertionError(f"when answer {after} was lost: {error}") from error
            finally:
                room.close()
        assert after > 2


def stubborn(ask: Callable[[], T]) -> T:
    """As the worker: it asks again."""
    for _ in range(20):
        with suppress(EngineUnavailable):
            return ask()
    return ask()


class Minion:
    """Knows what it holds."""

    def __init__(self, url: str) -> None:
        options = EngineOptions(minion_id="hand")
        self.engine: RedisEngine = stubborn(lambda: open_engine(url, options))
        self.held: dict[str, Lease] = {}

    def lease(self, limit: int, wait_s: float = 0.0) -> list[Lease]:
        leases = list(stubborn(lambda: self.engine.lease(limit, wait_s)))
        assert len(leases) <= limit
        for lease in leases:
            assert lease.id not in self.held, "leased twice"
            self.held[lease.id] = lease
        return leases

    def ack(self, leases: Collection[Lease]) -> None:
        stubborn(lambda: self.engine.ack(leases))
        self._forget(leases)

    def nack(self, leases: Collection[Lease]) -> None:
        stubborn(lambda: self.engine.nack(leases))
        self._forget(leases)

    def bury(self, leases: Collection[Lease]) -> None:
        stubborn(lambda: self.engine.bury(leases, Failure("no")))
        self._forget(leases)

    def start(self, leases: Collection[Lease]) -> None:
        stubborn(lambda: self.engine.started(leases))

    def beat(self) -> None:
        self._forget(stubborn(lambda: self.engine.extend(list(self.held.values()))))

    def idle(self) -> None:
        """Until it finds nothing."""
        while leases := self.lease(3):
            self.ack(leases)

    def _forget(self, leases: Collection[Lease]) -> None:
        for lease in list(leases):
            del self.held[lease.id]


def ended(room: Room, minion: Minion) -> None:
    """All that is left is done. Some turns bring everything."""
    for _ in range(20):
        minion.beat()
        minion.ack(list(minion.held.values()))
        minion.idle()
    stats = stubborn(minion.engine.stats)
    assert stats.running == 0, "held by who does not know of it"
    assert stats.drained
    assert stats == room.queue.stats()
    stubborn(minion.engine.close)


def dies(room: Room) -> None:
    """The server takes our minion for dead."""
    key = f"{{{room.stream}}}:minions"
    names = [name for name in room.client.zrange(key, 0, -1) if name.startswith(b"hand")]
    room.client.zadd(key, dict.fromkeys(names, 0))


def crowd(room: Room) -> None:
    """Many others are there, who do nothing."""
    far = 1 << 50
    room.client.zadd(f"{{{room.stream}}}:minions", {f"other-{n}": far for n in range(CROWD)})


def of_all_kinds(room: Room) -> None:
    """Ours, and messages of others, one of which nobody can read."""
    room.queue.put(range(2))
    for fields in ({"a": 1, "b": 2}, {"a": "others"}, {"minionize": "2"}, {"a": "more"}):
        room.client.xadd(room.stream, fields)
    room.queue.put([3])


def test_settling(server: RedisServer) -> None:
    def story(room: Room) -> None:
        of_all_kinds(room)
        minion = Minion(room.url)
        others, first, second = minion.lease(4)  # one of them is dead by then
        minion.start([first])
        minion.ack([first])
        minion.bury(minion.lease(1))
        minion.nack([others, second])
        minion.lease(2)
        minion.nack(minion.lease(9)[:1])
        ended(room, minion)
        stats = room.queue.stats()
        assert (stats.put, stats.done, stats.dead) == (7, 5, 2)
        assert {entry.attempt for entry in room.queue.scan(State.DEAD)} <= {1, 2}

    until_all_were_lost(server, story)


def test_waiting(server: RedisServer) -> None:
    """A blocking read may bring more than was asked for, of several streams."""

    def story(room: Room) -> None:
        room.queue.put(range(3))
        other = open_engine(server.url(room.stream), EngineOptions(minion_id="other"))
        held = other.lease(2, 0)
        crowd(room)
        minion = Minion(room.url)
        minion.idle()
        other.nack(held)
        of_all_kinds(room)
        (one,) = minion.lease(1, 60.0)
        assert minion.lease(4, 60.0)
        minion.ack([one])
        minion.idle()
        room.queue.put([4])
        assert minion.lease(1, 60.0)
        other.close()
        ended(room, minion)
        stats = room.queue.stats()
        assert (stats.put, stats.done, stats.dead) == (11, 10, 1)

    until_all_were_lost(server, story)


@pytest.mark.parametrize("waits", [False, True])
def test_a_pause(server: RedisServer, waits: bool) -> None:
    """What got lost before it, or is brought by a read that did not know of it, waits with the
    rest."""

    def story(room: Room) -> None:
        room.queue.put([])
        minion = Minion(room.url)
        if waits:
            crowd(room)
        minion.idle()
        of_all_kinds(room)
        if waits:
            room.queue.steer(paused=True)
            assert minion.lease(3, 0.1) == []
        else:
            with suppress(EngineUnavailable):
                minion.engine.ack(minion.engine.lease(3, 0.0))
            room.queue.steer(paused=True)
        assert minion.lease(3) == []
        minion.beat()  # what was acked is heard of by now
        stats = room.queue.stats()
        assert stats.running == 0, "nobody works on it"
        room.queue.steer(paused=False)
        ended(room, minion)
        stats = room.queue.stats()
        assert (stats.put, stats.done, stats.dead) == (7, 6, 1)

    until_all_were_lost(server, story)


def test_being_taken_for_dead(server: RedisServer) -> None:
    def story(room: Room) -> None:
        of_all_kinds(room)
        minion = Minion(room.url)
        minion.ack(minion.lease(1))
        minion.beat()
        minion.lease(2)
        dies(room)
        minion.beat()
        assert not minion.held
        dies(room)
        minion.lease(2)
        ended(room, minion)
        stats = room.queue.stats()
        assert (stats.put, stats.done, stats.dead) == (7, 6, 1)

    until_all_were_lost(server, story)


def test_leaving(server: RedisServer) -> None:
    """Which is tried once, with the last ack: nobody asks again."""

    def story(room: Room) -> None:
        room.queue.put(range(3))
        minion = Minion(room.url)
        done, _ = minion.lease(2)
        minion.ack([done])
        minion.engine.close()
        stats = room.queue.stats()
        assert (stats.done, stats.running, stats.waiting) == (1, 0, 2)

    until_all_were_lost(server, story)


@pytest.mark.parametrize("params", [5, 2500])
def test_feeding(server: RedisServer, params: int) -> None:
    """A few in one command, or many in parts."""

    def story(room: Room) -> None:
        with closing(open_queue(room.url, EngineOptions(minion_id="feeds"))) as queue:
            with queue.feeding():
                assert queue.put(range(params)) == params
            assert queue.put(["last"]) == 1
        engine = open_engine(server.url(room.stream), EngineOptions(minion_id="reads"))
        found: list[object] = []
        while leases := engine.lease(4000, 0.0):
            found += [lease.param for lease in leases]
            engine.ack(leases)
        assert len(found) == params + 1
        assert set(found) == {*range(params), "last"}
        stats = engine.stats()
        assert (stats.put, stats.done) == (params + 1, params + 1) and stats.drained
        engine.close()
        keys = [key for key in room.client.keys(f"*{room.stream}*") if b":feed:" in key]
        assert not keys, "parts are left"

    until_all_were_lost(server, story)


class Hurried(SystemClock):
    """No pause is long."""

    def monotonic(self) -> float:
        return super().monotonic() * 1e6


def test_reporting(server: RedisServer) -> None:
    """Each line is kept once, in order; a batch that is longer than a piece as well."""

    def story(room: Room) -> None:
        report = ReportServer(room.url, {})
        store = RemoteStore(report, "m", "header", clock=Hurried())
        wanted: list[bytes] = []
        pending = b""
        turn = 0
        while turn < 6 or pending:
            if turn < 6:
                lines = [b"%d %d %s" % (turn, n, b"x" * 1000) for n in range(300 * (turn % 3))]
                wanted += [*lines, b"short %d" % turn]
                pending += b"".join(line + b"\n" for line in (*lines, b"short %d" % turn))
            turn += 1
            with suppress(OSError):
                store.append(pending)
                pending = b""
            with suppress(OSError):
                store.write_roll(f"roll {turn}")
        store.ending()
        store.write_roll("end")
        store.close()
        past = ReportServer(server.url(room.stream), {})
        read = RemoteReport(past)
        assert [line for _, line in read.lines()] == wanted
        assert list(read.rolls()) == [(b"m", b"end")]
        assert read.headers() == {b"m": b"header"}
        assert read.let_go() == (0, 0)
        past.close()

    until_all_were_lost(server, story)


class Refuses(ReportServer):
    """The first command is refused, as by a server that has no memory just then."""

    def ask(self, *commands: Sequence[str | bytes | int]) -> list[Any]:
        if not self._used:
            refused = "return redis.error_reply('OOM no room')"
            return super().ask(["EVAL", refused, 0], *commands[1:])
        return super().ask(*commands)


def test_a_piece_that_was_refused_comes_before_those_after_it(server: RedisServer) -> None:
    report = Refuses(server.url("q"), {})
    store = RemoteStore(report, "m", "header", clock=Hurried())
    lines = [b"%d %s" % (number, b"x" * 1000) for number in range(600)]
    written = b"".join(line + b"\n" for line in lines)
    with pytest.raises(OSError, match="no room"):
        store.append(written)
    store.append(written)
    assert [line for _, line in RemoteReport(report).lines()] == lines
    store.close()

"""The contract suite and the state machine over real servers: Valkey, Redis 6.2 and Redis 7."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import settings
from services.redis import KINDS, RedisServer, lacking

from minionize.contracts.engine import Engine, Queue
from minionize.engines.redis import wire
from minionize.engines.redis.minion import RedisEngine
from minionize.engines.redis.people import RedisQueue
from minionize.testing import Backend, EngineContract, EngineMachine, ManualClock

_numbers = itertools.count()

CLOCK = b"test:clock"
_NOW = "local function now_ms() return tonumber(call('GET', '%s') or 0) end"


@pytest.fixture(autouse=True, scope="module")
def manual_server_time() -> Iterator[None]:
    """The scripts read a key instead of the server's clock: so hours pass at once."""
    head = wire.head()
    begin, end = head.index("local function now_ms()"), head.index("local function int(")
    patch = pytest.MonkeyPatch()
    patch.setattr(wire, "head", lambda: head[:begin] + _NOW % CLOCK.decode() + "\n" + head[end:])
    wire.script.cache_clear()
    yield
    patch.undo()
    wire.script.cache_clear()


class ServerClock(ManualClock):
    """Moves the time of the server too."""

    def __init__(self, server: RedisServer) -> None:
        super().__init__()
        self._client = server.client()
        self._tell()

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        self._tell()

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self._tell()

    def close(self) -> None:
        self._client.close()

    def _tell(self) -> None:
        self._client.set(CLOCK, int(self.time() * 1000))


class RedisBackend(Backend):
    def __init__(self, server: RedisServer) -> None:
        super().__init__(server.url(f"contract-{next(_numbers)}"))
        self.server_clock = ServerClock(server)
        self.clock = self.server_clock

    def crash(self, handle: Engine | Queue) -> None:
        assert isinstance(handle, (RedisEngine, RedisQueue))
        handle.abandon()

    def close(self) -> None:
        super().close()
        self.server_clock.close()


Started = Callable[[str], RedisServer]
_servers: dict[str, RedisServer] = {}


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """Servers by kind, each started once."""

    def start(kind: str) -> RedisServer:
        if kind not in _servers:
            server = RedisServer(tmp_path_factory.mktemp(kind), kind)
            server.start()
            _servers[kind] = server
        return _servers[kind]

    yield start
    while _servers:
        _servers.popitem()[1].kill()


class OverServer(EngineContract):
    kind = ""

    @pytest.fixture
    def backend(
        self, started: Started, needs_server: Callable[[str], NoReturn]
    ) -> Iterator[Backend]:
        if why := lacking(self.kind):
            needs_server(why)
        with RedisBackend(started(self.kind)) as backend:
            yield backend


class TestValkey(OverServer):
    kind = "valkey"


class TestRedis6(OverServer):
    kind = "redis6"


class TestRedis7(OverServer):
    kind = "redis7"


@pytest.mark.parametrize("kind", KINDS)
def test_any_order_of_everything(
    kind: str, started: Started, needs_server: Callable[[str], NoReturn]
) -> None:
    """The state machine."""
    if why := lacking(kind):
        needs_server(why)
    server = started(kind)

    class RedisMachine(EngineMachine):
        make_backend = staticmethod(lambda: RedisBackend(server))

    case = RedisMachine.TestCase
    # In CI always the same runs, elsewhere new ones each time.
    case.settings = settings(max_examples=40, deadline=None, derandomize="CI" in os.environ)
    case("runTest").runTest()


def test_packages_are_installed_where_they_can_be(tmp_path: Path) -> None:
    """So that the suite does not pass by having no server at all."""
    if os.uname().machine == "x86_64":
        assert not lacking("valkey")

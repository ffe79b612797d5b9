"""A Redis of this module's own, and a stream of each test's own, for its engine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from services.redis import RedisServer, lacking

from minionize.contracts.engine import EngineOptions
from minionize.engines.redis import open_engine, open_queue
from minionize.engines.redis.minion import RedisEngine
from minionize.engines.redis.people import RedisQueue


@contextlib.contextmanager
def at_work(kind: str, folders: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server of this kind; the test is skipped where there is none."""
    if why := lacking(kind):
        pytest.skip(f"needs a server: {why}")
    with RedisServer(folders.mktemp(kind), kind) as server:
        yield server


class Room:
    """A stream of its own for each test."""

    def __init__(self, server: RedisServer, name: str) -> None:
        self.server = server
        self.name = name
        self.client: Any = server.client()
        self.opened: list[RedisEngine | RedisQueue] = []
        self.port = server.port

    def url(self, more: str = "") -> str:
        return f"redis://127.0.0.1:{self.port}/0?stream={self.name}{more}"

    def engine(self, more: str = "", lease_s: float = 60.0, **env: str) -> RedisEngine:
        name = f"minion-{len(self.opened)}"
        engine = open_engine(
            self.url(more), EngineOptions(lease_s=lease_s, minion_id=name, env=env)
        )
        self.opened.append(engine)
        return engine

    def queue(self, more: str = "") -> RedisQueue:
        queue = open_queue(self.url(more), EngineOptions(minion_id="looks"))
        self.opened.append(queue)
        return queue

    def __enter__(self) -> Room:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self.opened:
            each.close()
        self.client.flushall()
        self.client.close()

"""The Redis engine: queues in streams, for minions that share no folder. docs/redis.md.

`redis://[user:password@]host[:port]/db?stream=NAME`, `rediss://` (TLS), `unix:///socket?stream=NAME`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minionize.contracts.engine import EngineOptions

if TYPE_CHECKING:
    from minionize.engines.redis.minion import RedisEngine
    from minionize.engines.redis.people import RedisQueue


def open_engine(address: str, options: EngineOptions) -> RedisEngine:
    """Join the queue as a minion. `address` is the whole URL. NoSuchQueue if it is missing."""
    from minionize.engines.redis.minion import RedisEngine
    from minionize.engines.redis.place import place_of

    return RedisEngine(place_of(address, options.env), options)


def open_queue(address: str, options: EngineOptions) -> RedisQueue:
    """A person's face of the queue; `put` makes it if it is missing."""
    from minionize.engines.redis.people import RedisQueue
    from minionize.engines.redis.place import place_of

    return RedisQueue(place_of(address, options.env), options)

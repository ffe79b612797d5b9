"""The file engine: a queue in a folder that all its minions share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minionize.contracts.engine import EngineOptions

if TYPE_CHECKING:
    from minionize.engines.file.minion import FileEngine
    from minionize.engines.file.people import FileQueue


def open_engine(address: str, options: EngineOptions) -> FileEngine:
    """Join the queue in folder `address` as a minion. NoSuchQueue if it is missing."""
    from minionize.engines.file.minion import FileEngine
    from minionize.engines.file.room import Room

    return FileEngine(Room(address, _named(options, "minion")))


def open_queue(address: str, options: EngineOptions) -> FileQueue:
    """A person's face of the queue in folder `address`; it need not exist yet."""
    from minionize.engines.file.people import FileQueue
    from minionize.engines.file.room import Room

    return FileQueue(Room(address, _named(options, "feeder")))


def _named(options: EngineOptions, role: str) -> EngineOptions:
    """Options with an id that is unique, whoever opened it."""
    import os

    pid = options.pid or os.getpid()
    host = options.host or os.uname().nodename
    name = options.minion_id or f"{role}-{host}-{pid}-{os.urandom(4).hex()}"
    return options._replace(minion_id=name, host=host, pid=pid)

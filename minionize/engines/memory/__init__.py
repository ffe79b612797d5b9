"""The memory engine: queues inside this process, by name. Exact, thread-safe, gone at exit.

`memory:NAME` is one queue for everybody in the process who opens that name. For a stream of
params that is drained as it is read (`minionize --from`), open it as

    memory:NAME?keep=0&most=10000

`keep=0`: done params are only counted, not kept (so `traits.keeps_done` is False).
`most=N`: `put` and `put_texts` wait while N params or more are waiting. So a feeder thread that
puts, say, 1,000 at a time inside `feeding()` holds memory bounded without more ado:

    with queue.feeding():
        for some in chunks(texts):
            queue.put_texts(some)

It is freed of that wait, with EngineUnavailable, when its queue face is closed (from the thread
that ends the minion). The options count when the queue is made, by whoever puts first.
A queue lives until `drop(NAME)` or the end of the process.
"""

from __future__ import annotations

from minionize.contracts.engine import EngineOptions
from minionize.engines.memory.minion import MemoryEngine
from minionize.engines.memory.queue import MemoryQueue, parse
from minionize.engines.memory.store import drop, existing

__all__ = ["MemoryEngine", "MemoryQueue", "drop", "open_engine", "open_queue"]


def open_engine(address: str, options: EngineOptions) -> MemoryEngine:
    """Join the queue as a minion. NoSuchQueue if it is missing."""
    name, _keep, _most = parse(address)
    return MemoryEngine(existing(name), options)


def open_queue(address: str, options: EngineOptions) -> MemoryQueue:
    """A person's face of the queue; `put` makes it if it is missing."""
    return MemoryQueue(address, options)

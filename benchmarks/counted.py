"""What a param costs the file queue, counted at its one door to the system, `calls.py`."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.timed import fresh_folder
from minionize.contracts.engine import EngineOptions
from minionize.engines.file import open_queue
from minionize.engines.file.calls import Calls
from minionize.engines.file.minion import FileEngine
from minionize.engines.file.room import Room

WINDOW = 500
"""Params a lease asks for: half a second of 1-ms programs."""
COUNTED = 20_000


def per_param(scale: float) -> Iterator[tuple[str, str]]:
    """For queues of 10 thousand, 1 and 10 million params, and with 10 thousand leased by others:
    system calls, bytes and lock trips per param of lease, ack and beat."""
    for size in (10_000, 1_000_000, 10_000_000):
        count = max(10_000, int(size * scale))
        yield f"{count:,} params", _figures(count, leased=0)
    yield "1,000,000 params, 10,000 leased", _figures(max(40_000, int(1e6 * scale)), leased=10_000)


def _figures(count: int, leased: int) -> str:
    with fresh_folder() as folder:
        address = f"{folder}/minion-queue"
        queue = open_queue(address, EngineOptions())
        queue.put_texts(str(number) for number in range(count))
        queue.close()
        other = FileEngine(Room(address, EngineOptions(minion_id="other", slots=1)))
        while leased > 0:
            leased -= len(other.lease(leased, 0.0))
        calls = Calls()
        engine = FileEngine(Room(address, EngineOptions(minion_id="counted", slots=1), calls))
        ran, before = 0, (calls.total, calls.bytes_read, calls.bytes_written, calls.lock_trips)
        while ran < min(COUNTED, count - 1000):
            leases = engine.lease(WINDOW, 0.0)
            engine.ack(leases)
            ran += len(leases)
        engine.extend([])
        after = (calls.total, calls.bytes_read, calls.bytes_written, calls.lock_trips)
        engine.close()
        other.close()
    total, read, written, locks = (
        (now - then) / ran for now, then in zip(after, before, strict=True)
    )
    return f"{total:.3f} calls, {read:.0f} B read, {written:.0f} B written, {locks:.4f} lock trips"

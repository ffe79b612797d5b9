"""Of many minions that wait, each sees soon what concerns it, and few ask for the lock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from minionize.contracts.engine import EngineOptions, SeesTheEnd
from minionize.engines.file import head as layout
from minionize.engines.file import open_queue
from minionize.engines.file.head import Head, encode_copy, glimpse
from minionize.engines.file.minion import FileEngine
from minionize.engines.file.people import FileQueue
from minionize.engines.file.room import Room
from minionize.testing.backend import ManualClock

MANY = 100
"""So many take turns of two seconds."""
WAIT_S = 0.25
"""How long a worker lets the queue wait."""


class Throng:
    """Minions that wait for work, and another one that has the last param."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        options = EngineOptions(minion_id="person", clock=self.clock)
        self.queue: FileQueue = open_queue(str(folder), options)
        self.queue.put_texts(["1"])
        self.idle = [self._join(folder, f"m{number}") for number in range(MANY)]
        self.busy = self._join(folder, "busy")
        (self.lease,) = self.busy.lease(1, 0.0)
        self.found = [0] * MANY
        for _ in range(3):
            for engine in self.idle:
                assert not engine.lease(1, 0.0)
        self.trips = self._trips()

    def _join(self, folder: Path, name: str) -> FileEngine:
        return FileEngine(Room(str(folder), EngineOptions(minion_id=name, clock=self.clock)))

    def _trips(self) -> int:
        return sum(engine.room.calls.lock_trips for engine in self.idle)

    def trips_since(self) -> int:
        """How often the idle ones asked for the lock since this was asked last."""
        before, self.trips = self.trips, self._trips()
        return self.trips - before

    def wait(self, over: Callable[[FileEngine], bool] = lambda engine: False) -> None:
        """All wait for a moment at the same time, but for those who have found something and those
        to whom `over` applies."""
        now = self.clock._now_s
        for at, engine in enumerate(self.idle):
            self.clock._now_s = now
            if not (self.found[at] or over(engine)):
                self.found[at] += len(engine.lease(1, WAIT_S))
        self.clock._now_s = now + WAIT_S

    def close(self) -> None:
        for engine in (*self.idle, self.busy):
            engine.close()
        self.queue.close()


@pytest.fixture
def throng(tmp_path: Path) -> Iterator[Throng]:
    throng = Throng(tmp_path / "q")
    yield throng
    throng.close()


def test_nobody_asks_for_the_lock_while_nothing_happens(throng: Throng) -> None:
    for _ in range(4):
        throng.wait()
    # Turns of two seconds: within one each has its turn once, with jitter.
    assert throng.trips_since() < MANY
    assert not any(engine.looks_drained() for engine in throng.idle)


def test_the_end_is_seen_without_the_lock(throng: Throng) -> None:
    throng.busy.ack([throng.lease])
    throng.busy.extend([])
    for _ in range(3):
        throng.wait(FileEngine.looks_drained)
    # Who had its turn meanwhile knows it from there.
    seen = sum(engine.looks_drained() for engine in throng.idle)
    asked = throng.trips_since()
    assert seen > 0.5 * MANY and seen + asked >= MANY
    one = next(engine for engine in throng.idle if engine.looks_drained())
    assert isinstance(one, SeesTheEnd)
    assert one.stats().drained
    assert not one.looks_drained()


def test_who_feeds_keeps_the_end_away(throng: Throng) -> None:
    with throng.queue.feeding():
        throng.busy.ack([throng.lease])
        throng.busy.extend([])
        for _ in range(3):
            throng.wait()
        assert not any(engine.looks_drained() for engine in throng.idle)


def test_work_for_all_is_seen_by_all(throng: Throng) -> None:
    throng.queue.steer(paused=True)
    throng.queue.put_texts(["1"] * MANY)
    throng.wait()
    throng.wait()
    assert throng.found == [0] * MANY
    throng.queue.steer(paused=False)
    for _ in range(3):
        throng.wait()
    assert sum(throng.found) > 0.8 * MANY
    for _ in range(8):  # the last ones, in their turn at the latest
        throng.wait()
    assert throng.found == [1] * MANY


def test_one_param_does_not_call_all(throng: Throng) -> None:
    throng.trips_since()
    throng.busy.nack([throng.lease], charge=False)
    for _ in range(8):  # within a turn somebody has it
        throng.wait()
    assert sum(throng.found) == 1
    assert throng.trips_since() < 1.5 * MANY


def test_an_order_to_stop_is_seen_by_all(throng: Throng) -> None:
    throng.queue.steer(stop=True)
    for _ in range(2):
        throng.wait()
    assert [engine.orders().stops for engine in throng.idle] == [1] * MANY


def test_who_is_not_of_a_crowd_goes_by_turns(tmp_path: Path) -> None:
    clock = ManualClock()
    queue = open_queue(str(tmp_path / "q"), EngineOptions(clock=clock))
    queue.put_texts(["1"])
    engines = [
        FileEngine(Room(str(tmp_path / "q"), EngineOptions(minion_id=name, clock=clock)))
        for name in "ab"
    ]
    (lease,) = engines[0].lease(1, 0.0)
    assert not engines[1].lease(1, 1.0)
    calls = engines[1].room.calls
    before, trips = calls.counts["pread"], calls.lock_trips
    assert not engines[1].lease(1, 10.0)
    # One read for each visit, and nothing between them.
    assert calls.counts["pread"] - before <= 2 * (calls.lock_trips - trips)
    engines[0].ack([lease])
    for engine in engines:
        engine.close()
    queue.close()


def torn(content: bytes) -> bytes:
    return content[:70] + b"\0" * 30 + content[100:]


def test_a_glimpse_believes_the_newer_copy_that_can_be_read() -> None:
    copies = []
    for sequence, put in ((7, 5), (8, 9)):
        head = Head()
        head.sequence, head.put, head.minions, head.stops = sequence, put, 3, sequence
        content = encode_copy(head, with_redo=True)
        assert content is not None
        copies.append(content.ljust(layout.COPY_BYTES, b"\0"))
    old, new = copies
    for both in (old + new, new + old):
        seen = glimpse(both)
        assert seen is not None
        assert (seen.sequence, seen.waiting, seen.stops, seen.idle) == (8, 9, 8, 3)
        assert not seen.drained
    for both in (old + torn(new), torn(new) + old, old, old + b"noise"):
        seen = glimpse(both)
        assert seen is not None and seen.sequence == 7
    for nothing in (b"", b"\0" * layout.SLOTS_AT, torn(old) + torn(new)):
        assert glimpse(nothing) is None
    assert glimpse(old.replace(b"head 1 ", b"head 2 ")) is None


def test_the_largest_state_fits_into_a_glimpse() -> None:
    from minionize.engines.file.room import DELAYS_S

    head = Head()
    large = 10**11
    for name in ("put", "cursor", "hint", "segments", "settled", "purged", "homes", "size"):
        setattr(head, name, large)
    head.back = {delay: [10**7, 10**5, 10**7, 10**10, 10**7] for delay in DELAYS_S}
    content = encode_copy(head, with_redo=True)
    assert content is not None and len(content) <= layout.GLIMPSE_BYTES
    assert glimpse(content) is not None

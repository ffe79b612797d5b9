"""A file queue whose lock others take in turns for longer than anybody's patience: it is busy, and
no minion ends for that. Where it stands still as long, it is lost."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minionize.assembly import joining
from minionize.contracts.engine import Engine, EngineOptions
from minionize.engines.file import open_queue
from minionize.engines.file.calls import Calls
from minionize.engines.file.locking import LockTaken
from minionize.engines.file.minion import FileEngine
from minionize.engines.file.people import FileQueue
from minionize.engines.file.room import Room
from minionize.errors import EngineUnavailable
from minionize.settings import Settings
from minionize.testing.backend import ManualClock
from minionize.worker.decisions import Settlement
from minionize.worker.link import Link
from minionize.worker.signals import Stopping

LEASE_S = 40.0
RECONNECT_S = 20.0
CROWD_S = 90.0
"""Longer than a visit's patience, a person's, a lease and RECONNECT_S."""

names = itertools.count()


class Crowd(Calls):
    """The calls of one that stands before the lock with others: until `until` it is refused, and
    each second one of the others had the lock and wrote."""

    def __init__(self, clock: ManualClock, folder: Path) -> None:
        super().__init__(clock)
        self._other = open_queue(str(folder), options("other", clock))
        self._next = 0.0
        self.until = 0.0
        self.lives = True
        self.turns = 0

    def comes(self, seconds: float = CROWD_S, *, lives: bool = True) -> None:
        """They stand there from now on. Not `lives`: the first of them stands still."""
        self.until, self.lives = self.monotonic() + seconds, lives

    def lock(self, fd: int) -> bool:
        if self.monotonic() >= self.until or not is_head(fd):
            return super().lock(fd)
        if self.lives and self.monotonic() >= self._next:
            self._next = self.monotonic() + 1.0
            self.turns += 1
            self._other.steer(paused=False)
        return False


def is_head(fd: int) -> bool:
    return Path(f"/proc/self/fd/{fd}").resolve().name == "head"


def options(name: str, clock: ManualClock) -> EngineOptions:
    return EngineOptions(minion_id=name, lease_s=LEASE_S, clock=clock)


class Bench:
    """A queue of 20 params, a minion on it, and the crowd before that minion."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock()
        self.queue = open_queue(str(folder), options("filler", self.clock))
        self.queue.put(range(20))
        self.crowd = Crowd(self.clock, folder)
        self.said: list[str] = []

    def minion(self) -> FileEngine:
        return FileEngine(self.room())

    def room(self) -> Room:
        return Room(str(self.folder), options(f"late{next(names)}", self.clock), self.crowd)

    def link(self, engine: FileEngine) -> Link:
        return Link(
            engine, self.clock, lease_s=LEASE_S, reconnect_s=RECONNECT_S, say=self.said.append
        )


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    yield Bench(tmp_path / "queue")


def test_a_busy_queue_is_waited_for_and_its_leases_are_kept(bench: Bench) -> None:
    engine = bench.minion()
    link = bench.link(engine)
    (lease,) = link.lease(1, 0)
    bench.crowd.comes()
    while bench.clock.monotonic() < bench.crowd.until:
        assert link.extend() == []
        assert not link.expired(bench.clock.monotonic())
        assert link.stats() is None or bench.clock.monotonic() >= bench.crowd.until
        assert link.lease(1, 0) == () or bench.clock.monotonic() >= bench.crowd.until
        bench.clock.advance(0.1)
    assert bench.crowd.turns > CROWD_S / 2
    assert link.extend() == []
    assert not link.down
    # Half a minute passes in silence; then it says so, once.
    first, second = bench.said
    assert first.endswith("; waiting on")
    assert "reached again" in second
    link.settled(lease, Settlement("ack"), bench.clock.monotonic())
    assert link.flush()
    engine.close()
    assert bench.queue.stats().done == 1


def test_a_short_wait_before_a_busy_queue_is_not_worth_a_word(bench: Bench) -> None:
    engine = bench.minion()
    link = bench.link(engine)
    bench.crowd.comes(15.0)
    while bench.clock.monotonic() < bench.crowd.until:
        assert link.stats() is None or bench.clock.monotonic() >= bench.crowd.until
        assert link.busy or not link.down
        bench.clock.advance(0.2)
    assert link.stats() is not None
    assert bench.said == []
    engine.close()


def test_one_that_leaves_is_let_out_of_a_crowd(bench: Bench) -> None:
    engine = bench.minion()
    assert len(engine.lease(3, 0)) == 3
    bench.crowd.comes()
    engine.close()
    assert bench.clock.monotonic() >= bench.crowd.until
    stats = bench.queue.stats()
    assert (stats.waiting, stats.running, stats.minions) == (20, 0, 0)


def test_one_that_leaves_a_queue_that_stands_still_does_not_wait_for_ever(bench: Bench) -> None:
    engine = bench.minion()
    assert len(engine.lease(3, 0)) == 3
    bench.crowd.comes(1e9, lives=False)
    begin = bench.clock.monotonic()
    with pytest.raises(LockTaken, match="look for a stopped") as caught:
        engine.close()
    assert not caught.value.busy
    assert bench.clock.monotonic() - begin < LEASE_S


def test_patience_is_for_a_queue_that_stands_still(bench: Bench) -> None:
    engine = bench.minion()
    link = bench.link(engine)
    bench.crowd.comes(1e9)
    begin = bench.clock.monotonic()
    while bench.clock.monotonic() < begin + CROWD_S:
        assert link.stats() is None
        bench.clock.advance(0.1)
    bench.crowd.lives = False
    begin = bench.clock.monotonic()
    with pytest.raises(EngineUnavailable, match=r"tried for .*see --reconnect"):
        while bench.clock.monotonic() < begin + CROWD_S:
            assert link.stats() is None
            bench.clock.advance(0.1)
    assert bench.clock.monotonic() - begin >= RECONNECT_S
    bench.crowd.until = 0.0
    engine.close()


def test_a_person_waits_on_while_others_get_through(bench: Bench) -> None:
    looks = FileQueue(bench.room())
    looks.stats()
    bench.crowd.comes()
    assert looks.stats().waiting == 20
    assert bench.clock.monotonic() >= bench.crowd.until
    bench.crowd.comes(1e9, lives=False)
    with pytest.raises(LockTaken, match="look for a stopped"):
        looks.stats()


def test_who_joins_a_busy_queue_learns_that_it_lives(bench: Bench) -> None:
    bench.crowd.comes(12.0)
    for _ in range(2):
        with pytest.raises(LockTaken) as caught:
            bench.minion()
        assert caught.value.busy
    engine = bench.minion()
    engine.close()


@pytest.mark.parametrize(("seconds", "lines"), [(12.0, 0), (60.0, 1)])
def test_a_minion_joins_a_busy_queue_after_its_patience(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, seconds: float, lines: int
) -> None:
    bench.crowd.comes(seconds)
    tries: list[Any] = []
    said: list[str] = []

    def opened(url: str, given: EngineOptions) -> Engine:
        tries.append(url)
        return bench.minion()

    monkeypatch.setattr(joining, "open_engine", opened)
    engine = joining.join_queue(
        Settings(queue="file:q", reconnect_s=1.0),
        EngineOptions(minion_id="joins"),
        clock=bench.clock,
        stopping=Stopping(),
        lines=said.append,
    )
    assert engine is not None
    engine.close()
    assert len(tries) > 2
    assert len(said) == lines
    assert all(line.endswith("; waiting on") for line in said)

"""What a minion of a file queue does when its file system takes things away: descriptors that are
broken after a cut, a lock that somebody keeps, a lock on the beat that the server forgot."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from minionize.contracts.engine import EngineOptions
from minionize.engines.file import open_queue
from minionize.engines.file.calls import Calls
from minionize.engines.file.minion import FileEngine
from minionize.engines.file.room import Room
from minionize.errors import EngineUnavailable
from minionize.testing.backend import ManualClock
from minionize.values import Lease
from minionize.worker.link import Link

T = TypeVar("T")
LEASE_S = 40.0


class Cut(Calls):
    """What was open when `cut` was called is broken for good, as on GlusterFS and NFS."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.opened: set[int] = set()
        self.broken: set[int] = set()

    def cut(self) -> None:
        self.broken |= self.opened

    def _call(self, name: str, act: Callable[..., T], *given: Any) -> T:
        if given and type(given[0]) is int and given[0] in self.broken:
            if name == "close":
                self.broken.discard(given[0])
                self.opened.discard(given[0])
                super()._call(name, act, *given)
            raise OSError(errno.EBADFD, os.strerror(errno.EBADFD))
        found = super()._call(name, act, *given)
        if name.startswith("open") and isinstance(found, int):
            self.opened.add(found)
        elif name == "close":
            self.opened.discard(given[0])
        return found


class Full(Calls):
    """There is no room for a new file any more."""

    full = False

    def _call(self, name: str, act: Callable[..., T], *given: Any) -> T:
        if self.full and name == "open_new":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super()._call(name, act, *given)


class Bench:
    """One queue of 20 params, seen by members of this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self.clock = ManualClock()
        self.engines: list[FileEngine] = []
        self.queue_more(range(20))

    def queue_more(self, params: Iterable[int]) -> None:
        queue = open_queue(self.folder, self.options("filler"))
        queue.put(params)
        queue.close()

    def options(self, name: str, pid: int = 0) -> EngineOptions:
        return EngineOptions(minion_id=name, lease_s=LEASE_S, clock=self.clock, pid=pid)

    def minion(self, name: str, pid: int = 0, calls: Calls | None = None) -> FileEngine:
        engine = FileEngine(Room(self.folder, self.options(name, pid), calls))
        self.engines.append(engine)
        return engine

    def taken(self, engine: FileEngine, count: int) -> list[Lease]:
        """All that `engine` gets of `count` within a few seconds."""
        found: list[Lease] = []
        for _ in range(8):
            found += engine.lease(count - len(found), 0.0)
            self.clock.advance(0.5)
        return found


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "queue")
    yield bench
    for engine in bench.engines:
        engine.close()


@pytest.fixture
def ended() -> int:
    """The number of a process that is no more."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_broken_descriptors_are_opened_anew(bench: Bench) -> None:
    calls = Cut(bench.clock)
    engine = bench.minion("cut", calls=calls)
    held = list(engine.lease(3, 0))
    engine.started(held)
    calls.cut()
    failed = []

    def again(act: Callable[[], T]) -> T:
        while True:
            try:
                return act()
            except EngineUnavailable as error:
                failed.append(error)
                assert len(failed) < 6, "it never comes back"

    assert not again(lambda: engine.extend(held))
    assert failed, "nothing was broken"
    engine.started(held)
    engine.ack(held)
    engine.ack(again(lambda: bench.taken(engine, 17)))
    stats = engine.stats()
    assert (stats.done, stats.minions) == (20, 1)


def test_while_somebody_keeps_the_lock_a_beat_in_time_renews(bench: Bench) -> None:
    engine = bench.minion("waits")
    held = list(engine.lease(3, 0))
    calls = Calls()
    keeper = calls.open(f"{bench.folder}/head", write=True)
    assert calls.lock(keeper)
    for _ in range(6):
        bench.clock.advance(LEASE_S / 3)
        with pytest.raises(EngineUnavailable, match="somebody has held it") as caught:
            engine.extend(held)
        assert caught.value.renewed
    bench.clock.advance(1.5 * LEASE_S)
    for _ in range(2):
        # Somebody may have taken it over meanwhile, and nobody can look.
        with pytest.raises(EngineUnavailable) as caught:
            engine.extend(held)
        assert not caught.value.renewed
        bench.clock.advance(1.0)
    calls.close(keeper)
    assert not engine.extend(held)


def test_no_beat_of_a_minion_that_was_taken_over_renews(bench: Bench) -> None:
    late = bench.minion("late")
    held = list(late.lease(3, 0))
    other = bench.minion("other")
    for _ in range(12):
        bench.clock.advance(LEASE_S / 8)
        other.extend([])
    calls = Calls()
    keeper = calls.open(f"{bench.folder}/head", write=True)
    assert calls.lock(keeper)
    with pytest.raises(EngineUnavailable) as caught:
        late.extend(held)
    assert not caught.value.renewed
    calls.close(keeper)
    assert set(late.extend(held)) == set(held)


def test_a_lock_that_the_server_forgot_is_no_death(bench: Bench) -> None:
    """After a short cut, or a restart of the server, no lock on a beat is left."""
    living = bench.minion("living", pid=os.getpid())
    held = list(living.lease(20, 0))
    living.room.calls.unlock(living._member._beat)
    other = bench.minion("other", pid=os.getpid())
    assert bench.taken(other, 20) == []
    assert not living.extend(held)
    bench.clock.advance(2 * LEASE_S)
    assert not living.extend(held)
    assert bench.taken(other, 20) == []


def test_without_process_and_lock_it_is_dead_at_once(bench: Bench, ended: int) -> None:
    gone = bench.minion("gone", pid=ended)
    assert len(gone.lease(20, 0)) == 20
    gone._member.close_in_child()
    heir = bench.minion("heir", pid=os.getpid())
    assert len(bench.taken(heir, 20)) == 20


def test_what_a_dead_one_held_and_that_has_no_room_keeps_only_idle_ones_waiting(
    bench: Bench, ended: int
) -> None:
    gone = bench.minion("gone", pid=ended)
    assert len(gone.lease(5, 0)) == 5
    gone._member.close_in_child()
    calls = Full(bench.clock)
    heir = bench.minion("heir", pid=os.getpid(), calls=calls)
    calls.full = True
    held = heir.lease(15, 0)
    for _ in range(6):
        bench.clock.advance(LEASE_S / 8)
        assert not heir.extend(held)
    heir.ack(held)
    for _ in range(6):
        # Each time, or it would be taken for well in between.
        with pytest.raises(EngineUnavailable, match="the disk is full"):
            heir.lease(5, 0)
        assert not heir.extend([]), "or it would not be asked for what is there"
        bench.clock.advance(0.1)
    calls.full = False
    assert len(bench.taken(heir, 5)) == 5


class Elsewhere(Calls):
    """Those of another host, where the beats of this one can't be read for a while."""

    blind = False

    def kernel(self) -> str:
        return "another"

    def _call(self, name: str, act: Callable[..., T], *given: Any) -> T:
        if self.blind and name == "open" and str(given[0]).endswith("/beat"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super()._call(name, act, *given)


def test_trouble_with_one_of_another_host_is_told_as_long_as_it_lasts(bench: Bench) -> None:
    assert len(bench.minion("gone").lease(20, 0)) == 20
    calls = Elsewhere(bench.clock)
    heir = bench.minion("heir", calls=calls)
    assert not heir.lease(1, 0)
    bench.clock.advance(LEASE_S / 2)
    assert not heir.extend([])
    calls.blind = True
    bench.clock.advance(LEASE_S / 2)
    for _ in range(6):
        with pytest.raises(EngineUnavailable, match="cannot read"):
            heir.lease(1, 0)
        assert not heir.extend([])
        bench.clock.advance(1.3)
    bench.queue_more([20])
    assert len(heir.lease(1, 0)) == 1, "what is there is taken"
    calls.blind = False
    for _ in range(9):
        bench.clock.advance(LEASE_S / 4)
        heir.extend([])
    assert len(bench.taken(heir, 20)) == 20


def test_a_zombie_does_not_run() -> None:
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not Calls().is_running(process.pid)
    process.wait()
    assert Calls().is_running(os.getpid())


def test_what_runs_goes_on_while_somebody_keeps_the_lock(bench: Bench) -> None:
    said: list[str] = []
    engine = bench.minion("waits")
    link = Link(engine, bench.clock, lease_s=LEASE_S, reconnect_s=10_000, say=said.append)
    (lease,) = link.lease(1, 0)
    calls = Calls()
    keeper = calls.open(f"{bench.folder}/head", write=True)
    assert calls.lock(keeper)
    for _ in range(60):
        bench.clock.advance(LEASE_S / 8)
        assert link.extend() == []
        assert link.retry_at - bench.clock.monotonic() <= LEASE_S / 4
        assert link.started([lease]) or link.down
        assert not link.expired(bench.clock.monotonic())
    assert len(said) == 1
    assert "somebody has held it" in said[0]
    calls.close(keeper)
    bench.clock.advance(LEASE_S / 4)
    assert link.extend() == []
    assert "reached again" in said[1]

"""A process that stops before, after and in the middle of each system call of the file engine,
in turn; then others go on. Every param must be exactly where the contract allows."""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from minionize.contracts.engine import EngineOptions
from minionize.engines.file.calls import Calls
from minionize.engines.file.minion import FileEngine
from minionize.engines.file.people import FileQueue
from minionize.engines.file.room import Room
from minionize.errors import EngineUnavailable
from minionize.testing.backend import ManualClock
from minionize.values import Failure, Lease, State

T = TypeVar("T")

BEFORE, AFTER, TORN = "before", "after", "torn"
WRITES = {"pwrite", "append"}
SYNCS = {"fdatasync", "fsync_folder", "mkdir", "link"}
OPENS = {"open", "open_new", "open_append"}


class Crashed(BaseException):
    """The process is gone."""


def _nothing(fd: int) -> Any:
    """Instead of a sync."""


class CrashingCalls(Calls):
    """Stops at one call, and does nothing from then on, as a dead process does."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.armed = False
        self.made: list[str] = []
        self.at = -1
        self.how = BEFORE
        self.fails_at = -1
        self.failure = 0
        """An errno: that call fails, and the process goes on."""
        self.crashed = False
        self.fds: set[int] = set()

    def _call(self, name: str, act: Callable[..., T], *given: Any) -> T:
        if self.crashed:
            raise Crashed
        if self.armed:
            self.made.append(name)
            if len(self.made) == self.at:
                self.crashed = True
                if self.how == TORN and name in WRITES:
                    fd, content, *rest = given
                    act(fd, content[: len(content) // 2], *rest)
                if self.how == AFTER:
                    self._act(name, act, given)
                raise Crashed
            if self.failure and len(self.made) == self.fails_at:
                if self.how == AFTER:
                    found = self._act(name, act, given)
                    if name in OPENS:
                        self._act("close", os.close, (found,))
                raise OSError(self.failure, os.strerror(self.failure))
        return self._act(name, act, given)

    def _act(self, name: str, act: Callable[..., T], given: tuple[Any, ...]) -> T:
        if name in ("fdatasync", "fsync_folder"):
            act = _nothing  # a process that stops loses nothing that the kernel has
        found = super()._call(name, act, *given)
        if name in OPENS:
            assert isinstance(found, int)
            self.fds.add(found)
        elif name == "close":
            self.fds.discard(given[0])
        return found

    def bury(self) -> None:
        """The kernel closes what the process had open."""
        self.crashed = True
        for fd in self.fds:
            os.close(fd)
        self.fds.clear()


@dataclass
class Stage:
    """A queue, the process that will crash, and those that come after it."""

    path: Path
    clock: ManualClock = field(default_factory=ManualClock)
    everybody: list[CrashingCalls] = field(default_factory=list)

    def room(self) -> tuple[Room, CrashingCalls]:
        calls = CrashingCalls(self.clock)
        self.everybody.append(calls)
        name = f"m{len(self.everybody)}"
        options = EngineOptions(minion_id=name, host="here", pid=1, clock=self.clock)
        return Room(str(self.path), options, calls), calls

    def minion(self) -> tuple[FileEngine, CrashingCalls]:
        room, calls = self.room()
        return FileEngine(room), calls

    def queue(self) -> tuple[FileQueue, CrashingCalls]:
        room, calls = self.room()
        return FileQueue(room), calls

    def close(self) -> None:
        for calls in self.everybody:
            calls.bury()


@dataclass
class Rest:
    """What is allowed afterwards, by param (the params are 1, 2, … as their ids)."""

    put: tuple[int, ...] = (6,)
    """How many params there may be."""
    done: set[int] = field(default_factory=set)
    """Never again."""
    maybe_done: set[int] = field(default_factory=set)
    """Once more or never again."""
    maybe_dead: set[int] = field(default_factory=set)
    dead: set[int] = field(default_factory=set)
    maybe_purged: set[int] = field(default_factory=set)
    maybe_forgotten: set[int] = field(default_factory=set)
    """Done, and what they were may be gone."""
    charged: set[int] = field(default_factory=set)
    """A crash may stand against them."""
    attempts: set[int] = field(default_factory=set)
    """A failed attempt may stand against them."""


Act = Callable[[], None]
Scenario = Callable[[Stage], tuple[CrashingCalls, Act, Rest]]


def leased(stage: Stage, count: int = 6) -> tuple[FileEngine, CrashingCalls, list[Lease]]:
    queue, _ = stage.queue()
    queue.put(range(1, 7))
    queue.close()
    engine, calls = stage.minion()
    return engine, calls, list(engine.lease(count, 0))


def put_first(stage: Stage) -> tuple[CrashingCalls, Act, Rest]:
    queue, calls = stage.queue()
    return calls, lambda: _void(queue.put(range(1, 7))), Rest(put=(0, 6))


def put_more(stage: Stage) -> tuple[CrashingCalls, Act, Rest]:
    queue, _ = stage.queue()
    queue.put(range(1, 4))
    more, calls = stage.queue()
    return calls, lambda: _void(more.put(range(4, 7))), Rest(put=(3, 6))


def join(stage: Stage) -> tuple[CrashingCalls, Act, Rest]:
    queue, _ = stage.queue()
    queue.put(range(1, 7))
    room, calls = stage.room()
    return calls, lambda: _void(FileEngine(room)), Rest()


def lease(stage: Stage) -> tuple[CrashingCalls, Act, Rest]:
    engine, calls, some = leased(stage, 2)
    engine.ack(some)

    def act() -> None:
        engine.lease(3, 0)

    return calls, act, Rest(maybe_done={1, 2})


def lease_returned(stage: Stage) -> tuple[CrashingCalls, Act, Rest]:
    engine, calls, some = leased(stage)
    engine.nack(some[1:5:2])

    def act() -> None:
        engine.lease(3, 0)

    return calls, act, Rest(attempts={2, 4})


def ack(stage: Stage) -> tuple[CrashingCalls, Act, Rest]:
    engine, calls, some = leased(stage)

    def act() -> None:
        engine.ack(some[1:4])
        engine.stats()

    return calls, act, Rest(maybe_done={2, 3, 4})


def ack_marked(stage: Stage) -> tuple[CrashingCalls, Act, Rest]:
    engine, calls, some = leased(stage)
    engine.started(some[:2])
    return calls, lambda: engine.ack(some[:2]), Rest(maybe_done={1, 2}, charged={1, 2})


def nack(stage: Stage) -> tuple[CrashingCalls, Act, Rest]:
    engine, calls, some = leased(stage)
    engine.ack(some[:1])
    rest = Rest(maybe_done={1}, attempts={2, 4, 6})
    return calls, lambda: engine.nack(some[1::2], delay_s=1.0), rest


def bury(stage: Stage) -> tuple[CrashingCalls, Act, Rest]:
    engine, calls, some = leased(stage)
    rest = Rest(maybe_dead={3, 4})
    return calls, lambda: engine.bury(some[2:4], Failure("exit 3", "tail")), rest


def moved(stage: Stage) -> tuple[CrashingCalls, Act, Rest]:
    engine, calls, some = leased(stage)
    engine.ack(some[:1])
    rest = Rest(maybe_done={1}, maybe_purged={2, 3, 5})
    return calls, lambda: engine.moved([*some[1:3], some[4]]), rest


def extend(stage: Stage) -> tuple[CrashingCalls, Act, Rest]:
    engine, calls, some = leased(stage)
    engine.ack(some[:2])
    return calls, lambda: _void(engine.extend(some[2:])), Rest(maybe_done={1, 2})


def started(stage: Stage) -> tuple[CrashingCalls, Act, Rest]:
    engine, calls, some = leased(stage)
    return calls, lambda: engine.started(some[:2]), Rest(charged={1, 2})


def take_over(stage: Stage) -> tuple[CrashingCalls, Act, Rest]:
    victim, gone, some = leased(stage, 4)
    victim.started(some[:2])
    victim.ack(some[1:2])
    gone.bury()
    heir, calls = stage.minion()

    def act() -> None:
        stage.clock.advance(2.0)
        heir.extend([])
        heir.lease(6, 0)

    return calls, act, Rest(done={2}, charged={1})


def take_over_of_a_sleeper(stage: Stage) -> tuple[CrashingCalls, Act, Rest]:
    _, _, _ = leased(stage, 4)
    heir, calls = stage.minion()

    def act() -> None:
        for _ in range(6):
            stage.clock.advance(15.01)
            heir.extend([])
        heir.lease(6, 0)

    return calls, act, Rest()


def close(stage: Stage) -> tuple[CrashingCalls, Act, Rest]:
    engine, calls, some = leased(stage, 5)
    engine.nack(some[4:])
    engine.ack(some[:2])
    return calls, engine.close, Rest(maybe_done={1, 2}, attempts={5})


def requeue(stage: Stage) -> tuple[CrashingCalls, Act, Rest]:
    engine, _, some = leased(stage)
    engine.bury(some[:3], Failure("exit 3"))
    engine.close()
    queue, calls = stage.queue()
    rest = Rest(maybe_dead={1, 2}, dead={3})
    return calls, lambda: _void(queue.requeue(["1", "2"])), rest


def requeue_done(stage: Stage) -> tuple[CrashingCalls, Act, Rest]:
    engine, _, some = leased(stage)
    engine.ack(some[:3])
    engine.close()
    queue, calls = stage.queue()
    rest = Rest(maybe_done={1, 2, 3})
    return calls, lambda: _void(queue.requeue(None, State.DONE)), rest


def purge(stage: Stage) -> tuple[CrashingCalls, Act, Rest]:
    engine, _, some = leased(stage, 4)
    engine.nack(some[:1])
    engine.bury(some[1:2], Failure("exit 3"))
    engine.ack(some[2:])
    engine.close()
    queue, calls = stage.queue()
    rest = Rest(done={3, 4}, maybe_purged={1, 2, 5, 6}, maybe_dead={2}, attempts={1})
    return calls, lambda: _void(queue.purge()), rest


def forget_done(stage: Stage) -> tuple[CrashingCalls, Act, Rest]:
    queue, _ = stage.queue()
    for first in (1, 3, 5):
        queue.put([first, first + 1])
    engine, _ = stage.minion()
    some = engine.lease(5, 0)
    engine.bury(some[1:2], Failure("exit 3"))
    engine.nack(some[2:3])
    engine.ack([some[0], *some[3:]])
    engine.close()
    other, calls = stage.queue()
    rest = Rest(done={1, 4, 5}, dead={2}, maybe_forgotten={1, 3, 4}, attempts={3})
    return calls, lambda: _void(other.forget_done(6, 1e18)), rest


def _void(_: object) -> None:
    """A scenario's act returns nothing."""


SCENARIOS: list[Scenario] = [
    put_first,
    put_more,
    join,
    lease,
    lease_returned,
    ack,
    ack_marked,
    nack,
    bury,
    moved,
    extend,
    started,
    take_over,
    take_over_of_a_sleeper,
    close,
    requeue,
    requeue_done,
    purge,
    forget_done,
]


@contextmanager
def staged(path: Path) -> Iterator[Stage]:
    stage = Stage(path)
    try:
        yield stage
    finally:
        stage.close()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_every_param_is_where_it_may_be(scenario: Scenario, tmp_path: Path) -> None:
    with staged(tmp_path / "whole") as stage:
        calls, act, rest = scenario(stage)
        calls.armed = True
        act()
        names = calls.made
        calls.bury()
        finish(stage, rest, "without a crash")
    assert len(names) >= 2
    for at, name in enumerate(names, 1):
        for how in (BEFORE, AFTER, TORN) if name in WRITES else (BEFORE, AFTER):
            with staged(tmp_path / f"{how}-{at}") as stage:
                calls, act, rest = scenario(stage)
                calls.armed, calls.at, calls.how = True, at, how
                try:
                    act()
                except Crashed:
                    pass
                else:
                    differs = "\n".join(difflib.unified_diff(names, calls.made, lineterm=""))
                    pytest.fail(f"it made other calls than before:\n{differs}")
                calls.bury()
                finish(stage, rest, f"stopped {how} call {at} of {names}")


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
@pytest.mark.parametrize("failure", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
def test_a_call_that_fails_is_survived(scenario: Scenario, failure: int, tmp_path: Path) -> None:
    """Its outcome may be unknown: it happened (`after`) or did not."""
    with staged(tmp_path / "whole") as stage:
        calls, act, _ = scenario(stage)
        calls.armed = True
        act()
        names = calls.made
    for at, name in enumerate(names, 1):
        if name == "access" or (failure == errno.ENOSPC and name not in WRITES | OPENS | SYNCS):
            continue  # it never fails so
        # Whatever close says, the descriptor is gone.
        for how in (AFTER,) if name == "close" else (BEFORE, AFTER):
            with staged(tmp_path / f"{how}-{at}") as stage:
                calls, act, rest = scenario(stage)
                calls.armed, calls.fails_at, calls.how, calls.failure = True, at, how, failure
                what = f"call {at} of {names} failed {how}"
                try:
                    act()
                except EngineUnavailable:
                    try:
                        act()  # a second try, as the worker makes it
                    except (AssertionError, KeyError) as error:
                        raise AssertionError(what) from error
                calls.bury()
                finish(stage, replace(rest, put=(max(rest.put),)), what)


def finish(stage: Stage, rest: Rest, what: str) -> None:
    """Others go on until all is done, and find exactly what is allowed."""
    queue, _ = stage.queue()
    if 0 in rest.put and not (stage.path / "head").exists():
        assert queue.put(range(1, 7)) == 6  # nothing is in the way of a second try
    engine, _ = stage.minion()
    seen: dict[int, Lease] = {}
    for _ in range(200):
        leases = engine.lease(6, 0)
        for one in leases:
            assert int(one.id) not in seen, f"{what}: {one} came twice"
            assert one.text == one.id, what
            seen[int(one.id)] = one
        engine.ack(leases)
        stats = engine.stats()
        assert (stats.waiting or 0) >= 0, what
        if stats.drained:
            break
        stage.clock.advance(15.01)
        engine.extend([])
    else:
        raise AssertionError(f"{what}: never drained: {engine.stats()}")
    for _ in range(5):
        stage.clock.advance(15.01)
        engine.extend([])
    assert stats.put in rest.put, f"{what}: {stats}"
    assert stats.put is not None
    total = (stats.done or 0) + (stats.dead or 0) + (stats.purged or 0)
    assert total == stats.put, f"{what}: {stats}"
    assert (stats.running, stats.waiting, stats.delayed, stats.feeders) == (0, 0, 0, 0), what
    everything = set(range(1, stats.put + 1))
    dead = {int(entry.id) for entry in queue.scan(State.DEAD)}
    assert rest.dead <= dead <= rest.dead | rest.maybe_dead, f"{what}: {dead}"
    done = {int(entry.id) for entry in queue.scan(State.DONE)}
    assert done == everything - dead - (everything - done), what
    below = queue.forgotten_below()
    forgotten = {number for number in everything - done - dead if number < below}
    assert forgotten <= rest.maybe_forgotten, f"{what}: {forgotten} are forgotten"
    assert queue.forget_done(1, 0.0) == 0
    with queue.room.head as head:
        kept = head.kept_segment
    files = [int(path.stem) for path in (stage.path / "params").glob("*.jsonl")]
    assert not [number for number in files if number < kept], f"{what}: {files} from {kept}"
    purged = everything - done - dead - forgotten
    assert purged <= rest.maybe_purged, f"{what}: {purged} are gone"
    assert not set(seen) & rest.done, what
    assert not forgotten & (rest.maybe_dead | dead), what
    missing = everything - set(seen) - rest.done - rest.maybe_done - dead - purged
    assert not missing, f"{what}: {missing} never came again"
    for number, one in seen.items():
        assert one.crashes == 0 or number in rest.charged, f"{what}: {one} is innocent"
        assert one.attempt == 1 or number in rest.attempts, f"{what}: {one}"
    assert [path.name for path in (stage.path / "minions").iterdir()] == [
        f"{engine.room.options.minion_id}.{engine._member.generation}"
    ], what
    assert not list(stage.path.rglob("draft.*")), what

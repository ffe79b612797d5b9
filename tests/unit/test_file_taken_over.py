"""Minions of a queue in a folder that are taken for dead, and who sees that when."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from minionize.contracts.engine import EngineOptions
from minionize.engines.file import open_engine, open_queue
from minionize.engines.file.locking import LockTaken
from minionize.engines.file.minion import FileEngine
from minionize.errors import EngineUnavailable
from minionize.testing.backend import ManualClock
from minionize.values import Lease

LEASE_S = 60.0


class Bench:
    """A queue of some params, on a clock that only the test moves."""

    def __init__(self, folder: Path, params: int) -> None:
        self.folder = str(folder)
        self.clock = ManualClock()
        self.opened: list[FileEngine] = []
        queue = open_queue(self.folder, self.options("filler"))
        queue.put(range(params))
        queue.close()

    def options(self, name: str) -> EngineOptions:
        # A number that no process has: whether one is alive is told by its lock alone.
        return EngineOptions(minion_id=name, clock=self.clock, lease_s=LEASE_S, pid=2**30)

    def minion(self, name: str) -> FileEngine:
        self.opened.append(open_engine(self.folder, self.options(name)))
        return self.opened[-1]

    def elsewhere(self, name: str) -> FileEngine:
        """A minion of another host."""
        engine = self.minion(name)
        engine._member.forget()
        engine._member.boot = "00000001"
        with engine.room.head as head:
            engine._holding.join(head)
        return engine

    def die(self, engine: FileEngine) -> None:
        self.opened.remove(engine)
        engine._member.close_in_child()

    def let_pass(self, seconds: float, *alive: FileEngine) -> list[Lease]:
        """Time passes, in which these are well; what each of them gets meanwhile."""
        got: list[Lease] = []
        for _ in range(int(seconds / (LEASE_S / 8))):
            self.clock.advance(LEASE_S / 8)
            for engine in alive:
                engine.extend([])
                got += engine.lease(9, 0.0)
        return got


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "queue", 3)
    yield bench
    for engine in bench.opened:
        engine.close()


def test_what_one_that_came_back_leased_comes_back_when_it_stands_still_again(
    bench: Bench,
) -> None:
    """It stood still for so long that it was taken for dead, and the first that it does after
    that is to lease."""
    slow, other = bench.minion("slow"), bench.minion("other")
    (first,) = slow.lease(1, 0.0)
    (again, *rest) = bench.let_pass(2 * LEASE_S, other)
    other.ack([again, *rest])
    queue = open_queue(bench.folder, bench.options("filler"))
    queue.put(["more"])
    (more,) = slow.lease(1, 0.3)
    assert more.param == "more"
    assert slow.extend([first]) == [first], "it belongs to another"
    assert other.stats().running == 1
    assert {each.id: each.running for each in queue.minions()} == {"slow": 1, "other": 0}
    back = bench.let_pass(3 * LEASE_S, other)
    assert [(lease.param, lease.suspect) for lease in back] == [("more", True)]
    queue.close()


def test_one_whose_slot_went_to_another_life_of_its_id_takes_a_new_one(bench: Bench) -> None:
    slow, other = bench.minion("slow"), bench.minion("other")
    (first,) = slow.lease(1, 0.0)
    other.ack(bench.let_pass(2 * LEASE_S, other))
    again = bench.minion("slow")
    assert again._member.index == slow._member.index
    assert slow.extend([first]) == [first]
    assert again._member.index != slow._member.index
    assert other.stats().minions == 3


def test_one_that_came_back_and_leases_is_told_of_pause_and_stop(bench: Bench) -> None:
    slow, other = bench.minion("slow"), bench.minion("other")
    bench.let_pass(2 * LEASE_S, other)
    queue = open_queue(bench.folder, bench.options("filler"))
    queue.steer(paused=True, stop=True)
    queue.put(["more"])
    assert not slow.lease(1, 0.3)
    assert (slow.orders().paused, slow.orders().stops) == (True, 1)
    queue.close()


@pytest.mark.parametrize("doomed", [1, 3])
def test_one_who_finds_the_lock_taken_waits_for_it_once_however_many_are_dead(
    bench: Bench, doomed: int
) -> None:
    """Their params come back when it is free."""
    held: list[Lease] = []
    for number in range(doomed):
        minion = bench.minion(f"doomed{number}")
        held += minion.lease(1, 0.0)
        bench.die(minion)
    heir, other = bench.minion("heir"), bench.minion("other")
    with heir.room.head as head:
        planned = heir._sweeper.plan(head)
    begin = bench.clock.monotonic()
    with other.room.head, pytest.raises(LockTaken):
        heir._sweeper.go(planned)
    patience_s = heir.room.head.patience_s
    assert patience_s <= bench.clock.monotonic() - begin < 1.9 * patience_s
    back: list[Lease] = []
    for _ in range(8):
        bench.clock.advance(1.0)
        back += heir.lease(9, 0.0)
    assert {lease.id for lease in held} <= {lease.id for lease in back}


def test_what_is_not_marked_is_acked_without_a_visit(bench: Bench) -> None:
    minion = bench.minion("one")
    marked, other, kept = minion.lease(3, 0.0)
    minion.started([marked])
    trips = minion.room.calls.lock_trips
    minion.ack([other])
    assert minion.room.calls.lock_trips == trips
    minion.ack([marked])
    assert minion.room.calls.lock_trips == trips + 1
    assert minion.extend([kept]) == []
    assert not any(held.marked for held in minion._holding.held.values())


def test_a_journal_that_could_not_be_written_is_opened_anew(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A descriptor whose file is lost, as on a network file system, never works again."""
    minion = bench.minion("one")
    first, second, third = minion.lease(3, 0.0)
    minion.started([first])
    used = minion._member._journal

    def fails(fd: int) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    with monkeypatch.context() as patch:
        patch.setattr(minion.room.calls, "sync", fails)
        with pytest.raises(EngineUnavailable, match="/journal"):
            minion.started([second])
    assert not Path(f"/proc/self/fd/{used}").exists()
    minion.started([third])
    bench.die(minion)
    back = bench.let_pass(2 * LEASE_S, bench.minion("heir"))
    assert {lease.id: lease.crashes for lease in back}[third.id] == 1


@pytest.mark.parametrize("foreign", [0, 1, 3])
def test_a_dead_process_of_this_host_is_seen_within_two_seconds_whoever_is_before_it(
    bench: Bench, foreign: int
) -> None:
    """The slots before its own belong to minions of other hosts, of which only their beats tell."""
    others = [bench.elsewhere(f"far{number}") for number in range(foreign)]
    doomed, heir = bench.minion("doomed"), bench.minion("heir")
    held = doomed.lease(3, 0.0)
    assert len(held) == 3
    heir.lease(1, 0.0)
    bench.die(doomed)
    back: list[Lease] = []
    for _ in range(4):
        bench.clock.advance(0.5)
        back += heir.lease(3, 0.0)
    assert sorted(lease.id for lease in back) == sorted(lease.id for lease in held)
    heir.ack(back)
    assert heir.stats().drained
    assert [each.extend([]) for each in others] == [[]] * foreign


def test_a_minion_of_another_host_is_given_its_whole_lease(bench: Bench) -> None:
    far, near = bench.elsewhere("far"), bench.minion("near")
    held = far.lease(3, 0.0)
    bench.die(far)
    assert not bench.let_pass(0.9 * LEASE_S, near)
    back = bench.let_pass(0.8 * LEASE_S, near)
    assert {lease.id for lease in back} == {lease.id for lease in held}


@pytest.mark.parametrize("acked", [0, 1, 2])
def test_what_a_dead_minion_noted_as_done_is_done_and_all_else_comes_back(
    bench: Bench, acked: int
) -> None:
    """It was killed before it could tell the queue."""
    doomed, heir = bench.minion("doomed"), bench.minion("heir")
    held = doomed.lease(3, 0.0)
    doomed.started(held)
    checkpoints = Path(bench.folder) / "checkpoints"
    for lease in held:
        (checkpoints / lease.id).mkdir(parents=True)
    doomed._member.end([held[acked].token], acked=True)
    bench.die(doomed)
    back = bench.let_pass(2 * LEASE_S, heir)
    others = {lease.id for lease in held} - {held[acked].id}
    assert {(lease.id, lease.crashes, lease.suspect) for lease in back} == {
        (id_, 1, True) for id_ in others
    }
    assert {path.name for path in checkpoints.iterdir()} == others
    assert (heir.stats().done, heir.stats().running) == (1, 2)


def test_a_child_of_a_child_closes_no_descriptor_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By then its number may be that of another file."""
    minion = bench.minion("one")
    minion.started(minion.lease(1, 0.0))
    bench.die(minion)
    closed: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "close", closed.append)
        minion._member.close_in_child()
    assert closed == []
    assert not minion._member.joined


def test_one_that_finds_files_gone_with_params_that_others_ended_calls_nothing_damaged(
    bench: Bench,
) -> None:
    """It stood still between claiming and reading, and when it went on another had the lock for
    longer than a file is waited for."""
    giver, slow, other = bench.minion("giver"), bench.minion("slow"), bench.minion("other")
    giver.nack(giver.lease(3, 0.0))
    with slow.room.head as head:
        slow._holding.enter(head)
        assert not slow._take(head, 3)
    slow._fronts.prepare()
    with slow.room.head as head:
        slow._holding.enter(head)
        assert slow._take(head, 3)
    slow.room.batches.close()
    other.ack(bench.let_pass(2 * LEASE_S, other))
    bench.let_pass(LEASE_S, other)
    with other.room.head:  # so it can't look at the head
        assert slow.lease(3, 0.0) == []
    bench.clock.advance(2 * slow.room.visibility_s)
    assert slow.lease(3, 0.3) == []
    assert other.stats().done == 3

"""The file engine over a real folder, in one process: pieces, cost, checkpoints, bad files."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from minionize.contracts.engine import EngineOptions
from minionize.engines.file import open_engine, open_queue
from minionize.engines.file.calls import Calls
from minionize.engines.file.minion import FileEngine
from minionize.engines.file.people import FileQueue
from minionize.engines.file.room import Room, delay_class, file_system
from minionize.engines.file.slot import MAX_RECORD
from minionize.errors import (
    EngineUnavailable,
    ForeignVersion,
    MinionizeError,
    NoSuchQueue,
    QueueDamaged,
    UsageError,
)
from minionize.testing.backend import ManualClock
from minionize.values import Failure, Lease, State


class Bench:
    """One queue and a clock to move."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock()
        self.count = 0
        self.opened: list[FileEngine | FileQueue] = []

    def options(self) -> EngineOptions:
        self.count += 1
        return EngineOptions(minion_id=f"m{self.count}", clock=self.clock, pid=self.count)

    def queue(self) -> FileQueue:
        queue = open_queue(str(self.folder), self.options())
        self.opened.append(queue)
        return queue

    def minion(self) -> FileEngine:
        engine = open_engine(str(self.folder), self.options())
        self.opened.append(engine)
        return engine

    def get(self, engine: FileEngine, count: int) -> list[Lease]:
        found: list[Lease] = []
        for _ in range(200):
            found += engine.lease(count - len(found), 0.3)
            if len(found) == count:
                return found
            self.clock.advance(1.0)
        raise AssertionError(f"only {len(found)} of {count}: {engine.stats()}")

    def die(self, engine: FileEngine) -> None:
        self.opened.remove(engine)
        engine._member.close_in_child()

    def close(self) -> None:
        for one in self.opened:
            one.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "queue")
    yield bench
    bench.close()


def slot_bytes(engine: FileEngine) -> int:
    with engine.room.head:
        return len(engine.room.head.slot(engine._member.index))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_pieces_of_a_slot_never_outgrow_it(bench: Bench, seed: int) -> None:
    chance = random.Random(seed)
    bench.queue().put(range(1200))
    engine = bench.minion()
    held = bench.get(engine, 400) + bench.get(engine, 800)
    marked = chance.sample(held, 20)
    engine.started(marked)
    chance.shuffle(held)
    ends: dict[str, int] = {}
    while held:
        some = [held.pop() for _ in range(min(len(held), chance.choice([1, 7, 150])))]
        what = chance.choice(["ack", "nack", "bury"])
        if what == "ack":
            engine.ack(some)
            if chance.random() < 0.3:
                assert not engine.extend(held)
        elif what == "nack":
            engine.nack(some, delay_s=300.0)
        else:
            engine.bury(some, Failure("exit 1"))
        ends[what] = ends.get(what, 0) + len(some)
        assert slot_bytes(engine) <= MAX_RECORD
        assert not engine.extend(held[:10])
        if len(held) < 300:
            break
    stats = engine.stats()
    assert (stats.done, stats.dead, stats.delayed) == tuple(
        ends.get(what, 0) for what in ("ack", "bury", "nack")
    )
    assert stats.running == len(held)
    assert {lease.id for lease in engine.lease(10, 0.0)} == set()
    bench.die(engine)
    heir = bench.minion()
    back = {lease.id: lease for lease in bench.get(heir, len(held))}
    assert set(back) == {lease.id for lease in held}
    running = {lease.id for lease in marked} & set(back)
    assert {number for number, lease in back.items() if lease.crashes} == running
    assert {lease.text for lease in back.values()} == {lease.text for lease in held}


def test_short_params_cost_few_trips_and_the_same_in_a_long_queue(tmp_path: Path) -> None:
    costs = []
    for count in (4_000, 40_000):
        folder = str(tmp_path / str(count))
        open_queue(folder, EngineOptions()).put_texts(map(str, range(count)))
        engine = open_engine(folder, EngineOptions())
        calls = engine.room.calls
        before = (calls.total, calls.lock_trips, calls.bytes_read, calls.bytes_written)
        for _ in range(20):
            engine.ack(engine.lease(100, 0.0))
        after = (calls.total, calls.lock_trips, calls.bytes_read, calls.bytes_written)
        costs.append([new - old for old, new in zip(before, after, strict=True)])
        engine.close()
    (few_calls, few_trips, few_read, few_written), (calls_, trips, read, written) = costs
    assert few_trips == trips == 20, "one trip a window: 0.01 for each param"
    assert abs(calls_ - few_calls) <= 10
    assert read == pytest.approx(few_read, rel=0.1)
    assert written == pytest.approx(few_written, rel=0.1)


def test_checkpoints_go_with_the_ack_and_stay_with_the_dead(bench: Bench) -> None:
    queue = bench.queue()
    queue.put(range(6))
    engine = bench.minion()
    folder = bench.folder / "checkpoints"
    held = bench.get(engine, 6)
    for lease in held:
        (folder / lease.id).mkdir(parents=True)
        (folder / lease.id / "state").write_text("x")
    engine.nack(held[5:])
    (again,) = bench.get(engine, 1)
    assert (folder / again.id).exists()
    engine.ack([*held[:2], again])
    engine.bury(held[2:3], Failure("exit 1"))
    engine.stats()
    assert sorted(path.name for path in folder.iterdir()) == ["3", "4", "5"]
    engine.started(held[3:4])
    engine.ack(held[3:4])
    assert sorted(path.name for path in folder.iterdir()) == ["3", "5"]
    engine.close()
    assert sorted(path.name for path in folder.iterdir()) == ["3", "5"]


@pytest.mark.parametrize("times", [1, 3])
def test_checkpoints_go_with_their_own_params_where_claims_were_rewritten(
    bench: Bench, times: int
) -> None:
    """Scattered acks make a slot crowded: what is held then gets a batch of its own."""
    bench.queue().put(range(2000))
    engine = bench.minion()
    held = bench.get(engine, 2000)
    for _ in range(times):
        engine.ack(held[::2])
        held = held[1::2]
        assert not engine.extend(held)
        assert not engine.extend(held)
    assert any(one.source == "h" for one in engine._holding.held.values())
    folder = bench.folder / "checkpoints"
    for lease in held:
        (folder / lease.id).mkdir(parents=True)
    engine.ack(held[10:13])
    left = held[:10] + held[13:]
    assert not engine.extend(left)
    assert {path.name for path in folder.iterdir()} == {lease.id for lease in left}
    assert engine.stats().running == len(left)
    engine.ack(left)
    engine.close()
    assert list(folder.iterdir()) == []


def test_nobody_pays_for_checkpoints_that_nobody_uses(bench: Bench) -> None:
    bench.queue().put(range(1000))
    engine = bench.minion()
    before = engine.room.calls.counts.get("access", 0)
    for _ in range(10):
        engine.ack(bench.get(engine, 100))
    assert engine.room.calls.counts["access"] - before <= 20


def test_taken_batches_and_empty_folders_go(bench: Bench) -> None:
    bench.queue().put(range(20))
    engine = bench.minion()
    for _ in range(8):
        engine.nack(bench.get(engine, 5), charge=False)
    dead = bench.minion()
    bench.die(dead)
    for _ in range(12):
        bench.clock.advance(15.1)
        engine.extend([])
    engine.ack(bench.get(engine, 20))
    for _ in range(6):
        bench.clock.advance(15.1)
        engine.extend([])
    assert list((bench.folder / "returned").rglob("*.jsonl")) == []
    assert [path.name for path in (bench.folder / "minions").iterdir()] == ["m2.2"]


def test_a_thousand_minions_have_room(bench: Bench) -> None:
    bench.queue().put(range(300))
    some = [bench.minion() for _ in range(300)]
    for engine in some[::7]:
        (lease,) = bench.get(engine, 1)
        engine.ack([lease])
    for engine in some:
        engine.close()
    bench.opened = [one for one in bench.opened if one not in some]
    stats = bench.queue().stats()
    assert (stats.minions, stats.done, stats.running) == (0, len(some[::7]), 0)
    again = bench.minion()
    assert again._member.index == 0, "slots are used again"


def test_a_due_time_of_another_clock_is_seen_waiting(tmp_path: Path) -> None:
    fast, slow = ManualClock(), ManualClock()
    fast.time = lambda: 1e10  # type: ignore[method-assign]
    folder = str(tmp_path / "queue")
    open_queue(folder, EngineOptions(clock=fast)).put([1])
    one = open_engine(folder, EngineOptions(clock=fast))
    one.nack(one.lease(1, 0), delay_s=2.0)
    other = open_engine(folder, EngineOptions(clock=slow))
    assert not other.lease(1, 1.0)
    slow.advance(1.5)
    assert other.lease(1, 1.0), "it was seen waiting for its delay"
    one.close()
    other.close()


@pytest.mark.parametrize(
    ("delay_s", "folder"),
    [(0, 0), (0.2, 1), (1, 1), (1.5, 2), (250, 256), (299, 300), (301, 600), (1e9, 86400)],
)
def test_each_delay_has_its_folder(delay_s: float, folder: int) -> None:
    assert delay_class(delay_s) == folder


# ---- bad files


DAMAGES = ["emptied", "cut", "noise", "removed", "newer"]


def spoil(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "removed":
        path.unlink()
    elif how == "newer":
        changed = content.replace(b"minionize head 1 ", b"minionize head 9 ")
        path.write_bytes(changed.replace(b'"minionize":1', b'"minionize":9'))
    else:
        changes = {"emptied": b"", "cut": content[: len(content) * 2 // 3]}
        path.write_bytes(changes.get(how, os.urandom(len(content))))


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize(
    "name", ["head", "params/00000001.jsonl", "returned/0/00000001.jsonl", "dead/00000001.jsonl"]
)
def test_a_bad_file_is_named_or_does_no_harm(bench: Bench, name: str, how: str) -> None:
    queue = bench.queue()
    queue.put(range(40))
    engine = bench.minion()
    held = bench.get(engine, 20)
    engine.nack(held[:5])
    engine.bury(held[5:10], Failure("exit 1"))
    engine.ack(held[10:])
    engine.close()
    spoil(bench.folder / name, how)
    bench.opened.clear()
    ids: set[str] = set()
    message = ""
    try:
        heir = bench.minion()
        for _ in range(40):
            leases = heir.lease(10, 0.3)
            ids |= {lease.id for lease in leases}
            heir.ack(leases)
        dead = {entry.id for entry in bench.queue().scan(State.DEAD)}
        assert len(dead) == 5
        assert len(ids) == 25, "nothing is gone silently"
    except (QueueDamaged, ForeignVersion, NoSuchQueue) as error:
        message = str(error)
        assert str(bench.folder) in message
        assert "\n" not in message
    bench.opened.clear()
    if how == "cut" and name == "head":
        assert not message, "slots that were never used are missing: no harm"
    else:
        assert name in message


@pytest.mark.parametrize("how", ["emptied", "noise", "removed"])
@pytest.mark.parametrize("name", ["beat", "journal"])
def test_a_bad_beat_or_journal_loses_nothing(bench: Bench, name: str, how: str) -> None:
    bench.queue().put(range(10))
    engine = bench.minion()
    held = bench.get(engine, 10)
    engine.started(held[:2])
    path = bench.folder / "minions" / f"{engine._member.owner}.{engine._member.generation}" / name
    spoil(path, how)
    bench.die(engine)
    heir = bench.minion()
    for _ in range(6):
        bench.clock.advance(15.1)
        heir.extend([])
    assert {lease.id for lease in bench.get(heir, 10)} == {lease.id for lease in held}


def test_one_bad_copy_of_the_head_is_recovered(bench: Bench) -> None:
    queue = bench.queue()
    queue.put(range(3))
    path = bench.folder / "head"
    content = path.read_bytes()
    whole = queue.stats()
    for begin in (0, 16384):
        path.write_bytes(content[:begin] + os.urandom(16384) + content[begin + 16384 :])
        stats = queue.stats()
        assert stats.put == whole.put
        queue.put([1])
        assert queue.stats().put == 4
        path.write_bytes(content)


def test_a_queue_that_may_not_be_entered(tmp_path: Path) -> None:
    folder = str(tmp_path / "q")
    queue = open_queue(folder, EngineOptions())
    queue.put([1])
    queue.close()
    (tmp_path / "q").chmod(0o000)
    was = os.geteuid()
    if was == 0:  # whom nothing is forbidden
        os.seteuid(65534)
    try:
        for look in (open_queue(folder, EngineOptions()).stats, queue.stats):
            with pytest.raises(UsageError, match="you need the right to"):
                look()
        with pytest.raises(UsageError, match="you need the right to"):
            open_engine(folder, EngineOptions(minion_id="m"))
    finally:
        os.seteuid(was)
        (tmp_path / "q").chmod(0o700)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_without_rights_one_line_says_so(bench: Bench) -> None:
    bench.queue().put([1])
    (bench.folder / "head").chmod(stat.S_IRUSR)
    with pytest.raises(UsageError, match="right to write"):
        bench.minion()


def test_sshfs_is_refused(bench: Bench) -> None:
    bench.queue().put([1])

    class Elsewhere(Calls):
        def read_whole(self, path: str) -> bytes:
            found = super().read_whole(path)
            if not path.endswith("mountinfo"):
                return found
            device = self.device(str(bench.folder))
            return f"36 35 {device} / /mnt rw - fuse.sshfs me@host: rw".encode()

    room = Room(str(bench.folder), bench.options(), Elsewhere())
    with pytest.raises(UsageError, match="is on sshfs"):
        FileEngine(room)
    assert file_system(Calls(), str(bench.folder))[0] not in ("", "fuse.sshfs")


def test_a_full_disk_is_named_and_nothing_is_missing(bench: Bench) -> None:
    class Full(Calls):
        full = False

        def open_new(self, path: str) -> int:
            if self.full:
                raise OSError(28, "No space left on device")
            return super().open_new(path)

    bench.queue().put(range(3))
    calls = Full(bench.clock)
    engine = FileEngine(Room(str(bench.folder), bench.options(), calls))
    bench.opened.append(engine)
    held = bench.get(engine, 3)
    calls.full = True
    with pytest.raises(EngineUnavailable, match="disk is full"):
        engine.nack(held[:1])
    engine.ack(held[1:2])
    assert engine.stats().done == 1, "a settle needs no room"
    calls.full = False
    engine.nack(held[:1])
    engine.ack([*bench.get(engine, 1), held[2]])
    assert engine.stats().drained


def test_a_missing_queue_is_told_and_not_made(bench: Bench) -> None:
    with pytest.raises(NoSuchQueue):
        bench.minion()
    queue = bench.queue()
    for look in (queue.stats, queue.minions, queue.requeue, queue.purge):
        with pytest.raises(NoSuchQueue):
            look()
    with pytest.raises(NoSuchQueue):
        queue.steer(stop=True)
    refused = open_queue(str(bench.folder), EngineOptions(create=False))
    with pytest.raises(MinionizeError):
        refused.put([1])
    assert not bench.folder.exists()


def test_a_folder_with_a_setgid_bit_hands_it_on(bench: Bench) -> None:
    bench.folder.mkdir()
    bench.folder.chmod(0o2775)
    bench.queue().put([1])
    for path in bench.folder.rglob("*"):
        if path.is_dir():
            assert path.stat().st_mode & stat.S_ISGID

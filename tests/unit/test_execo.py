"""What the execo engine does beyond the contract: other people's sweeps, and execo's own users."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minionize.contracts.engine import EngineOptions
from minionize.engines import execo
from minionize.engines.execo import ExecoEngine
from minionize.engines.execo.library import sweep_module
from minionize.errors import (
    BadParam,
    EngineUnavailable,
    ForeignVersion,
    MinionizeError,
    NoSuchQueue,
    QueueDamaged,
    UsageError,
)
from minionize.testing import ManualClock
from minionize.values import Failure, Lease, State

ROOT = str(Path(execo.__file__).parents[3])


def sweeper(folder: Path, sweeps: Any = None) -> Any:
    """execo's own, as its users have it."""
    return sweep_module().ParamSweeper(str(folder), sweeps=sweeps, save_sweeps=sweeps is not None)


class Lab:
    """A sweep, a clock, and minions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock()

    def options(self, name: str = "me") -> EngineOptions:
        return EngineOptions(minion_id=name, host="here", clock=self.clock, lease_s=60)

    def minion(self, name: str = "me", query: str = "") -> ExecoEngine:
        return execo.open_engine(str(self.folder) + query, self.options(name))

    def queue(self) -> execo.ExecoQueue:
        return execo.open_queue(str(self.folder), self.options("person"))

    def outlast_lease(self, minion: ExecoEngine) -> None:
        for _ in range(6):
            self.clock.advance(15.01)
            minion.extend([])


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path / "sweeps")


def test_plain_numbers_come_in_order_with_themselves_as_ids(lab: Lab) -> None:
    sweeper(lab.folder, range(10))
    minion = lab.minion()
    seen: list[Lease] = []
    for limit in (1, 2, 4, 8):
        leases = minion.lease(limit, 0)
        minion.ack(leases)
        seen += leases
    assert [lease.param for lease in seen] == list(range(10))
    assert [lease.id for lease in seen] == [str(number) for number in range(10)]
    assert minion.stats().drained
    assert sweeper(lab.folder).get_done() == set(range(10))


def test_sweeps_of_all_kinds_are_read(lab: Lab) -> None:
    class HashableList(list):  # type: ignore[type-arg]
        def __hash__(self) -> int:  # type: ignore[override]
            return hash(tuple(self))

    globals()["HashableList"] = HashableList
    HashableList.__qualname__ = "HashableList"
    hashable = sweep_module().HashableDict
    made = sweep_module().sweep(
        {"alpha": [0.1, 0.2], "inner": {"a": {"x": [1]}, "b": {"y": [None, True]}}}
    )
    others = [
        "word",
        "two words",
        "12",
        12,
        2.5,
        None,
        ("t", ("u", 1)),
        HashableList([1, hashable(deep=HashableList([2]))]),
        frozenset({3, 1, 2}),
        range(2),
        hashable({5: "number as key"}),
    ]
    sweeper(lab.folder, [*made, *others])
    leases = lab.minion().lease(100, 0)
    texts = {lease.text for lease in leases}
    assert len(leases) == len({lease.id for lease in leases}) == len(made) + len(others)
    assert {
        '"word"',
        '"12"',
        "12",
        '["t",["u",1]]',
        '[1,{"deep":[2]}]',
        "[1,2,3]",
        "[0,1]",
        '{"5":"number as key"}',
        '{"alpha":0.1,"inner":"b","y":null}',
    } <= texts
    by_id = {lease.id: lease.param for lease in leases}
    assert by_id["word"] == "word"
    assert by_id["12"] == 12


def test_equal_json_of_unequal_combinations_has_ids_of_its_own(lab: Lab) -> None:
    sweeper(lab.folder, [(0, 1), range(2), "x"])
    first = {lease.id: lease.text for lease in lab.minion("one").lease(3, 0)}
    assert sorted(first.values()) == ['"x"', "[0,1]", "[0,1]"]
    assert {entry.id: entry.text for entry in lab.queue().scan(State.RUNNING)} == first


def test_a_combination_that_is_no_json_is_named(lab: Lab) -> None:
    sweeper(lab.folder, [1, b"bytes"])
    with pytest.raises(BadParam, match=r"b'bytes' is no JSON"):
        lab.minion()


def test_ids_are_the_same_in_every_process(lab: Lab) -> None:
    sweeper(lab.folder, sweep_module().sweep({"b": ["x", "y"], "a": [1, (2, "z")]}))
    script = (
        "import sys\n"
        "from minionize.engines.execo import open_queue\n"
        "from minionize.contracts.engine import EngineOptions\n"
        "from minionize.values import State\n"
        "queue = open_queue(sys.argv[1], EngineOptions())\n"
        "print(sorted(queue.scan(State.WAITING)))\n"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", script, str(lab.folder)],
            env={**os.environ, "PYTHONPATH": ROOT, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            timeout=180,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1


def test_execo_is_told_the_truth(lab: Lab) -> None:
    """Done is done, in progress is in progress; what was given back or is dead is todo."""
    sweeper(lab.folder, range(5))
    minion = lab.minion()
    done, held, back, dead = minion.lease(4, 0)
    minion.ack([done])
    minion.nack([back], delay_s=30)
    minion.bury([dead], Failure("exit 3"))
    sweeps, todo, skipped, busy, finished = sweeper(lab.folder).stats()
    assert len(sweeps) == 5
    assert todo == {back.param, dead.param, 4}
    assert (skipped, busy, finished) == (set(), {held.param}, {done.param})
    assert [lease.param for lease in minion.lease(9, 0)] == [4]


def test_execo_users_and_minions_share_a_sweep(lab: Lab) -> None:
    theirs = sweeper(lab.folder, range(10))
    minion = lab.minion()
    a = theirs.get_next()
    ours = minion.lease(3, 0)
    b = theirs.get_next()
    assert len({a, b, *(lease.param for lease in ours)}) == 5
    theirs.done(a)
    theirs.cancel(b)
    minion.ack(ours)
    rest = minion.lease(20, 0)
    assert len(rest) == 6
    assert b in {lease.param for lease in minion.lease(20, 0)} | {lease.param for lease in rest}
    minion.ack(rest)
    assert minion.stats().drained
    assert theirs.get_next() is None


def test_what_an_execo_user_finishes_is_not_dead_any_more(lab: Lab) -> None:
    theirs = sweeper(lab.folder, ["x"])
    minion = lab.minion()
    minion.bury(minion.lease(1, 0), Failure("exit 3"))
    assert minion.stats().dead == 1
    theirs.done("x")
    stats = minion.stats()
    assert (stats.dead, stats.done, stats.put) == (0, 1, 1)


def test_what_stands_in_progress_in_nobodys_name_is_handed_out_after_a_lease(lab: Lab) -> None:
    theirs = sweeper(lab.folder, range(3))
    left = theirs.get_next()
    minion = lab.minion()
    ours = minion.lease(9, 0)
    assert left not in {lease.param for lease in ours}
    minion.ack(ours)
    for _ in range(3):
        lab.clock.advance(15)
        minion.extend([])
        assert not minion.lease(9, 0)
    assert minion.stats().running == 1
    lab.outlast_lease(minion)
    (lease,) = minion.lease(9, 0)
    assert (lease.param, lease.suspect, lease.crashes) == (left, True, 0)


@pytest.mark.parametrize(
    ("query", "after"), [("?strangers=200", True), ("?strangers=never", False)]
)
def test_strangers_get_the_time_they_are_given(lab: Lab, query: str, after: bool) -> None:
    sweeper(lab.folder, range(3)).get_next()
    minion = lab.minion(query=query)
    minion.stats()
    minion.ack(minion.lease(9, 0))
    lab.outlast_lease(minion)
    assert not minion.lease(9, 0)
    for _ in range(10):
        lab.outlast_lease(minion)
    assert bool(minion.lease(9, 0)) is after


def test_strangers_that_are_no_time_are_told(lab: Lab) -> None:
    with pytest.raises(UsageError, match="neither seconds nor never"):
        lab.minion(query="?strangers=soon")


def test_a_minion_that_looks_rarely_declares_nobody_dead(lab: Lab) -> None:
    sweeper(lab.folder, range(3))
    one, two = lab.minion("one"), lab.minion("two")
    held = one.lease(2, 0)
    two.extend([])
    lab.clock.advance(3600)  # both were stopped for an hour
    assert [lease.param for lease in two.lease(9, 0)] == [2]
    assert not one.extend(held)


def hold_and_wait(folder: str, pipe: Any) -> None:
    """A minion in a process of its own."""
    minion = execo.open_engine(folder, EngineOptions(minion_id="victim", lease_s=3600))
    leases = minion.lease(3, 0)
    minion.started(leases[:1])
    pipe.send([lease.id for lease in leases])
    time.sleep(3600)


def test_what_a_killed_process_held_comes_back_at_once_on_its_machine(lab: Lab) -> None:
    sweeper(lab.folder, range(5))
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    victim = context.Process(target=hold_and_wait, args=(str(lab.folder), theirs))
    victim.start()
    try:
        held = ours.recv()
        minion = lab.minion()
        minion.ack(minion.lease(9, 0))
        assert not minion.lease(9, 0)
    finally:
        assert victim.pid is not None
        os.kill(victim.pid, signal.SIGKILL)
        victim.join()
    back = minion.lease(9, 0)
    assert sorted(lease.id for lease in back) == sorted(held)
    assert {lease.id: lease.crashes for lease in back} == {held[0]: 1, held[1]: 0, held[2]: 0}


def crash_at(minion: ExecoEngine, name: str, act: Callable[[], object]) -> None:
    """Let `minion` die when it comes to call `name` of its room or sweep."""

    class Killed(BaseException):
        """Nothing catches this."""

    def die(*_args: object, **_keywords: object) -> None:
        raise Killed

    def do_and_die(*arguments: Any, **keywords: Any) -> None:
        before(*arguments, **keywords)
        raise Killed

    name, _, after = name.partition(" ")
    target: Any = minion._room if hasattr(minion._room, name) else minion._room.sweep
    before = getattr(target, name)
    setattr(target, name, do_and_die if after else die)
    with pytest.raises(Killed):
        act()
    minion.abandon()


@pytest.mark.parametrize(
    ("where", "what", "attempt"),
    [
        ("save", "lease", 1),
        ("save afterwards", "lease", 1),
        ("take afterwards", "lease", 1),
        ("finish", "ack", 1),
        ("save", "ack", None),
        ("save", "nack", 1),
        ("cancel", "nack", 2),
        ("save", "bury", 1),
        ("cancel", "bury", None),
        ("cancel", "close", 1),
    ],
)
def test_a_crash_between_the_ledger_and_execo_loses_nothing(
    lab: Lab, where: str, what: str, attempt: int | None
) -> None:
    """`attempt`: as which it comes back; None: it is settled."""
    sweeper(lab.folder, ["x"])
    victim = lab.minion("victim")
    leases = victim.lease(1, 0) if what != "lease" else []

    def act() -> None:
        if what == "lease":
            victim.lease(1, 0)
        elif what == "ack":
            victim.ack(leases)
            victim.extend([])
        elif what == "nack":
            victim.nack(leases)
        elif what == "bury":
            victim.bury(leases, Failure("exit 3"))
        else:
            victim.close()

    crash_at(victim, where, act)
    other = lab.minion("other")
    other.stats()
    lab.outlast_lease(other)
    back = other.lease(9, 0)
    assert [lease.attempt for lease in back] == ([] if attempt is None else [attempt])
    assert [lease.crashes for lease in back] == [0] * len(back)
    other.ack(back)
    stats = other.stats()
    assert stats.drained
    assert (stats.put, stats.dead) == (1, int(what == "bury" and attempt is None))


def test_other_peoples_pickles_are_not_read(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(lab.folder / "sprung"),)

    sweeper(lab.folder, ["x"])
    for name in ("sweeps", "done", "inprogress"):
        path = lab.folder / name
        before = path.read_bytes()
        path.write_bytes(pickle.dumps(Trap()))
        for mode, who in ((0o666, "everybody"), (0o664, "its group")):
            path.chmod(mode)
            os.chown(path, -1, 12345)
            with pytest.raises(UsageError, match=f"{name} can be written by {who}.*chmod go-w"):
                lab.minion()
        path.chmod(0o644)
        path.write_bytes(before)
    if os.geteuid() == 0:  # root can make it another's; else, be another
        os.chown(lab.folder / "sweeps", 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(UsageError, match=r"belongs to user \d+.*a folder of your own"):
        lab.queue().stats()
    assert not (lab.folder / "sprung").exists()


def test_a_folder_in_which_others_could_exchange_pickles(lab: Lab) -> None:
    sweeper(lab.folder, ["x"])
    if os.geteuid():
        pytest.skip("only root makes it another's")
    for uid, gid, mode, why in (
        (0, 12345, 0o775, "can be written by its group"), (0, 0, 0o757, "by everybody"),
        (12345, 0, 0o755, "belongs to user 12345"),
    ):  # fmt: skip
        os.chown(lab.folder, uid, gid)
        lab.folder.chmod(mode)
        with pytest.raises(UsageError, match=f"{lab.folder} .*{why}"):
            lab.queue().stats()
    os.chown(lab.folder, 0, 0)
    lab.folder.chmod(0o775)  # root's own group is nobody else's
    assert lab.queue().stats().put == 1


@pytest.mark.parametrize("name", ["sweeps", "done", "inprogress"])
def test_a_pickle_behind_a_link_is_not_read(lab: Lab, name: str) -> None:
    """Its owner is who made the link, whoever owns what it leads to."""
    sweeper(lab.folder, ["x"])
    (lab.folder / name).rename(lab.folder / "elsewhere")
    (lab.folder / name).symlink_to("elsewhere")
    with pytest.raises(UsageError, match=f"{name} is a symbolic link"):
        lab.queue().stats()


def test_a_folder_that_is_exchanged_between_two_looks_changes_nothing(
    lab: Lab, tmp_path: Path
) -> None:
    sweeper(lab.folder, ["x"])
    queue = lab.queue()
    assert queue.stats().put == 1
    lab.folder.rename(tmp_path / "aside")
    sweeper(lab.folder, ["y", "z"])
    assert queue.stats().put == 1


def test_a_folder_that_was_removed_and_made_again_is_read_anew(lab: Lab) -> None:
    """By another descriptor than before."""
    sweeper(lab.folder, ["x"])
    low = os.open(os.devnull, os.O_RDONLY)
    queue = lab.queue()
    assert queue.stats().put == 1
    os.close(low)
    shutil.rmtree(lab.folder)
    sweeper(lab.folder, ["y", "z"])
    assert queue.stats().put == 2
    queue.close()
    assert queue.stats().put == 2


def test_a_sweep_that_is_none_is_told(lab: Lab) -> None:
    with pytest.raises(NoSuchQueue, match=r"no sweep in .*minion feed"):
        lab.minion()
    assert not lab.folder.exists()
    sweep_module().ParamSweeper(str(lab.folder), sweeps=[1])  # not saved
    with pytest.raises(NoSuchQueue, match="save_sweeps=True"):
        lab.minion()


@pytest.mark.parametrize("content", [b"", b"noise", pickle.dumps(3), b"cno_such_module\nX\n."])
def test_a_damaged_sweep_is_named(lab: Lab, content: bytes) -> None:
    sweeper(lab.folder, range(3))
    (lab.folder / "sweeps").write_bytes(content)
    with pytest.raises(QueueDamaged, match=r"sweeps is no sweep that can be read"):
        lab.minion()


def test_a_damaged_or_foreign_ledger_is_named(lab: Lab) -> None:
    sweeper(lab.folder, range(3))
    lab.minion().close()
    ledger = lab.folder / "minionize" / "ledger"
    for content in (b"", b"{}", b"[]", b'{"format": 1, "params": {"1": {"colour": 3}}}', b"\xff"):
        ledger.write_bytes(content)
        with pytest.raises(QueueDamaged, match="ledger can't be read"):
            lab.minion()
    ledger.write_bytes(b'{"format": 2}')
    with pytest.raises(ForeignVersion, match="has format 2"):
        lab.minion()
    ledger.unlink()
    assert len(lab.minion().lease(9, 0)) == 3


def test_put_adds_to_a_sweep_and_execo_can_read_it(lab: Lab) -> None:
    theirs = sweeper(lab.folder, [1, 2])
    assert lab.queue().put([2, 3, {"a": [1, {"b": None}]}]) == 2
    assert theirs.get_sweeps() == {1, 2}
    hashable = sweep_module().HashableDict
    assert sweeper(lab.folder).get_sweeps() == {
        1,
        2,
        3,
        hashable(a=(1, hashable(b=None))),
    }
    assert lab.queue().put([1, 3]) == 0


def test_what_execo_can_not_tell_apart_is_refused(lab: Lab) -> None:
    for params in ([1, True], [[0], [False]]):
        with pytest.raises(BadParam, match="equals another param"):
            lab.queue().put(params)
    lab.queue().put([{"n": 1}])
    with pytest.raises(BadParam, match="equals another param"):
        lab.queue().put([{"n": True}])
    assert lab.queue().stats().put == 1


def test_importing_sweeps_starts_nothing() -> None:
    script = (
        "import signal, sys, threading\n"
        "from minionize.engines.execo.library import sweep_module\n"
        "sweep_module()\n"
        "print('execo' in sys.modules, threading.active_count(), signal.set_wakeup_fd(-1))\n"
        "from execo_engine import HashableDict, ParamSweeper\n"
        "from execo_engine.sweep import ParamSweeper as same\n"
        "print('execo' in sys.modules, same is ParamSweeper)\n"
        "import warnings; warnings.simplefilter('ignore')\n"
        "from execo_engine import Engine, logger\n"
        "print('execo' in sys.modules, Engine.__module__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "False 1 -1",
        "False True",
        "True execo_engine.engine",
    ]


def test_a_lock_that_is_held_for_long_is_unavailable(lab: Lab) -> None:
    import fcntl

    sweeper(lab.folder, range(3))
    minion = lab.minion()
    with open(lab.folder / "minionize" / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(EngineUnavailable, match="look for a stopped minion"):
            minion.lease(1, 0)
    assert minion.lease(1, 0)


def test_ten_thousand_params_take_reasonable_time(lab: Lab) -> None:
    sweeper(lab.folder, sweep_module().sweep({"a": range(100), "b": range(100)}))
    minion = lab.minion()
    began = time.monotonic()
    count = 0
    while leases := minion.lease(64, 0):
        minion.ack(leases[1:])
        minion.nack(leases[:1]) if leases[0].attempt == 1 else minion.ack(leases[:1])
        count += len(leases) - (leases[0].attempt == 1)
    assert count == 10_000
    assert time.monotonic() - began < 60
    assert minion.stats().drained


def test_only_our_errors_escape(lab: Lab) -> None:
    sweeper(lab.folder, range(3))
    minion = lab.minion()
    os.rename(lab.folder, lab.folder.with_name("gone"))
    calls: list[Callable[[], object]] = [
        lambda: minion.lease(1, 0),
        minion.stats,
        lambda: minion.extend([]),
        lambda: lab.queue().stats(),
    ]
    for call in calls:
        with pytest.raises(MinionizeError):
            call()
    os.rename(lab.folder.with_name("gone"), lab.folder)
    assert minion.lease(1, 0)
    assert threading.active_count() == 1


class Wrong(ManualClock):
    """A wall clock that is off, and goes as fast as the right one."""

    def __init__(self, right: ManualClock, off_s: float) -> None:
        super().__init__()
        self._right = right
        self.off_s = off_s

    def monotonic(self) -> float:
        return self._right.monotonic()

    def time(self) -> float:
        return self._right.time() + self.off_s

    def sleep(self, seconds: float) -> None:
        self._right.sleep(seconds)


@pytest.mark.parametrize("off_s", [3600.0, -3600.0])
@pytest.mark.parametrize("giver", ["right", "wrong"])
def test_a_delay_is_as_long_for_minions_whose_clocks_differ(
    tmp_path: Path, off_s: float, giver: str
) -> None:
    right = ManualClock()
    clocks = {"right": right, "wrong": Wrong(right, off_s)}

    def options(name: str) -> EngineOptions:
        return EngineOptions(minion_id=name, host="here", clock=clocks[name], lease_s=60)

    queue = execo.open_queue(str(tmp_path / "sweep"), options("right"))
    queue.put([1])
    engines = {name: execo.open_engine(str(tmp_path / "sweep"), options(name)) for name in clocks}
    for engine in engines.values():
        engine.extend([])
    (lease,) = engines[giver].lease(1, 0)
    engines[giver].nack([lease], delay_s=8.0)
    other = engines["wrong" if giver == "right" else "right"]
    assert other.stats().delayed == 1
    began = right.monotonic()
    while not (found := other.lease(1, 0)):
        right.advance(0.25)
        assert right.monotonic() - began < 10
    assert right.monotonic() - began >= 7
    other.ack(found)
    assert other.stats().drained


def test_a_clock_that_jumps_keeps_no_param_for_hours(tmp_path: Path) -> None:
    right = ManualClock()
    jumps = Wrong(right, 0.0)
    options = EngineOptions(minion_id="jumps", host="here", clock=jumps, lease_s=60)
    execo.open_queue(str(tmp_path / "sweep"), options).put([1])
    engine = execo.open_engine(str(tmp_path / "sweep"), options)
    for off_s in (3600.0, 0.0, -3600.0, 0.0):
        jumps.off_s = off_s
        began = right.monotonic()
        while not (found := engine.lease(1, 0)):
            right.advance(0.25)
            assert right.monotonic() - began < 10, off_s
        engine.nack(found, delay_s=8.0)


def test_a_full_disk_is_named_and_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab(tmp_path / "sweep")
    lab.queue().put([1])
    minion = lab.minion()
    (lease,) = minion.lease(1, 0)
    fsync = os.fsync

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EngineUnavailable, match=r"sweep: the disk is full .*: free some space$"):
        minion.started([lease])
    monkeypatch.setattr(os, "fsync", fsync)
    minion.started([lease])
    minion.ack([lease])
    assert minion.stats().drained

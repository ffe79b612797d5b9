"""FunctionCrew with real child processes: how runs, and what was started for them, end."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from driven import DEADLINE_S, Driven, alive, evil, leases, made

from minionize.contracts.crew import Verdict
from minionize.errors import HostUnfit
from minionize.values import Lease, to_text
from minionize.worker.guard import _ROUNDS, _ROUNDS_OVER, Guard


@pytest.fixture
def drive() -> Iterator[Callable[..., Driven]]:
    with made() as make:
        yield make


def test_a_time_out_kills_only_the_run_that_is_over_time(drive: Callable[..., Driven]) -> None:
    orders: list[Any] = [{"n": n} for n in range(50)]
    orders[20] = {"do": "sleep", "for": 1000}
    orders[30] = {"do": "hold the GIL"}
    ended = drive(evil, timeout_s=0.5).run(leases(*orders))
    failed = {
        id_: outcome.reason for id_, outcome in ended.items() if outcome.verdict.value != "done"
    }
    assert failed == {"21": "timeout", "31": "timeout"}
    assert ended["21"].seconds >= 0.5
    assert ended["21"].verdict is Verdict.FAILED


def test_revoked_params_are_never_started(drive: Callable[..., Driven], tmp_path: Any) -> None:
    def log(order: list[Any]) -> None:
        number, path, until = order
        with open(path, "a") as file:
            file.write(f"{number}\n")
        while number == 3 and not os.path.exists(until):
            time.sleep(0.01)

    path, until = tmp_path / "log", tmp_path / "go"
    driven = drive(log).ready()
    driven.crew.start(leases(*[[number, str(path), str(until)] for number in range(100)]))
    driven.until(lambda: len(driven.outcomes) == 3)
    back = driven.crew.revoke(0.0)
    assert [lease.param[0] for lease in back] == list(range(4, 100))
    assert [lease.id for lease, _ in driven.crew.running()] == ["4"]
    until.touch()
    driven.until(lambda: len(driven.outcomes) == 4)
    # What comes next is run, and nothing of what was taken back.
    driven.until(lambda: driven.crew.room(1e-5))
    driven.crew.start([Lease("last", to_text([999, str(path), str(until)]))])
    driven.until(lambda: len(driven.outcomes) == 5)
    assert path.read_text().split() == ["0", "1", "2", "3", "999"]


def test_revoke_leaves_what_waits_for_a_short_time(drive: Callable[..., Driven]) -> None:
    driven = drive(evil).ready()
    driven.crew.start(leases({"do": "sleep", "for": 0.2}, {}, {}))
    assert driven.crew.revoke(1000.0) == []
    driven.until(lambda: len(driven.outcomes) == 3)


def test_abort_ends_the_run_and_keeps_the_others(drive: Callable[..., Driven]) -> None:
    driven = drive(evil).ready()
    driven.crew.start(leases({"do": "sleep", "for": 1000}, {"n": 2}, {"n": 3}, {"n": 4}))
    driven.until(driven.crew.running)
    driven.crew.abort({"1", "3"})
    driven.until(lambda: len(driven.outcomes) == 4)
    ended = {outcome.lease.id: outcome.verdict for outcome in driven.outcomes}
    assert ended == {
        "1": Verdict.ABORTED,
        "2": Verdict.DONE,
        "3": Verdict.ABORTED,
        "4": Verdict.DONE,
    }


def test_terminate_unwinds_the_function_and_charges_nobody(
    drive: Callable[..., Driven], tmp_path: Any
) -> None:
    path = tmp_path / "pid"
    driven = drive(evil).ready()
    driven.crew.start(leases({"do": "touch and sleep", "path": str(path)}, {}, {}))
    driven.until(path.exists)
    driven.crew.terminate()
    driven.until(lambda: len(driven.outcomes) == 3)
    assert {outcome.verdict for outcome in driven.outcomes} == {Verdict.ABORTED}
    assert (tmp_path / "pid.cleaned").exists()
    driven.crew.start(leases({}))
    driven.until(lambda: len(driven.outcomes) == 4)
    assert driven.outcomes[-1].verdict is Verdict.ABORTED


def test_kill_ends_what_does_not_heed_term(drive: Callable[..., Driven]) -> None:
    driven = drive(evil).ready()
    driven.crew.start(leases({"do": "hold the GIL"}))
    driven.until(driven.crew.running)
    driven.crew.terminate()
    driven.crew.kill()
    driven.until(lambda: driven.outcomes)
    assert driven.outcomes[0].verdict is Verdict.ABORTED


def test_close_ends_everything_that_was_started(drive: Callable[..., Driven]) -> None:
    driven = drive(evil, slots=2).ready()
    ended = driven.run(leases({"do": "pid"}, {"do": "leave a child"}), seconds_each=None)
    driven.outcomes.clear()
    driven.crew.start([Lease("3", to_text({"do": "sleep", "for": 1000}))])
    driven.until(driven.crew.running)
    driven.crew.close()
    pids = [int(outcome.result or 0) for outcome in ended.values()]
    end = time.monotonic() + DEADLINE_S
    while any(map(alive, pids)):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_function_that_kills_its_parent_is_charged(drive: Callable[..., Driven]) -> None:
    driven = drive(evil)
    ended = driven.run(leases({}, {"do": "kill parent"}, {}, {}))
    assert {id_ for id_, end in ended.items() if end.verdict is Verdict.FAILED} == {"2"}
    assert len(driven.lines) == 1


def test_a_signal_to_the_minion_ends_a_wait(drive: Callable[..., Driven]) -> None:
    driven = drive(evil).ready()
    driven.crew.start(leases({"do": "sleep", "for": 1000}))
    driven.until(driven.crew.running)
    os.write(driven.wake, b"!")
    began = time.monotonic()
    assert driven.crew.wait(DEADLINE_S) == []
    assert time.monotonic() - began < DEADLINE_S / 2


def test_a_minion_that_stood_still_charges_nobody(drive: Callable[..., Driven]) -> None:
    guard = Guard.start()
    try:
        driven = drive(evil, slots=2, guard=guard).ready()
        guard.arm(driven.minion_id, lease_s=0.2)
        driven.crew.start(leases({"do": "sleep", "for": 1000}, {"do": "sleep", "for": 1000}))
        guard.beat()
        # No beat any more: the guard takes the minion for hung.
        driven.until(lambda: len(driven.outcomes) == 2)
        assert {outcome.verdict for outcome in driven.outcomes} == {Verdict.ABORTED}
        guard.arm(driven.minion_id, lease_s=1000)
        driven.ready()
        driven.crew.start([Lease("3", "{}")])
        driven.until(lambda: len(driven.outcomes) == 3)
        assert driven.outcomes[-1].verdict is Verdict.DONE
    finally:
        guard.close()


def test_who_is_killed_after_a_minion_stood_still_is_charged(drive: Callable[..., Driven]) -> None:
    """The guard was still at it when the functions were loaded."""
    guard = Guard.start()
    try:
        guard._head[_ROUNDS] = 1
        driven = drive(evil, guard=guard).ready()
        guard._head[_ROUNDS_OVER] = 1
        driven.crew.start(leases({"do": "die of KILL"}))
        driven.until(lambda: len(driven.outcomes) == 1)
        assert driven.outcomes[0].verdict is Verdict.FAILED
    finally:
        guard.close()


def test_where_no_process_can_be_started_nobody_is_charged(drive: Callable[..., Driven]) -> None:
    def no_more(param: int) -> int:
        import resource

        # What the parent is given for a new child does not fit any more.
        limit = resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE)
        resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (8, limit[1]))
        os._exit(1)

    driven = drive(no_more).ready()
    driven.crew.start(leases(1, 2))
    driven.until(lambda: len(driven.outcomes) == 2)
    assert [outcome.verdict for outcome in driven.outcomes] == [Verdict.FAILED, Verdict.CROWDED]
    assert driven.outcomes[1].reason.startswith("no process can be started")


@pytest.mark.parametrize("lack", ["descriptors", "folder"])
def test_where_no_new_parent_of_children_can_be_started_the_machine_is_to_blame(
    drive: Callable[..., Driven], tmp_path: Any, lack: str
) -> None:
    folder = tmp_path / "scratch"
    folder.mkdir()
    driven = drive(evil, env={**os.environ, "TMPDIR": str(folder)}).ready()
    assert driven.run(leases({}))["1"].verdict is Verdict.DONE
    given = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.kill(driven.crew._children._nursery.pid, signal.SIGKILL)
    try:
        if lack == "folder":
            folder.rmdir()
        else:
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, given[1]))
        with pytest.raises(HostUnfit, match="can't be started again") as raised:
            driven.until(lambda: False)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, given)
    says = {"folder": "No such file or directory: mend this host", "descriptors": "ulimit -n"}
    assert says[lack] in str(raised.value)
    with pytest.raises(HostUnfit):
        driven.crew.wait(0.0)

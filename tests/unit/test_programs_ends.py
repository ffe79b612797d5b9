"""Real programs in the slots of a crew: how they are ended, watched over, and found to be short."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from program_crews import Make, alive, end_of, ends, lease, made_crews, sh
from services.processes import until

from minionize.contracts.crew import Verdict
from minionize.worker.guard import Guard


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with made_crews(tmp_path) as make:
        yield make


# -- how runs are ended ----------------------------------------------------------------------


def test_a_timeout_ends_the_whole_group(make: Make, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    crew = make(
        sh(f"sleep 600 & echo $! >{pids}; sleep 600 & echo $! >>{pids}; wait"), timeout_s=0.3
    )
    crew.start([lease()])
    until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    outcome = ends(crew)[0]
    assert (outcome.verdict, outcome.reason) == (Verdict.FAILED, "timeout")
    until(lambda: not any(alive(int(pid)) for pid in pids.read_text().split()))


def test_a_timeout_ends_what_left_the_group_too(make: Make, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    crew = make(sh(f"setsid sh -c 'echo $$ >{pid}; exec sleep 600' & sleep 600"), timeout_s=0.3)
    crew.start([lease()])
    until(lambda: pid.exists() and pid.read_text().strip())
    assert ends(crew)[0].reason == "timeout"
    until(lambda: not alive(int(pid.read_text())))


def test_a_program_that_ignores_term_is_killed_after_the_grace(make: Make) -> None:
    crew = make(sh("trap '' TERM; while :; do sleep 0.05; done"), timeout_s=0.2, grace_s=0.3)
    outcome = end_of(crew)
    assert (outcome.reason, outcome.exit_status) == ("timeout", -signal.SIGKILL)
    assert outcome.seconds >= 0.5


def test_a_timeout_is_a_timeout_even_if_the_program_ends_well_then(make: Make) -> None:
    crew = make(sh("trap 'exit 0' TERM; while :; do sleep 0.05; done"), timeout_s=0.2)
    assert end_of(crew).verdict is Verdict.FAILED


def test_a_stopped_program_is_ended_as_well(make: Make) -> None:
    crew = make(sh("kill -STOP $$; sleep 600"), timeout_s=0.3)
    assert end_of(crew).reason == "timeout"


def test_terminate_gives_what_ended_well_as_done(make: Make, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    crew = make(sh(f"trap 'exit 0' TERM; touch {ready}; while :; do sleep 0.05; done"))
    crew.start([lease()])
    until(ready.exists)
    crew.terminate()
    assert ends(crew)[0].verdict is Verdict.DONE


@pytest.mark.parametrize(
    "script", ["sleep 600", "trap 'exit 75' TERM; while :; do sleep 0.05; done"]
)
def test_terminate_charges_nobody(make: Make, script: str) -> None:
    crew = make(sh(script))
    crew.start([lease()])
    time.sleep(0.1)
    crew.terminate()
    assert ends(crew)[0].verdict is Verdict.ABORTED


def test_abort_kills_only_those(make: Make) -> None:
    crew = make(sh("sleep 600"), slots=2)
    crew.start([lease(1, "1"), lease(2, "2")])
    crew.abort({"2"})
    outcome = ends(crew)[0]
    assert (outcome.lease.id, outcome.verdict) == ("2", Verdict.ABORTED)
    assert [run.id for run, _ in crew.running()] == ["1"]
    crew.kill()
    assert ends(crew)[0].verdict is Verdict.ABORTED


def test_close_ends_everything_and_leaves_no_descriptor(make: Make) -> None:
    before = len(os.listdir("/proc/self/fd"))
    crew = make(sh("sleep 600"), slots=3, capture=False)
    crew.start([lease(n, str(n)) for n in range(3)])
    pids = [slot.pid for slot in crew._running.values()]
    crew.close()
    assert not any(alive(pid) for pid in pids)
    assert len(os.listdir("/proc/self/fd")) == before


# -- the guard -------------------------------------------------------------------------------


def test_a_minion_that_stood_still_charges_none_of_its_programs(make: Make) -> None:
    guard = Guard.start()
    try:
        crew = make(sh("exec sleep 600"), slots=3, guard=guard)
        crew.start([lease(1, "1"), lease(2, "2"), lease(3, "3")])
        guard.arm("", lease_s=0.2)
        guard.beat()
        # No beat any more: the guard takes the minion for hung.
        outcomes = ends(crew, 3)
        assert {outcome.verdict for outcome in outcomes} == {Verdict.ABORTED}
        guard.arm("", lease_s=1000)
        guard.beat()
        until(lambda: not guard.killed_since(guard.rounds()))
        crew.start([lease(4, "4")])
        os.killpg(next(iter(crew._running.values())).pid, signal.SIGKILL)
        (outcome,) = ends(crew)
        assert (outcome.verdict, outcome.reason) == (Verdict.FAILED, "signal SIGKILL")
    finally:
        guard.close()


def test_a_program_that_the_guard_was_not_told_of_yet_does_not_outlive_the_lease() -> None:
    guard = Guard.start()
    try:
        guard.arm("m1-told-late", lease_s=0.2)
        before = guard.rounds()
        guard.starting()
        env = {**os.environ, "MINION_ID": "m1-told-late"}
        program = subprocess.Popen(["sleep", "600"], env=env, start_new_session=True)
        # And here the minion is stopped.
        assert program.wait(60) == -signal.SIGKILL
        assert guard.killed_since(before)
    finally:
        guard.close()


def guard_of_this_process() -> int:
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    named = [pid for pid in children if Path(f"/proc/{pid}/comm").read_text() == "minion-guard\n"]
    return int(named[0]) if named else 0


def test_a_guard_that_was_killed_is_replaced(make: Make) -> None:
    guard = Guard.start()
    try:
        until(guard_of_this_process)
        crew = make(sh("exec sleep 600"), guard=guard)
        crew.start([lease()])
        assert guard.watch() is None
        os.kill(guard_of_this_process(), signal.SIGKILL)
        lines: list[str] = []

        def noticed() -> bool:
            lines.append(guard.watch() or "")
            return bool(lines[-1])

        until(noticed)
        assert lines[-1] == "the guard process was killed (signal 9): started another"
        assert guard.watch() is None
        guard.arm("", lease_s=0.2)
        (outcome,) = ends(crew)
        assert outcome.verdict is Verdict.ABORTED
    finally:
        guard.close()
    assert not guard_of_this_process()

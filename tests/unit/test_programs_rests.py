"""What goes on in a run's process group when its main process has ended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from program_crews import Make, alive, end_of, ends, lease, made_crews, sh
from services.processes import until

from minionize.contracts.crew import Verdict
from minionize.worker.guard import Guard
from minionize.worker.orphans import Orphans
from minionize.worker.programs import ProgramCrew
from minionize.worker.rests import Rests, members


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with made_crews(tmp_path) as make:
        yield make


def left(crew: ProgramCrew) -> None:
    """Go on until a run's main process has ended, and something goes on."""
    until(lambda: not crew.wait(0.01) and crew._rests.slots)


@pytest.mark.parametrize("end", ["exit 0", "exit 3", "kill -SEGV $$"])
def test_the_rest_is_waited_for_however_the_main_process_ended(
    make: Make, tmp_path: Path, end: str
) -> None:
    go, out = tmp_path / "go", tmp_path / "out"
    script = f"(until test -e {go}; do sleep 0.01; done; echo whole >{out}) & {end}"
    crew = make(sh(script))
    crew.start([lease()])
    left(crew)
    assert [run.id for run, _ in crew.running()] == ["7"], "its lease is renewed"
    assert crew.room(None) == 0
    go.touch()
    (outcome,) = ends(crew)
    assert out.read_text() == "whole\n"
    assert (outcome.verdict is Verdict.DONE) == (end == "exit 0")


def test_output_of_the_rest_is_output_of_the_run(make: Make) -> None:
    outcome = end_of(make(sh("(sleep 0.3; echo late; echo err >&2) & echo early")))
    assert (outcome.stdout, outcome.stderr) == ("early\nlate\n", "err\n")


def test_a_file_is_kept_when_the_rest_has_written_it(make: Make, tmp_path: Path) -> None:
    out = tmp_path / "out"
    crew = make(sh("(sleep 0.3; seq 100000) &", stdout=str(out)), capture=False)
    assert end_of(crew).verdict is Verdict.DONE
    assert out.read_text() == "".join(f"{n}\n" for n in range(1, 100001))


def test_other_slots_do_not_wait_for_a_rest(make: Make) -> None:
    crew = make(sh("test $MINION_SLOT = 1 || sleep 600 &"), slots=2, grace_s=600)
    crew.start([lease(1, "1"), lease(2, "2")])
    (first,) = ends(crew)
    crew.start([lease(3, "3")])
    (second,) = ends(crew)
    assert first.slot == second.slot == 1
    assert len(crew.running()) == 1


def test_after_the_grace_the_rest_gets_term_and_that_is_said(make: Make, tmp_path: Path) -> None:
    told = tmp_path / "told"
    script = f"(trap 'echo told >{told}; exit' TERM; while :; do sleep 0.01; done) & sleep 0.1"
    outcome = end_of(make(sh(script), grace_s=0.5))
    assert outcome.verdict is Verdict.DONE
    assert "was ended: sh" in outcome.reason
    assert told.read_text() == "told\n"


def test_how_long_the_rest_went_on_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    orphans = Orphans("m")
    rests = Rests(orphans, None, 300.0)
    slot = SimpleNamespace(pid=77, lease=lease(), end="", rest=None, index=0)
    monkeypatch.setattr("minionize.worker.rests.members", lambda pgid: [(78, "cp")])
    monkeypatch.setattr("minionize.worker.rests.send", lambda pgid, number: None)
    monkeypatch.setattr(Rests, "_is_alive", lambda self, slot: True)
    rests.begin(slot, 0, None, 1000.0)  # type: ignore[arg-type]
    assert rests.look(1300.5) == []
    assert slot.rest.note == "its process group went on for 5 min after its end, and was ended: cp"


def test_what_ignores_term_is_killed(make: Make, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = f"(trap '' TERM; echo $$ >{pid}; while :; do sleep 0.05; done) & echo $! >{pid}"
    outcome = end_of(make(sh(script), grace_s=0.3))
    assert "was ended" in outcome.reason
    assert not alive(int(pid.read_text()))


def test_a_failed_run_says_what_it_left_in_its_detail(make: Make) -> None:
    outcome = end_of(make(sh("sleep 600 & echo why >&2; exit 3"), grace_s=0.2))
    assert (outcome.verdict, outcome.reason) == (Verdict.FAILED, "exit 3")
    assert outcome.detail.startswith("why\n") and "was ended: sleep" in outcome.detail


def test_a_rest_counts_for_the_time_out(make: Make, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    outcome = end_of(make(sh(f"sleep 600 & echo $! >{pid}"), timeout_s=0.5, grace_s=600))
    assert (outcome.verdict, outcome.reason) == (Verdict.FAILED, "timeout")
    assert not alive(int(pid.read_text()))


def test_a_stop_charges_nobody_for_a_rest_that_it_cut(make: Make) -> None:
    crew = make(sh("sleep 600 &"), grace_s=600)
    crew.start([lease()])
    left(crew)
    crew.terminate()
    (outcome,) = ends(crew)
    assert (outcome.verdict, outcome.reason) == (Verdict.ABORTED, "stopped")


def test_who_ends_well_when_told_to_stop_has_a_rest_too(make: Make, tmp_path: Path) -> None:
    ready, out = tmp_path / "ready", tmp_path / "out"
    script = (
        f"(trap '' TERM; while ! test -e {ready}2; do sleep 0.01; done; sleep 0.2; echo x >{out}) &"
        f" trap 'touch {ready}2; exit 0' TERM; touch {ready}; while :; do sleep 0.01; done"
    )
    crew = make(sh(script), grace_s=600)
    crew.start([lease()])
    until(ready.exists)
    crew.terminate()
    (outcome,) = ends(crew)
    assert outcome.verdict is Verdict.DONE and out.read_text() == "x\n"


def test_who_ends_well_when_told_to_stop_is_not_done_if_its_rest_is_killed(
    make: Make, tmp_path: Path
) -> None:
    ready = tmp_path / "ready"
    script = (
        "(trap '' TERM; exec sleep 600) & sleep 0.1;"
        f" trap 'exit 0' TERM; touch {ready}; while :; do sleep 0.01; done"
    )
    crew = make(sh(script))
    crew.start([lease()])
    until(ready.exists)
    crew.terminate()
    left(crew)
    crew.kill()
    assert ends(crew)[0].verdict is Verdict.ABORTED


def test_a_lost_lease_ends_a_rest(make: Make, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    crew = make(sh(f"sleep 600 & echo $! >{pid}"), grace_s=600)
    crew.start([lease()])
    left(crew)
    crew.abort({"7"})
    (outcome,) = ends(crew)
    assert (outcome.verdict, outcome.reason) == (Verdict.ABORTED, "lease lost")
    assert not alive(int(pid.read_text()))


def test_the_guard_knows_of_a_rest(make: Make, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    guard = Guard.start()
    try:
        script = f"env -u MINION_ID sleep 600 & echo $! >{pid}"
        crew = make(sh(script), guard=guard, grace_s=600)
        crew.start([lease()])
        left(crew)
        guard.arm("", lease_s=0.2)
        guard.beat()
        # No beat any more: the guard takes the minion for hung.
        (outcome,) = ends(crew)
        assert outcome.verdict is Verdict.ABORTED
        assert not alive(int(pid.read_text()))
    finally:
        guard.close()


def test_close_ends_a_rest(make: Make, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    before = len(os.listdir("/proc/self/fd"))
    crew = make(sh(f"sleep 600 & echo $! >{pid}"), grace_s=600, capture=False)
    crew.start([lease()])
    left(crew)
    crew.close()
    until(lambda: not alive(int(pid.read_text())))
    assert len(os.listdir("/proc/self/fd")) == before


def test_members_of_a_group_are_living_ones() -> None:
    group = os.getpgrp()
    assert os.getpid() in [pid for pid, _ in members(group)]
    child = os.fork()
    if not child:
        os._exit(0)
    until(lambda: not alive(child))
    assert child not in [pid for pid, _ in members(group)]
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize(
    ("daemon", "first"),
    [("setsid", "exit 0"), ("env -i setsid", "exit 0"), ("env -i setsid", "exit 3")],
)
def test_what_a_daemon_prints_after_its_run_is_no_output_of_another_run(
    make: Make, tmp_path: Path, daemon: str, first: str
) -> None:
    go, told = tmp_path / "go", tmp_path / "told"
    inner = f"until test -e {go}; do sleep 0.01; done; echo late; echo late >&2; touch {told}"
    script = (
        f'case $MINION_PARAM_ID in 1) {daemon} sh -c "{inner}" & {first} ;;'
        f" *) touch {go}; until test -e {told}; do sleep 0.01; done; echo mine ;; esac"
    )
    crew = make(sh(script), grace_s=0.2)
    end_of(crew, lease(1, "1"))
    second = end_of(crew, lease(2, "2"))
    assert (second.stdout, second.stderr) == ("mine\n", "")


def test_a_time_out_ends_what_left_the_group_with_the_rest(tmp_path: Path) -> None:
    script = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from program_crews import *\n"
        "with made_crews(Path(sys.argv[1])) as make:\n"
        "    crew = make(sh('setsid sleep 600 &'), timeout_s=0.3, grace_s=600, alone=True)\n"
        "    assert end_of(crew).reason == 'timeout'\n"
    )
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=os.path.dirname(__file__),
        timeout=120,
        check=True,
    )

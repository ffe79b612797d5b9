"""The end of a minion's job: the scheduler is asked before the minion ends by its own clock."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any

import pytest
from made_worker import Make, done, make_one

from minionize.settings import Settings
from minionize.settings.machine import NO_JOB, deadline, job
from minionize.worker import ending
from minionize.worker.wall_time import NEVER, WallTime, read_answer


@pytest.fixture
def make() -> Make:
    return make_one


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("RUNNING|2000|\n", 2000.0),
        ("RUNNING|N/A|\n", NEVER),
        ("COMPLETED|1000|\n", NEVER),  # a shell whose allocation is over
        ("slurm_load_jobs error: Invalid job id specified\n", NEVER),
        ("COMPLETING|1000|\n", None),
        ("RUNNING|2026-11-28T21:00:00|\n", None),
        ("slurm_load_jobs error: Unable to contact slurm controller\n", None),
        ("", None),
    ],
)
def test_what_squeue_tells(text: str, end: float | None) -> None:
    told = read_answer("squeue", text)
    assert (told and told.end) == end


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ('{"5": {"state": "Running", "startTime": 1000, "walltime": "60"}}', 1060.0),
        ('{"5": {"state": "Terminated", "startTime": 1000, "walltime": 60}}', None),
        ('{"5": {"state": "Running", "startTime": 1000, "walltime": null}}', None),
        ('{"5": {"state": "Running"}}', None),
        ("[]", None),
        ("DB connection error", None),
    ],
)
def test_what_oarstat_tells(text: str, end: float | None) -> None:
    told = read_answer("oarstat", text)
    assert (told and told.end) == end


@pytest.mark.parametrize(
    ("env", "asks"),
    [
        ({"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": "2000"}, True),
        ({"SLURM_JOB_END_TIME": "2000"}, False),
        ({"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": "2000", "MINION_DEADLINE": "1500"}, False),
        ({"OAR_JOB_ID": "7", "OAR_JOB_WALLTIME_SECONDS": "60"}, True),
        ({"PBS_JOBID": "7", "PBS_WALLTIME": "60"}, False),
        ({}, False),
    ],
)
def test_an_end_that_a_person_has_set_is_not_asked_for(env: dict[str, str], asks: bool) -> None:
    found = deadline(env, 1000.0)
    settings = Settings(env=env, deadline=None if found is None else found[0])
    assert (WallTime.of(settings, 1000.0) is not None) is asks


@pytest.mark.parametrize(
    ("env", "name"),
    [
        ({"SLURM_JOB_ID": "7", "SLURM_CLUSTER_NAME": "t"}, "slurm:t:7"),
        ({"OAR_JOB_ID": "7"}, "oar::7"),
        ({"PBS_JOBID": "7.host"}, "pbs::7.host"),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, NO_JOB),
        ({}, NO_JOB),
    ],
)
def test_jobs_by_their_variables(env: dict[str, str], name: str) -> None:
    assert job(env) == name


@pytest.mark.parametrize(
    ("inner", "outer", "heeded"),
    [
        ({"SLURM_JOB_ID": "7"}, "slurm::5", False),
        ({"SLURM_JOB_ID": "7"}, NO_JOB, False),
        ({"SLURM_JOB_ID": "7"}, "slurm::7", True),
        ({"SLURM_JOB_ID": "7"}, None, True),  # a person's own
        ({"SLURM_JOB_ID": "7", "MINION_ID": "of a run in no job"}, None, False),
        ({}, NO_JOB, True),
        ({}, "slurm::5", True),  # a container of a run
    ],
)
def test_a_deadline_of_a_run_in_another_job_is_not_heeded(
    inner: dict[str, str], outer: str | None, heeded: bool
) -> None:
    env = {**inner, "MINION_DEADLINE": "2000", **({} if outer is None else {"MINION_JOB": outer})}
    assert deadline(env, 1000.0) == ((2000.0, "MINION_DEADLINE") if heeded else None)


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a `squeue` of this text; returns the environment of a job whose end is told to be in
    `left_s` seconds."""

    def make(text: str, left_s: float) -> dict[str, str]:
        (tmp_path / "squeue").write_text(f"#!/bin/sh\necho >>{tmp_path}/asked\n{text}\n")
        (tmp_path / "squeue").chmod(0o755)
        path = f"{tmp_path}:/usr/bin:/bin"
        monkeypatch.setenv("PATH", path)
        end = f"{time.time() + left_s:.3f}"
        return {"PATH": path, "SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": end}

    monkeypatch.setattr(ending, "_LATE_S", 1.0)
    return make


def run(make: Make, env: dict[str, str], **more: Any) -> tuple[float, str, int]:
    end = float(env["SLURM_JOB_END_TIME"])
    made = make(lambda lease: None, [1, 2], env=env, deadline=end, grace_s=0.0, **more)
    began = time.monotonic()
    summary = made.run()
    return time.monotonic() - began, summary.why, summary.exit_status


def test_a_wall_time_that_was_made_longer(make: Make, squeue: Any) -> None:
    """And is over then."""
    end = int(time.time()) + 6
    env = squeue(f"echo 'RUNNING|{end}|'", 2.5)
    _, why, status = run(make, env)
    assert abs(time.time() - (end - 2.0)) < 1.0
    assert (why, status) == ("its time is over", 75)


def test_one_that_was_not(make: Make, squeue: Any, tmp_path: Path) -> None:
    env = squeue('echo "RUNNING|${SLURM_JOB_END_TIME%.*}|"', 3.0)
    took, why, status = run(make, env)
    assert took < 2.5
    assert (why, status) == ("its time is over", 75)
    assert (tmp_path / "asked").exists()


@pytest.mark.parametrize("text", ["exec sleep 600", "exit 1", "echo nonsense"])
def test_a_scheduler_that_does_not_say_it(make: Make, squeue: Any, text: str) -> None:
    """Then our own clock counts, at most a little late."""
    took, why, status = run(make, squeue(text, 2.5))
    assert 0.2 < took < 3.0
    assert (why, status) == ("its time is over", 75)


def test_variables_of_an_allocation_that_is_over(make: Make, squeue: Any) -> None:
    """It was cancelled before its time."""
    env = squeue("echo 'COMPLETED|1000|'", 2.5)
    end = float(env["SLURM_JOB_END_TIME"])
    _, why, status = run(make, env, max_time_s=4.0)
    assert (why, status) == ("its time is over", 75)
    assert time.time() > end
    over = {**env, "SLURM_JOB_END_TIME": "1000"}
    assert deadline(over, time.time()) is None


def test_too_little_time_for_more_does_not_wait_for_the_very_end(
    make: Make, squeue: Any, tmp_path: Path
) -> None:
    end = time.time() + 14.0
    env = squeue(f"echo 'RUNNING|{end:.0f}|'", 14.0)
    made = make(done, [1], env=env, deadline=end, grace_s=0.0, min_left_s=11.0, until="forever")
    began = time.monotonic()
    assert made.run().why.startswith("less than ")
    assert time.monotonic() - began < 4.0
    assert (tmp_path / "asked").exists()


def test_a_longer_wall_time_makes_no_other_limit_longer(
    make: Make, squeue: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "_ASK_BEFORE_S", 1.0)
    env = squeue(f"echo 'RUNNING|{time.time() + 900:.0f}|'", 300.0)
    took, why, _ = run(make, env, max_time_s=2.5)
    assert why == "its time is over"
    assert 2.4 < took < 3.6


@pytest.mark.parametrize("system", ["old kernel", "old Python", "no room"])
def test_an_answer_where_there_are_no_files_in_memory(
    squeue: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, system: str
) -> None:
    env = {**squeue("echo 'RUNNING|2000|'", 100.0), "TMPDIR": str(tmp_path)}

    def refused(*args: object) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    if system == "old Python":
        monkeypatch.delattr(os, "memfd_create")
    else:
        monkeypatch.setattr(os, "memfd_create", refused)
    if system == "no room":
        monkeypatch.setattr("minionize.worker.spool.open_unlinked", refused)
    wall_time = WallTime(["squeue"], env)
    wall_time.ask(0.0)
    while (told := wall_time.answer(0.0)) is None and wall_time.asking:
        time.sleep(0.01)
    assert (told and told.end) == (None if system == "no room" else 2000.0)
    assert not wall_time.asking

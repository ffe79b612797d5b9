"""How a minion takes its leave of its scheduler: 99, a requeue, or the plain status."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest

from minionize.settings import Settings
from minionize.worker import leaving
from minionize.worker.leaving import Farewell, farewell, is_idempotent, output_of, take_leave
from minionize.worker.summary import Summary

CUT = Summary(exit_status=75, cut_short=True)


@pytest.mark.parametrize(
    ("exit_status", "cut_short"),
    [(0, True), (1, True), (69, False), (70, False), (75, False), (130, False), (2, True)],
)
@pytest.mark.parametrize("started_by", ["oar", "slurm", "kubernetes", "pbs", ""])
def test_only_work_that_was_cut_short_is_begun_again(
    exit_status: int, cut_short: bool, started_by: str
) -> None:
    summary = Summary(exit_status=exit_status, cut_short=cut_short)
    assert farewell(summary, started_by, True) == Farewell(exit_status)


@pytest.mark.parametrize(
    ("started_by", "requeue", "age_s", "told"),
    [
        ("oar", True, 3600.0, Farewell(99)),
        ("oar", True, 62.0, Farewell(99)),
        ("oar", True, 20.0, Farewell(99, wait_s=42.0)),
        ("oar", False, 3600.0, Farewell(75)),
        ("oar", None, 3600.0, Farewell(75)),
        ("slurm", True, 1.0, Farewell(75, requeue=True)),
        ("slurm", None, 1.0, Farewell(75)),
        ("slurm", False, 1.0, Farewell(75)),
        ("kubernetes", True, 1.0, Farewell(75)),
        ("pbs", True, 1.0, Farewell(75)),
        ("", True, 1.0, Farewell(75)),
    ],
)
def test_what_each_scheduler_needs(
    started_by: str, requeue: bool | None, age_s: float, told: Farewell
) -> None:
    assert farewell(CUT, started_by, requeue, age_s) == told


class Scheduler:
    """Answers as its commands would, and notes what it was asked."""

    def __init__(self, **answers: str | None) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def __call__(self, command: list[str], env: Mapping[str, str]) -> str | None:
        self.asked.append(" ".join(command))
        return self.answers.get(command[0])


def leave(scheduler: Scheduler, env: dict[str, str], **settings: Any) -> tuple[int, list[str]]:
    summary = Summary(exit_status=75, cut_short=True)
    lines: list[str] = []
    take_leave(summary, Settings(env=env, **settings), lines.append, scheduler)
    return summary.exit_status, lines


def test_a_running_job_of_slurm_is_requeued() -> None:
    scheduler = Scheduler(squeue="RUNNING\n", scontrol="")
    status, lines = leave(scheduler, {"SLURM_JOB_ID": "7"}, requeue=True)
    assert status == 75
    assert scheduler.asked == ["squeue --noheader --format=%T --jobs=7", "scontrol requeue 7"]
    assert lines == ["job 7 is requeued, since params remain"]


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ({"squeue": "CANCELLED\n"}, "job 7 is CANCELLED already: whether"),
        ({"squeue": "COMPLETING\n"}, "job 7 is COMPLETING already: whether"),
        ({"squeue": ""}, "Slurm does not tell the state of job 7"),
        ({}, "Slurm does not tell the state of job 7"),
    ],
)
def test_a_job_that_was_cancelled_does_not_come_back(answers: dict[str, str], says: str) -> None:
    scheduler = Scheduler(**answers)
    status, lines = leave(scheduler, {"SLURM_JOB_ID": "7"}, requeue=True)
    assert status == 75
    assert len(scheduler.asked) == 1
    assert says in lines[0]


def test_a_refusal_is_told() -> None:
    status, lines = leave(Scheduler(squeue="RUNNING"), {"SLURM_JOB_ID": "7"}, requeue=True)
    assert status == 75
    assert "refused to requeue job 7: was it submitted with --requeue?" in lines[0]


def test_slurm_is_not_asked_where_nobody_wants_it() -> None:
    scheduler = Scheduler()
    assert leave(scheduler, {"SLURM_JOB_ID": "7"}) == (75, [])
    assert scheduler.asked == []


@pytest.fixture
def old(monkeypatch: pytest.MonkeyPatch) -> None:
    """The job began an hour ago."""
    monkeypatch.setattr(leaving, "job_age_s", lambda env, variable: 3600.0)


TYPES = json.dumps({"7": {"types": ["besteffort", "idempotent"]}})


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (TYPES, True),
        (json.dumps({"7": {"types": []}}), False),
        (json.dumps({"7": {"types": ["besteffort"]}}), False),
        (json.dumps({"7": {"types": "besteffort, idempotent"}}), True),
        (json.dumps({"7": {}}), False),
        ("[]", False),
        ("oops", False),
        (None, False),
    ],
)
def test_oar_is_asked_whether_a_job_is_idempotent(answer: str | None, told: bool) -> None:
    scheduler = Scheduler(oarstat=answer)
    assert is_idempotent({"OAR_JOB_ID": "7"}, scheduler) is told
    assert scheduler.asked == ["oarstat -f -J -j 7"]


@pytest.mark.usefixtures("old")
def test_an_idempotent_job_of_oar_ends_with_99() -> None:
    env = {"OAR_JOB_ID": "7"}
    assert leave(Scheduler(oarstat=TYPES), env) == (99, [])
    assert leave(Scheduler(), env) == (75, [])
    never = Scheduler(oarstat=TYPES)
    assert leave(never, env, requeue=True) == (99, [])
    assert leave(never, env, requeue=False) == (75, [])
    assert never.asked == []


def test_a_young_job_waits_until_oar_would_resubmit_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving, "job_age_s", lambda env, variable: 61.5)
    began = time.monotonic()
    status, lines = leave(Scheduler(), {"OAR_JOB_ID": "7"}, requeue=True)
    assert status == 99
    assert time.monotonic() - began >= 0.5
    assert "staying for 0 s more" in lines[0]


def test_a_second_signal_ends_the_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import signal

    monkeypatch.setattr(leaving, "job_age_s", lambda env, variable: 1.0)
    before = signal.getsignal(signal.SIGTERM)

    def knock() -> None:
        while signal.getsignal(signal.SIGTERM) is before:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    knocks = threading.Thread(target=knock)
    knocks.start()
    began = time.monotonic()
    assert leave(Scheduler(), {"OAR_JOB_ID": "7"}, requeue=True)[0] == 99
    assert time.monotonic() - began < 30
    knocks.join()
    assert signal.getsignal(signal.SIGTERM) is before


def test_commands_that_fail_or_are_missing_give_no_answer() -> None:
    env = {"PATH": "/usr/bin:/bin"}
    assert output_of(["echo", "a"], env) == "a\n"
    assert output_of(["false"], env) is None
    assert output_of(["no-such-command-of-a-scheduler"], env) is None


def test_no_variable_changes_what_a_scheduler_is_asked() -> None:
    env = {"PATH": "/usr/bin:/bin", "SQUEUE_USERS": "nobody", "SLURM_CONF": "here"}
    assert output_of(["sh", "-c", "echo $SQUEUE_USERS $SLURM_CONF"], env) == "here\n"

"""What schedulers print about jobs, and what becomes of it: states, severity, replacement."""

from __future__ import annotations

import pytest

from minionize.launch.decisions import REST_S, TRIES, Progress, missing
from minionize.launch.oar_states import job_of_oarstat
from minionize.launch.severity import worst
from minionize.launch.slurm import _shares
from minionize.launch.slurm_states import job_of_sacct, job_of_squeue
from minionize.launch.values import Job, JobState
from minionize.values import Stats


@pytest.mark.parametrize(
    ("line", "job"),
    [
        ("1_3|PENDING||0|Resources|", Job("1_3", JobState.PENDING, "", "pending, Resources")),
        ("1_3|PENDING||0|None|", Job("1_3", JobState.PENDING, "", "pending")),
        ("1_1|RUNNING|n1|0|None|", Job("1_1", JobState.RUNNING, "n1", "running")),
        ("1_1|COMPLETED|n1|0|None|", Job("1_1", JobState.ENDED, "n1", "exit 0")),
        ("1_1|FAILED|n1|19200|NonZero|", Job("1_1", JobState.ENDED, "n1", "exit 75")),
        ("1_1|FAILED|n1|17920|NonZero|", Job("1_1", JobState.FAILED, "n1", "exit 70")),
        ("1_1|FAILED|n1|9|NonZero|", Job("1_1", JobState.FAILED, "n1", "signal 9")),
        ("1_4|CANCELLED|n2|15|None|", Job("1_4", JobState.CANCELLED, "n2", "cancelled")),
        ("1_4|TIMEOUT|n2|0|None|", Job("1_4", JobState.FAILED, "n2", "timeout")),
        ("1_4|OUT_OF_MEMORY|n2|0|None|", Job("1_4", JobState.FAILED, "n2", "out_of_memory")),
    ],
)
def test_squeue(line: str, job: Job) -> None:
    assert job_of_squeue(line) == job


@pytest.mark.parametrize(
    ("line", "job"),
    [
        ("8_1|COMPLETED|n1|0:0", Job("8_1", JobState.ENDED, "n1", "exit 0")),
        ("8_1|FAILED|n1|75:0", Job("8_1", JobState.ENDED, "n1", "exit 75")),
        ("8_1|FAILED|n1|2:0", Job("8_1", JobState.FAILED, "n1", "exit 2")),
        ("8_1|CANCELLED by 0|None assigned|0:0", Job("8_1", JobState.CANCELLED, "", "cancelled")),
        ("8_1|CANCELLED+|n1|0:15", Job("8_1", JobState.CANCELLED, "n1", "cancelled")),
        ("8_[2-9]|PENDING|None assigned|0:0", Job("8_[2-9]", JobState.PENDING, "", "pending")),
    ],
)
def test_sacct(line: str, job: Job) -> None:
    assert job_of_sacct(line) == job


@pytest.mark.parametrize(
    ("row", "job"),
    [
        ({"state": "Waiting"}, Job("4", JobState.PENDING, "", "waiting")),
        (
            {"state": "Running", "assigned_network_address": ["n1", "n2"], "exit_code": None},
            Job("4", JobState.RUNNING, "n1,n2", "running"),
        ),
        ({"state": "Terminated", "exit_code": 0}, Job("4", JobState.ENDED, "", "exit 0")),
        ({"state": "Terminated", "exit_code": 99 << 8}, Job("4", JobState.ENDED, "", "exit 99")),
        ({"state": "Error", "exit_code": "512"}, Job("4", JobState.FAILED, "", "exit 2")),
        ({"state": "Terminated", "exit_code": 9}, Job("4", JobState.FAILED, "", "signal 9")),
        ({"state": "Terminated", "exit_code": 2}, Job("4", JobState.FAILED, "", "signal 2")),
        (
            {"state": "Terminated", "exit_code": 2, "events": [{"type": "SIGNAL_INT"}]},
            Job("4", JobState.CANCELLED, "", "cancelled"),
        ),
        ({"state": "Error", "exit_code": None}, Job("4", JobState.CANCELLED, "", "killed")),
        ({"state": "Odd"}, Job("4", JobState.UNKNOWN, "", "odd")),
    ],
)
def test_oarstat(row: dict[str, object], job: Job) -> None:
    assert job_of_oarstat("4", row) == job


def test_only_pending_and_running_are_alive() -> None:
    assert [state.value for state in JobState if state.alive] == ["pending", "running"]


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        ([], 0),
        ([0, 0], 0),
        ([0, 1], 1),
        ([1, 75, 0], 75),
        ([75, 2], 2),
        ([2, 70], 70),
        ([137, 70], 137),
    ],
)
def test_the_worst_status(statuses: list[int], status: int) -> None:
    assert worst(statuses) == status
    assert worst(reversed(statuses)) == status


@pytest.mark.parametrize(
    ("minions", "limit", "shares"),
    [(1, 5, [1]), (5, 5, [5]), (6, 5, [3, 3]), (11, 5, [4, 4, 3]), (2000, 1000, [1000, 1000])],
)
def test_arrays_within_the_sites_limit(minions: int, limit: int, shares: list[int]) -> None:
    assert _shares(minions, limit) == shares


def stats(
    waiting: int = 0, running: int = 0, delayed: int = 0, minions: int | None = None
) -> Stats:
    return Stats(put=100, waiting=waiting, running=running, delayed=delayed, done=0, dead=0,
                 minions=minions)  # fmt: skip


@pytest.mark.parametrize(
    ("found", "alive", "count"),
    [
        (stats(waiting=50), 3, 5),
        (stats(waiting=50), 8, 0),
        (stats(waiting=50), 9, 0),
        (stats(waiting=2), 3, 2),  # no more than there is to do
        (stats(delayed=1), 0, 1),
        (stats(running=4, minions=4), 3, 0),  # others hold what is left
        (stats(running=4, minions=4), 0, 0),
        (stats(running=4, minions=0), 0, 1),  # nobody takes over what the dead held
        (stats(), 0, 0),
        (stats(waiting=50)._replace(paused=True), 0, 0),
        (Stats(), 3, 5),  # a broker that can't count
    ],
)
def test_how_many_are_missing_of_8(found: Stats, alive: int, count: int) -> None:
    assert missing(found, alive, 8) == count


def test_what_is_broken_isnt_submitted_for_ever() -> None:
    progress = Progress(8)
    found, now, submitted = stats(waiting=5), 0.0, 0
    while not progress.hopeless:
        submitted += progress.worth_it(found, now)
        now += REST_S / 3
        assert now < 1000
    assert submitted == TRIES


def test_where_what_is_delayed_is_not_told_what_waits_is_taken() -> None:
    assert missing(stats(waiting=5)._replace(delayed=None), 0, 8) == 5


def test_between_a_submission_that_brought_nothing_and_the_next_is_a_rest() -> None:
    progress, found = Progress(8), stats(waiting=5)
    assert progress.worth_it(found, 100.0)
    assert not progress.worth_it(found, 100.0 + REST_S / 2)
    assert progress.worth_it(found, 100.0 + REST_S)
    assert not progress.worth_it(found, 100.0 + 1.5 * REST_S)


def test_what_goes_on_is_submitted_for_ever() -> None:
    progress = Progress(8)
    for done in range(50):
        assert progress.worth_it(stats(waiting=50)._replace(done=done), float(done))

"""The contract of docs/preemption.md, for each scheduler: its variables, its signals, and the exit
status or the request that makes it do the right thing."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from preempted import LONG, a_field, asked, began, fake, nothing_was_lost
from storming import Field, until


@pytest.fixture
def field(tmp_path: Path) -> Iterator[Field]:
    with a_field(tmp_path) as field:
        yield field


# ---- OAR
IDEMPOTENT = 'echo \'{"7": {"types": ["besteffort", "idempotent"]}}\''
OAR = {"OAR_JOB_ID": "7"}


@pytest.fixture
def old_job(field: Field) -> Field:
    """A field whose minions find a job that began two minutes ago: a process of it, above them,
    that slept while the clock was not looked at."""
    field.env |= OAR
    field.env["PYTHONPATH"] = f"{field.folder / 'site'}:{field.env['PYTHONPATH']}"
    (field.folder / "site").mkdir()
    (field.folder / "site/sitecustomize.py").write_text(
        "from minionize.settings import machine\nmachine.job_age_s = lambda env, variable: 120.0\n"
    )
    return field


def test_an_idempotent_job_of_oar_that_was_preempted_ends_with_99(old_job: Field) -> None:
    fake(old_job, oarstat=IDEMPOTENT)
    old_job.put(range(2))
    minion = old_job.script(LONG)
    until(lambda: began(old_job))
    minion.send_signal(signal.SIGUSR2)
    assert old_job.ended(minion) == 99, old_job.said(minion)
    assert asked(old_job) == ["oarstat -f -J -j 7"]
    nothing_was_lost(old_job, waiting=2)


@pytest.mark.parametrize(
    ("oarstat", "args", "status"),
    [
        ('echo \'{"7": {"types": ["besteffort"]}}\'', [], 75),
        ("exit 1", [], 75),
        ("exit 1", ["--requeue"], 99),
        (IDEMPOTENT, ["--no-requeue"], 75),
    ],
)
def test_other_jobs_of_oar(old_job: Field, oarstat: str, args: list[str], status: int) -> None:
    fake(old_job, oarstat=oarstat)
    old_job.put(range(2))
    minion = old_job.script(LONG, *args)
    until(lambda: began(old_job))
    minion.send_signal(signal.SIGUSR2)
    assert old_job.ended(minion) == status, old_job.said(minion)


def test_a_drained_queue_is_never_99(old_job: Field) -> None:
    """The warning comes while the last param runs, and that ends well within its grace."""
    fake(old_job, oarstat=IDEMPOTENT)
    old_job.put(["x"])
    script = "trap 'exit 0' TERM; touch 1.pid; while :; do sleep 0.05; done"
    minion = old_job.script(script)
    until(lambda: began(old_job))
    minion.send_signal(signal.SIGUSR2)
    assert old_job.ended(minion) == 0, old_job.said(minion)
    assert asked(old_job) == []


def test_neither_a_person_nor_minion_stop_brings_a_job_back(old_job: Field) -> None:
    fake(old_job, oarstat=IDEMPOTENT)
    old_job.put(range(2))
    minion = old_job.script(LONG, "--lease", "2")
    until(lambda: began(old_job))
    old_job.ended(old_job.command("stop", "-q", str(old_job.queue)))
    assert old_job.ended(minion) == 75, old_job.said(minion)
    assert asked(old_job) == []


def test_a_young_job_waits_and_heeds_another_signal(field: Field) -> None:
    fake(field, oarstat=IDEMPOTENT)
    field.put(range(2))
    field.env |= OAR
    minion = field.script(LONG)
    until(lambda: began(field))
    minion.send_signal(signal.SIGUSR2)
    until(lambda: "another signal ends this at once" in field.said(minion))
    # Meanwhile others can have what it held.
    nothing_was_lost(field, waiting=2)
    assert minion.poll() is None
    minion.terminate()
    assert field.ended(minion) == 99, field.said(minion)


# ---- Slurm
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_slurm_is_asked_to_requeue_after_all_was_given_back(field: Field, number: int) -> None:
    here = f"{sys.executable} -c 'from minionize.cli.minion import main; main()'"
    fake(
        field,
        squeue="echo RUNNING",
        scontrol=f"{here} status --json -q {field.queue} >{field.folder}/then",
    )
    field.put(range(2))
    field.env |= {"SLURM_JOB_ID": "7", "MINION_REQUEUE": "1"}
    minion = field.script(LONG)
    until(lambda: began(field))
    minion.send_signal(number)
    assert field.ended(minion) == 75, field.said(minion)
    assert asked(field)[-1] == "scontrol requeue 7"
    assert json.loads((field.folder / "then").read_text())["waiting"] == 2


def test_a_cancelled_job_of_slurm_stays_cancelled(field: Field) -> None:
    fake(field, squeue="echo CANCELLED", scontrol="true")
    field.put(range(2))
    field.env |= {"SLURM_JOB_ID": "7"}
    minion = field.script(LONG, "--requeue")
    until(lambda: began(field))
    minion.terminate()
    assert field.ended(minion) == 75, field.said(minion)
    assert [line.split()[0] for line in asked(field)] == ["squeue"]


def test_a_drained_queue_is_not_requeued(field: Field) -> None:
    fake(field, squeue="echo RUNNING", scontrol="true")
    field.put(["x"])
    field.env |= {"SLURM_JOB_ID": "7", "MINION_REQUEUE": "1"}
    assert field.ended(field.script("true")) == 0
    assert asked(field) == []


# ---- Kubernetes
POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


def test_a_pod_ends_with_0_only_when_nobody_holds_anything(field: Field) -> None:
    field.put(["x"])
    field.env |= POD
    holder = field.script("touch 1.pid; until test -e go; do sleep 0.05; done", "--lease", "4")
    until(lambda: began(field))
    idle = [field.script("true", "--lease", "4", "--idle", "0.5") for _ in range(2)]
    until(lambda: (field.stats().minions or 0) == 3)
    time.sleep(4)
    assert [one.poll() for one in idle] == [None, None]
    (field.folder / "go").touch()
    assert [field.ended(one) for one in (holder, *idle)] == [0, 0, 0]


def test_a_pod_tells_dead_letters_by_1_and_disruption_by_75(field: Field) -> None:
    field.put(range(2))
    field.env |= POD
    assert field.ended(field.script("exit 65", "--max-params", "1")) == 75
    assert field.ended(field.script("exit 65")) == 1

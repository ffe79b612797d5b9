"""`minion launch slurm` on a real Slurm of two nodes, which preempts, ends and cancels."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from launch_texts import SLURM
from services.processes import until
from services.slurm import Slurm, lacking
from sites import MINION, SlurmSite, at_work

from minionize.events import Kind

PATIENCE_S = 180.0


@pytest.fixture
def site(tmp_path: Path, needs_server: Callable[[str], NoReturn]) -> Iterator[SlurmSite]:
    with at_work(Slurm(tmp_path / "slurm", array_size=5), lacking(), needs_server) as slurm:
        yield SlurmSite(slurm, tmp_path)


def test_an_array_drains_the_queue(site: SlurmSite) -> None:
    """More minions than an array of the site may have, fewer nodes than minions, more params."""
    site.feed(60)
    script = 'sleep 0.2; echo "$SLURM_ARRAY_TASK_ID hi $1"'
    said = site.launch("-n", "6", "--name", "it's 50%", "--wall-time", "5m", "--wait",
                       command=["sh", "-c", script, "x"])  # fmt: skip
    assert said.splitlines()[0].startswith("slurm-1: 6 minions submitted in 2 arrays")
    assert said.splitlines()[-1] == "60 done, 0 dead"
    until(lambda: set(site.jobs("slurm-1").values()) == {"ended"}, site.told)
    assert len(site.jobs("slurm-1")) == 6
    lines = site.minion("logs").splitlines()
    assert sorted(int(line.split()[-1]) for line in lines if " hi " in line) == list(range(60))
    assert len({line.split()[0] for line in lines}) > 1
    for line in lines:
        job, _, rest = line.partition(": ")
        assert " hi " not in rest or job.partition("_")[2] == rest.split()[0]
    assert {event.kind for event in site.events()} == {Kind.BEGIN, Kind.ACK, Kind.END}


def test_preempted_minions_give_back_and_go_on(site: SlurmSite) -> None:
    """Jobs of another partition take both nodes; the minions are requeued, and nobody pays."""
    site.feed(40)
    begun = site.folder / "begun"
    script = f'echo >>{begun}; sleep 1; mkdir -p "$MINION_CHECKPOINT_DIR"'
    site.launch("-n", "2", "--wall-time", "5m", "-O", "partition=low", "--grace", "0",
                command=["sh", "-c", script])  # fmt: skip
    until(begun.exists, site.told)
    high = [
        site.slurm.ok("sbatch", "--parsable", "--partition=high", "--wrap=sleep 5").strip()
        for _ in range(2)
    ]
    until(lambda: site.slurm.states().get(high[0]) == "RUNNING", site.told)
    until(lambda: site.jobs("slurm-1") == {"1_1": "pending", "1_2": "pending"}, site.told)
    until(lambda: site.stats().running == 0, site.told)
    assert 0 < (site.stats().waiting or 0) < 40
    assert site.attempts() == {(1, 0)}
    until(lambda: {site.slurm.states().get(job) for job in high} == {"COMPLETED"}, site.told)
    # Slurm lets requeued jobs rest for a minute or two.
    for task in ("1_1", "1_2"):
        site.slurm.call("scontrol", "update", f"jobid={task}", "starttime=now")
    until(lambda: site.stats().drained, site.told, timeout_s=PATIENCE_S)
    found = site.stats()
    assert (found.done, found.dead) == (40, 0)
    until(lambda: set(site.jobs("slurm-1").values()) == {"ended"}, site.told)


def test_the_wall_time_costs_nothing(site: SlurmSite) -> None:
    """A run that is too long for it is given back uncharged, before Slurm kills it."""
    site.feed(2)
    begun = site.folder / "begun"
    site.launch("--wall-time", "1m", "-O", "requeue=no", "-O", "warn=20", "--grace", "1",
                command=["sh", "-c", f"echo >>{begun}; sleep 600"])  # fmt: skip
    until(begun.exists, site.told)
    began = time.monotonic()
    until(lambda: site.jobs("slurm-1") == {"1_1": "ended"}, site.told, timeout_s=90)
    assert time.monotonic() - began < 62
    assert site.attempts() == {(1, 0)}
    assert site.stats().waiting == 2
    assert site.minion("jobs", "slurm-1").splitlines()[1].split() == [
        "1_1",
        "ended",
        "n1",
        "exit",
        "75",
    ]


def test_a_wall_time_that_was_made_longer(site: SlurmSite) -> None:
    """By the end that it was told at first it asks, and goes on."""
    site.feed(1)
    begun = site.folder / "begun"
    site.launch("--wall-time", "1m", "-O", "warn=10", "--grace", "1",
                command=["sh", "-c", f"echo >>{begun}; sleep 65"])  # fmt: skip
    until(begun.exists, site.told)
    site.slurm.ok("scontrol", "update", "jobid=1_1", "timelimit=5")
    until(lambda: site.stats().drained, site.told, timeout_s=PATIENCE_S)
    assert (site.stats().done, site.attempts()) == (1, set())
    assert begun.read_text() == "\n"
    assert "this job ends at" in site.minion("logs")


def test_cancelled_minions_give_back(site: SlurmSite) -> None:
    site.feed(9)
    begun = site.folder / "begun"
    site.launch("-n", "4", command=["sh", "-c", f"echo >>{begun}; sleep 600"])
    until(lambda: begun.exists() and begun.read_text().count("\n") == 2, site.told)
    assert "4 minions told to end" in site.minion("cancel", "slurm-1")
    until(lambda: site.stats().waiting == 9, site.told)
    until(lambda: set(site.jobs("slurm-1").values()) == {"cancelled"}, site.told)
    assert site.attempts() == {(1, 0)}
    assert "0 minions told to end" in site.minion("cancel", "slurm-1")


def test_resubmit_keeps_minions_alive(site: SlurmSite) -> None:
    """Minions that end before the work does are replaced by others."""
    site.feed(8)
    said = site.launch("-n", "2", "--resubmit", "--max-params", "2", command=["sleep", "0.5"])
    assert said.splitlines()[-1] == "8 done, 0 dead"
    submitted = [line.partition(":")[0] for line in said.splitlines() if "submitted" in line]
    assert len(submitted) > 1
    ids = [json.loads(line)["id"] for line in site.minion("jobs", "--json").splitlines()]
    assert ids == submitted


def test_minions_that_all_end_are_told_of(site: SlurmSite) -> None:
    site.feed(8)
    said = site.launch("--wait", "--max-params", "2", command=["true"], status=75)
    assert "6 params are left" in said


def test_logs_are_followed(site: SlurmSite) -> None:
    site.feed(4)
    site.launch("-n", "2", command=["sh", "-c", "sleep 0.5; echo hi"])
    with subprocess.Popen(
        [*MINION, "logs", "-f", "-q", "q"], cwd=site.folder, env=site.env, stdout=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        out, _ = process.communicate(timeout=180)
    assert process.returncode == 0
    assert out.count("hi\n") == 4
    assert out.count("minionize: ") == 2


def test_a_refusal_is_one_line_and_leaves_nothing(site: SlurmSite) -> None:
    site.feed(1)
    said = site.launch("-O", "partition=nope", command=["true"], status=69)
    assert said.splitlines()[-1] == (
        "minion launch: sbatch: invalid partition specified: nope; "
        "Batch job submission failed: Invalid partition name specified"
    )
    assert site.slurm.states() == {}
    assert site.minion("jobs") == ""


def test_the_golden_text_is_one_for_sbatch(site: SlurmSite) -> None:
    """Parsed by sbatch itself, and what it made of it."""
    (site.folder / "golden.sh").write_text(
        SLURM.replace("--account=ann", "--account=root").replace("#SBATCH --gres=gpu:2\n", "")
        .replace("--cpus-per-task=4", "--cpus-per-task=1").replace("--mem=2048M", "--mem=1M")
        .replace("1-30%8", "1-4%2").replace("1:30:00", "0:09:00")
    )  # fmt: skip
    tested = site.slurm.call("sbatch", "--test-only", str(site.folder / "golden.sh"))
    assert tested.returncode == 0, tested.stderr
    site.slurm.ok("sbatch", "--hold", str(site.folder / "golden.sh"))
    made = site.slurm.ok("scontrol", "show", "jobs")
    for words in (
        "JobName=my scan", "TimeLimit=00:09:00", "Requeue=1", "Account=root", "Partition=low",
        "StdOut=/shared/my runs/launches/logs/my-scan.", "ArrayTaskThrottle=2",
    ):  # fmt: skip
        assert words in made, made


def test_the_script_alone_is_enough(site: SlurmSite) -> None:
    """`--dry-run >script; sbatch script` does the same."""
    site.feed(4)
    script = site.folder / "script.sh"
    script.write_text(site.launch("-n", "2", "--dry-run", command=["true"]))
    (site.queue / "launches" / "logs").mkdir(parents=True)
    site.slurm.ok("sbatch", str(script))
    until(lambda: site.stats().drained, site.told)

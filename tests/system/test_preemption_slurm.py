"""A job that asks a real Slurm to be started again, and one that was cancelled and must not."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from services.slurm import Slurm, lacking
from sites import at_work
from storming import MAIN, ROOT, Field, until

from minionize.values import State

SAVES = (
    'mkdir -p "$MINION_CHECKPOINT_DIR"; state="$MINION_CHECKPOINT_DIR/state"; '
    'test -e "$state" && { cat "$state" >>went; exit 0; }; '
    'trap \'echo "$SLURM_JOB_ID" >"$state"; exit 143\' TERM; touch began; '
    "while :; do sleep 0.05; done"
)
"""Saves its state when it is told to stop, and is done when it finds one."""


class Site(Field):
    """A cluster, and a queue that its nodes see."""

    def __init__(self, folder: Path, slurm: Slurm) -> None:
        super().__init__(folder)
        self.slurm = slurm

    def submit(self) -> str:
        """A job with one minion that wants to come back; its id."""
        words = [sys.executable, "-c", MAIN, "-q", str(self.queue), "--requeue", "sh", "-c", SAVES]
        script = self.folder / "job.sh"
        script.write_text(
            "#!/bin/sh\n"
            f"#SBATCH --requeue --time=5 --open-mode=append --output={self.folder}/out\n"
            f"cd {shlex.quote(str(self.folder))}\n"
            f"export PYTHONPATH={shlex.quote(ROOT)}\n"
            f"exec {shlex.join(words)} x\n"
        )
        job = self.slurm.ok("sbatch", "--parsable", str(script)).strip()
        until((self.folder / "began").exists, self.told)
        return job

    def shows(self, job: str, what: str) -> bool:
        return what in self.slurm.ok("scontrol", "show", "job", "-o", job).split()

    def told(self) -> str:
        """For a failure: all that is known."""
        out = self.folder / "out"
        said = out.read_text() if out.exists() else ""
        jobs = self.slurm.call("scontrol", "show", "job").stdout
        return f"{jobs} {self.stats()} {said}"


@pytest.fixture
def site(tmp_path: Path, needs_server: Callable[[str], NoReturn]) -> Iterator[Site]:
    with at_work(Slurm(tmp_path / "slurm"), lacking(), needs_server) as slurm:
        site = Site(tmp_path, slurm)
        yield site
        site.close()


def test_a_warned_job_comes_back_and_goes_on_where_it_was(site: Site) -> None:
    site.put(["x"])
    job = site.submit()
    # What --signal=B:USR1@60 does a minute before the end.
    site.slurm.ok("scancel", "--batch", "--signal=USR1", job)
    until(lambda: site.shows(job, "Restarts=1") and site.shows(job, "JobState=PENDING"), site.told)
    (entry,) = site.entries(State.WAITING)
    assert (entry.attempt, entry.crashes) == (1, 0), site.told()
    # Slurm lets it rest for two minutes, in which its node is done with it. A node takes no start
    # of a job that dates from the second in which it ended it ("Job credential revoked").
    until(lambda: site.shows(job, "Reason=BeginTime"), site.told)
    until(lambda: set(site.slurm.ok("sinfo", "-hNo", "%T").split()) == {"idle"}, site.told)
    site.slurm.ok("scontrol", "update", f"jobid={job}", "starttime=now+2")
    until(lambda: site.stats().drained, site.told)
    until(lambda: site.shows(job, "JobState=COMPLETED"), site.told)
    assert (site.folder / "went").read_text().split() == [job]
    assert not list((site.queue / "checkpoints").glob("*"))
    site.assert_nobody_charged()


def test_a_cancelled_job_does_not_come_back(site: Site) -> None:
    site.put(["x"])
    job = site.submit()
    site.slurm.ok("scancel", job)
    until(lambda: site.shows(job, "JobState=CANCELLED"), site.told)
    assert site.shows(job, "Restarts=0")
    assert "whether it comes back is for Slurm to say" in (site.folder / "out").read_text()
    (entry,) = site.entries(State.WAITING)
    assert (entry.attempt, entry.crashes) == (1, 0), site.told()
    assert os.listdir(site.queue / "checkpoints") == ["1"]

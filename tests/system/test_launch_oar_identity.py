"""Whose a job of a real OAR is: with every OAR variable set, beside other jobs of the same name and
number, when an answer is lost, and with names that a shell or OAR could misread."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from services.account import python
from services.oar import Oar, lacking
from services.processes import until
from sites import OarSite, at_work

HOSTILE = {
    "OAR_JOB_ID": "1", "OAR_JOBID": "1", "OAR_ARRAY_ID": "1", "OAR_JOB_NAME": "theirs",
    "OAR_JOB_WALLTIME": "0:00:01", "OAR_JOB_WALLTIME_SECONDS": "1", "OAR_NODEFILE": "/nowhere",
    "OAR_FILE_NODES": "/nowhere", "OAR_JOB_KEY_FILE": "/nowhere/key", "OAR_PROJECT_NAME": "theirs",
    "OAR_STDOUT": "/tmp/theirs", "OAR_WORKDIR": "/nowhere", "MINION_ID": "another",
    "MINION_DEADLINE": "1000", "MINION_JOB": "oar::1", "MINION_CHECKPOINT_DIR": "/nowhere",
}  # fmt: skip
LATE = """#!/bin/sh
{oarsub} "$@" >/dev/null 2>&1
exec sleep 600
"""
"""An `oarsub` that does not answer, though the job is in."""


@pytest.fixture
def site(tmp_path: Path, needs_server: Callable[[str], NoReturn]) -> Iterator[OarSite]:
    with at_work(Oar(tmp_path), lacking(), needs_server) as oar:
        yield OarSite(oar, "our scan")


def _record(site: OarSite, id: str) -> tuple[Path, dict[str, Any]]:
    path = site.queue / "launches" / f"{id}.json"
    return path, json.loads(path.read_text())


def test_our_own_jobs_only(site: OarSite) -> None:
    site.feed(4)
    minionize = f"{site.oar.account.home}/bin/minionize"
    hostile = [f"{name}={value}" for name, value in HOSTILE.items()]
    said = site.ok("env", *hostile, "minion", "launch", "oar", "--minionize", minionize, "-n", "2",
                   "--name", "ours", "--wall-time", "5m", "-O", "checkpoint=70", "-O",
                   "besteffort=no", "-O", "idempotent=no", "--", "sh", "-c",
                   "env >env; sleep 600")  # fmt: skip
    id = said.partition(":")[0]
    jobs = site.oar.jobs()
    assert len(jobs) == 2
    for job in jobs.values():
        assert (job["name"], job["types"], job["launchingDirectory"]) == (
            "ours", [], str(site.folder),
        ), job  # fmt: skip
        assert "walltime=0:5:0" in job["wanted_resources"]
        assert job["stdout_file"].startswith(f"{site.queue}/launches/logs/ours.")
    env = site.folder / "env"
    until(lambda: set(site.jobs(id).values()) == {"running"}, site.told, every_s=0.5)
    until(lambda: env.exists() and "MINION_PARAM=" in env.read_text(), site.told, every_s=0.5)
    told = dict(line.partition("=")[::2] for line in env.read_text().splitlines())
    assert told["OAR_JOB_ID"] in jobs
    assert told["MINION_JOB"] == f"oar::{told['OAR_JOB_ID']}"
    assert told["MINION_ID"] != "another"

    # A record whose numbers are other jobs', of the same name, is of none of them.
    path, record = _record(site, id)
    forged = {**record, "details": {"mark": "000000000000"}}
    path.write_text(json.dumps(forged))
    assert set(site.jobs(id).values()) == {"unknown"}
    ran = site.oar.account.run("minion", "cancel", id, cwd=site.folder)
    assert (ran.status, ran.out) == (69, "")
    assert "left alone: " in ran.err and "another job of that number" in ran.err
    # Nor is one of a number that OAR does not have.
    path.write_text(json.dumps({**record, "job_ids": ["1000"]}))
    assert set(site.jobs(id).values()) == {"unknown"}
    assert {job["state"] for job in site.oar.jobs().values()} == {"Running"}
    # One of an older version has its name and its time.
    path.write_text(json.dumps({**record, "details": {}}))
    assert set(site.jobs(id).values()) == {"running"}
    path.write_text(json.dumps(record))
    assert "2 minions told to end" in site.minion("cancel", id)
    until(lambda: set(site.jobs(id).values()) == {"cancelled"}, site.told, every_s=0.5)

    # OAR's own rules are told in its words, with what to do.
    odd = OarSite(site.oar, "a #1")
    odd.feed(1)
    ran = site.oar.account.run("minion", "launch", "oar", "--", "true", cwd=odd.folder)
    assert (ran.status, ran.err.count("\n")) == (69, 1)
    assert "have the queue in such a folder" in ran.err

    # What was submitted without an answer is found.
    before = set(site.oar.jobs())
    fakes = site.folder / "fakes"
    fakes.mkdir()
    (fakes / "oarsub").write_text(LATE.format(oarsub=site.ok("which", "oarsub").strip()))
    (fakes / "oarsub").chmod(0o755)
    patient = (
        "from minionize.launch import commands; commands.PATIENCE_S = 10.0; "
        "from minionize.cli.minion import main; main()"
    )
    line = f'PATH="{fakes}:$PATH" PYTHONPATH={site.oar.account.home}/lib exec "$@"'
    said = site.ok("sh", "-c", line, "sh", str(python()), "-c", patient, "launch", "oar",
                   "--minionize", minionize, "-n", "2", "--", "true")  # fmt: skip
    id = said.partition(":")[0]
    made = set(site.oar.jobs()) - before
    assert set(_record(site, id)[1]["job_ids"]) == made
    assert len(made) == 2
    until(lambda: site.stats().drained, site.told, every_s=0.5)

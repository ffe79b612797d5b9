"""`minion launch oar` on a real OAR of two resources, which kills besteffort jobs for others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from launch_texts import OAR
from services.oar import Oar, lacking
from services.processes import until
from sites import OarSite, at_work

from minionize.events import Kind

OF_0_2_1 = """\
#!/usr/bin/env bash

#OAR -n kpd
#OAR -l nodes=1,walltime=1:0:0
#OAR -t besteffort
#OAR -t idempotent

# oarsub --array 10 -S ./oar.sh

set -eux

pip install minionize

minionize echo "hello from $OAR_JOB_ID"
"""

TWO_LONG_ONES = """\
half=$MINION_CHECKPOINT_DIR/half
test ! -e "$half" || { echo "$1 goes on"; exit; }
mkdir -p "$MINION_CHECKPOINT_DIR"
touch "$half"
test "$1" -ge 2 || exec sleep 600
"""
"""Params 0 and 1 take for ever, unless they find that they were begun before."""


@pytest.fixture
def site(tmp_path: Path, needs_server: Callable[[str], NoReturn]) -> Iterator[OarSite]:
    with at_work(Oar(tmp_path), lacking(), needs_server) as oar:
        yield OarSite(oar)


def test_preempted_minions_give_back_and_go_on(site: OarSite) -> None:
    """Two besteffort minions, preempted by a job that counts: warned by USR2, they give back what
    they run, uncharged, and end with 99; OAR submits them again, and they go on where they were."""
    site.feed(30)
    said = site.launch("-n", "2", "--wall-time", "5m", "--grace", "1", "--", "sh", "-c",
                       TWO_LONG_ONES, "x", "{n}")  # fmt: skip
    assert said.startswith("oar-1: 2 minions submitted")
    until(lambda: site.jobs("oar-1") == {"1": "running", "2": "running"}, site.told)
    until(lambda: site.stats().running == 2, site.told)

    def old_enough() -> bool:
        """OAR submits no job again that ran for less than a minute."""
        now = int(site.oar.account.ok("date", "+%s"))
        return all(now - site.oar.jobs()[id]["startTime"] > 63 for id in ("1", "2"))

    until(old_enough, site.told, timeout_s=90, every_s=1)
    high = site.ok("oarsub", "-l", "resource_id=2,walltime=0:02:00", "sleep 3")
    (id,) = [line.partition("=")[2] for line in high.splitlines() if "OAR_JOB_ID" in line]
    until(lambda: site.oar.jobs()[id]["state"] == "Running", site.told, every_s=0.5)
    found = site.oar.jobs()
    assert {_status(found[id]) for id in ("1", "2")} == {99}
    assert (site.stats().waiting, site.stats().done, site.stats().dead) == (30, 0, 0)

    until(lambda: site.stats().drained, site.told, every_s=0.5)
    assert (site.stats().done, site.stats().dead) == (30, 0)
    states = until(
        lambda: (jobs := site.jobs("oar-1")) and set(jobs.values()) == {"ended"} and jobs, site.told
    )
    assert isinstance(states, dict)
    again = {
        job["resubmit_job_id"]: id for id, job in site.oar.jobs().items() if job["resubmit_job_id"]
    }
    assert set(again) == {1, 2}
    assert set(states) == {"1", "2", *again.values()}
    back = [event for event in site.events() if event.kind is Kind.GIVE_BACK]
    assert not any(event.charged for event in back)
    assert {event.attempt for event in site.events() if event.kind is Kind.ACK} == {1}
    lines = site.ok("minion", "logs").splitlines()
    assert {line.partition(": ")[2] for line in lines if "goes on" in line} == {
        "0 goes on", "1 goes on",
    }  # fmt: skip
    assert sum("SIGUSR2" in line for line in lines) == 2


def test_scripts_refusals_and_cancelling(site: OarSite) -> None:
    """What 0.2.1's users have, what `--dry-run` prints, what OAR doesn't take, and how minions are
    cancelled, while another minion works until its wall time is over."""
    wall = OarSite(site.oar, "wall")
    walled = _until_its_wall_time(wall)
    others = set(site.oar.jobs())
    site.feed(12)
    home = site.oar.account.home
    _write(site, home / "bin/pip", "#!/bin/sh\n")
    _write(site, home / ".bash_profile", f"PATH={home}/bin:$PATH\n")
    _write(site, home / ".bashrc", f"PATH={home}/bin:$PATH\n")

    # The script of the README of 0.2.1, with its .env.
    _write(site, site.folder / "oar.sh", OF_0_2_1)
    _write(site, site.folder / ".env", "MINION_ENGINE=file\n")
    site.ok("oarsub", "--array", "2", "-S", "./oar.sh")
    until(lambda: site.stats().drained, site.told, every_s=0.5)
    said = "".join(path.read_text() for path in site.folder.glob("OAR.kpd.*.stdout"))
    assert sum(line.startswith("hello from ") for line in said.splitlines()) == 12
    until(lambda: _all_over(site, others), site.told, every_s=0.5)

    # The golden text is one for oarsub, which makes of it what was meant. Its site, though, has
    # other properties, and its user another home.
    text = OAR
    for ours, theirs in (
        ("/nodes=1/gpu=2/core=2", "nodes=1/resource_id=2"),
        ("cluster = 'a' AND mem > 64000", "cpuset = '0' OR cpuset = '1'"),
        ("-q production", "-q default"),
        ("-d /home/ann/it's here", f"-d {home}"),
        ("#OAR -t besteffort\n", ""),
        ("#OAR --notify mail:ann@example.org\n", ""),
        ("--array 30", "--array 2"),
    ):
        assert ours in text
        text = text.replace(ours, theirs)
    _write(site, home / "golden.sh", text)
    before = set(site.oar.jobs())
    site.ok("oarsub", "--hold", "-S", str(home / "golden.sh"))
    made = [job for id, job in site.oar.jobs().items() if id not in before]
    assert len(made) == 2
    for job in made:
        assert (job["name"], job["project"], job["queue"]) == ("my scan", "ising", "default")
        assert set(job["types"]) == {"idempotent", "timesharing=user,name"}
        assert job["launchingDirectory"] == str(home)
        assert "resource_id=2,walltime=1:30:0" in job["wanted_resources"]
        assert job["stdout_file"].startswith("/shared/my runs/launches/logs/my-scan.")
        assert "cpuset = '0' OR cpuset = '1'" in job["properties"]
    site.ok("oardel", *(str(job["Job_Id"]) for job in made))

    # `--dry-run >script; oarsub -S script` does what the launch does.
    site.feed(4)
    _write(site, home / "dry.sh", site.launch("-n", "1", "--dry-run", "--", "true"))
    site.ok("mkdir", "-p", str(site.queue / "launches/logs"))
    site.ok("oarsub", "-S", str(home / "dry.sh"))
    until(lambda: site.stats().drained, site.told, every_s=0.5)

    # Nothing is on record of what OAR did not take.
    ran = site.oar.account.run("minion", "launch", "oar", "-O", "resources=gibbon=1", "--", "true",
                               cwd=site.folder)  # fmt: skip
    assert (ran.status, ran.out) == (69, "")
    assert ran.err.startswith("minion launch: oarsub: ")
    assert ran.err.count("\n") == 1
    assert site.ok("minion", "jobs") == ""

    _comes_back(wall, walled)

    # What a cancelled minion held is back at once, and OAR starts none of them again.
    site.feed(2)
    said = site.launch("-n", "3", "-O", "besteffort=no", "--", "sh", "-c", "sleep 600")
    id = said.partition(":")[0]
    until(lambda: site.stats().running == 2, site.told, every_s=0.5)
    assert "3 minions told to end" in site.minion("cancel", id)
    until(lambda: set(site.jobs(id).values()) == {"cancelled"}, site.told, every_s=0.5)
    assert (site.stats().waiting, site.attempts()) == (2, {(1, 0)})
    assert len(site.jobs(id)) == 3
    assert "0 minions told to end" in site.minion("cancel", id)

    # One that takes its time is killed when it is told once more.
    script = "trap '' TERM; sleep 600"
    said = site.launch("-n", "1", "--grace", "600", "-O", "besteffort=no", "--", "sh", "-c", script)
    id = said.partition(":")[0]
    until(lambda: site.stats().running == 1, site.told, every_s=0.5)
    assert "1 minion told to end" in site.minion("cancel", id)
    until(lambda: "SIGNALED with INT" in str(site.logged()), site.told, every_s=0.5)
    assert set(site.jobs(id).values()) == {"running"}
    assert "1 minion told to end" in site.minion("cancel", id)
    until(lambda: set(site.jobs(id).values()) == {"cancelled"}, site.told, every_s=0.5)
    site.ok("minionize", "--quiet", "true")
    assert (site.stats().done, site.stats().dead) == (18, 0)


def _until_its_wall_time(wall: OarSite) -> str:
    """A launched minion that knows when its wall time is over, of which OAR warns it too late."""
    wall.feed(5)
    script = (
        'half="$MINION_CHECKPOINT_DIR/half"; test ! -e "$half" || { echo goes on; exit; }; '
        'test "$1" = 0 || exit 0; mkdir -p "$MINION_CHECKPOINT_DIR"; touch "$half"; exec sleep 600'
    )
    said = wall.launch("-n", "1", "--wall-time", "75", "--grace", "8", "-O", "checkpoint=1", "--",
                       "sh", "-c", script, "x", "{n}")  # fmt: skip
    return said.partition(":")[0]


def _comes_back(wall: OarSite, id: str) -> None:
    """OAR submits it again, as a job older than a minute that ends with 99, and that drains."""
    until(lambda: wall.stats().drained, wall.told, timeout_s=150, every_s=0.5)
    until(lambda: set(wall.jobs(id).values()) == {"ended"}, wall.told, every_s=0.5)
    first, again = wall.details(id)
    assert (first["detail"], again["detail"]) == ("exit 99", "exit 0")
    begun = wall.oar.jobs()[first["id"]]
    assert begun["stopTime"] - begun["startTime"] > 60
    assert (wall.stats().done, wall.stats().dead) == (5, 0)
    back = [event for event in wall.events() if event.kind is Kind.GIVE_BACK]
    assert back and not any(event.charged for event in back)
    said = next(path.read_text() for path in wall.logs() if f".{first['id']}." in path.name)
    assert "its time is over" in said and "goes on" not in said
    assert "goes on" in "".join(path.read_text() for path in wall.logs())


def _write(site: OarSite, path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
    site.oar.account.own(path)


def _status(job: dict[str, Any]) -> int:
    return int(job["exit_code"]) >> 8


def _all_over(site: OarSite, but: set[str]) -> bool:
    jobs = {id: job["state"] for id, job in site.oar.jobs().items() if id not in but}
    return set(jobs.values()) <= {"Terminated", "Error"}

"""Two real Slurms that share a folder and give the same numbers: each command of ours acts on our
own jobs, and says what it leaves alone."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from services import accounting
from services.processes import until
from services.slurm import Slurm, lacking
from sites import MINION, SlurmSite, at_work

PATIENCE_S = 120.0
SLEEPS = ("sh", "-c", "echo began; sleep 600")
ELSEWHERE = "on cluster b, which can't be asked from here"


class Pair:
    """Site `a` and site `b`, in one folder with one queue."""

    def __init__(self, a: Slurm, b: Slurm, folder: Path) -> None:
        self.a, self.b = SlurmSite(a, folder), SlurmSite(b, folder)
        self.queue = self.a.queue

    def told(self) -> str:
        return f"a: {self.a.told()} b: {self.b.slurm.states()}"


@pytest.fixture
def pair(tmp_path: Path, needs_server: Callable[[str], NoReturn]) -> Iterator[Pair]:
    with (
        at_work(Slurm(tmp_path / "a", cluster="a"), lacking(), needs_server) as a,
        at_work(Slurm(tmp_path / "b", cluster="b"), lacking(), needs_server) as b,
    ):
        yield Pair(a, b, tmp_path)


@pytest.fixture
def federated(tmp_path: Path, needs_server: Callable[[str], NoReturn]) -> Iterator[Pair]:
    """They know each other, by one slurmdbd."""
    first = Slurm(tmp_path / "a", cluster="a", accounting=True)
    why = lacking() or accounting.lacking()
    with at_work(first, why, needs_server) as a:
        second = Slurm(tmp_path / "b", cluster="b", beside=a)
        with at_work(second, why, needs_server) as b:
            known = ("sacctmgr", "--noheader", "--parsable2", "list", "clusters",
                     "format=cluster,controlport")  # fmt: skip
            until(lambda: sum(not line.endswith("|0") for line in a.ok(*known).split()) == 2,
                  lambda: a.ok(*known))  # fmt: skip
            yield Pair(a, b, tmp_path)


def test_the_same_numbers_on_two_clusters(pair: Pair) -> None:
    a, b = pair.a, pair.b
    a.feed(20)
    on_a = a.launch("-n", "2", "--name", "ours", command=SLEEPS).partition(":")[0]
    on_b = b.launch("-n", "2", "--name", "ours", command=SLEEPS).partition(":")[0]
    assert (on_a, on_b) == ("slurm-1", "slurm-1-2")
    for site, id in ((a, on_a), (b, on_b)):
        until(lambda: set(site.jobs(id).values()) == {"running"}, pair.told)  # noqa: B023
        until(lambda: site.minion("logs", id).count("began") == 2, pair.told)  # noqa: B023
    # Seen from the other one, they are not known, which is said; and they are left alone.
    assert {job["state"] for job in a.details(on_b)} == {"unknown"}
    assert ELSEWHERE in a.minion("jobs")
    assert ELSEWHERE in a.minion("cancel", on_b, status=69)
    assert set(b.jobs(on_b).values()) == {"running"}
    # --all ends those that are ours here, and says of the others.
    assert ELSEWHERE in a.minion("cancel", "--all", status=69)
    until(lambda: set(a.jobs(on_a).values()) == {"cancelled"}, pair.told)
    assert set(b.jobs(on_b).values()) == {"running"}
    assert "2 minions told to end" in b.minion("cancel", on_b)
    until(lambda: set(b.jobs(on_b).values()) == {"cancelled"}, pair.told)


def test_a_number_that_another_job_has_now(pair: Pair) -> None:
    """As when a controller lost its state: the record is of one job, and the number another's."""
    a, b = pair.a, pair.b
    a.feed(2)
    a.launch("--name", "ours", "-n", "2", command=SLEEPS)
    b.slurm.ok("sbatch", "--array=1-2", "--job-name=ours", "--wrap=sleep 600")
    until(lambda: set(b.slurm.states().values()) == {"RUNNING"}, pair.told)
    record = next((pair.queue / "launches").glob("*.json"))
    told = json.loads(record.read_text())
    before = {**told, "details": {**told["details"], "cluster": "b"}}
    record.write_text(json.dumps(before))
    assert set(b.jobs("slurm-1").values()) == {"unknown"}
    assert "another job has its number now: ours" in b.minion("cancel", "slurm-1", status=69)
    assert set(b.slurm.states().values()) == {"RUNNING"}


def test_what_is_not_known_is_waited_for_and_not_doubled(pair: Pair) -> None:
    """The cluster of a followed launch can't be asked for a while, and then it can."""
    a, b = pair.a, pair.b
    a.feed(2)
    release = a.folder / "release"
    waits = f"while ! test -e {release}; do sleep 0.1; done"
    conf = a.folder / "slurm.conf"
    conf.symlink_to(a.slurm.folder / "slurm.conf")
    argv = [*MINION, "launch", "slurm", "-q", "q", "-n", "2", "--resubmit", "--", "sh", "-c", waits]
    with subprocess.Popen(argv, cwd=a.folder, env={**a.env, "SLURM_CONF": str(conf)}, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:  # fmt: skip
        try:
            until(lambda: set(a.slurm.states().values()) == {"RUNNING"}, pair.told)
            draft = a.folder / "other.conf"
            draft.symlink_to(b.slurm.folder / "slurm.conf")
            os.replace(draft, conf)
            assert process.stderr is not None
            line = next(line for line in process.stderr if "not known" in line)
            assert "2 minions not known, and taken for alive: 1_1" in line
            assert not b.slurm.states()
            release.touch()
            out, _ = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    assert out.splitlines()[-1] == "2 done, 0 dead"
    assert out.count("submitted") == 1


@pytest.mark.parametrize("by", ["option", "variable"])
def test_a_launch_that_goes_to_another_cluster(federated: Pair, by: str) -> None:
    a, b = federated.a, federated.b
    a.feed(4)
    # The same number here is another person's.
    a.slurm.ok("sbatch", "--array=1-2", "--job-name=minions", "--wrap=sleep 600")
    if by == "option":
        said = a.launch("-n", "2", "-O", "sbatch=--clusters=b", command=SLEEPS)
    else:
        os.environ["SBATCH_CLUSTERS"] = "b"
        try:
            said = a.launch("-n", "2", command=SLEEPS)
        finally:
            del os.environ["SBATCH_CLUSTERS"]
    id = said.partition(":")[0]
    until(lambda: set(b.slurm.states().values()) == {"RUNNING"}, federated.told)
    for site in (a, b):
        until(lambda: set(site.jobs(id).values()) == {"running"}, federated.told)  # noqa: B023
    assert "2 minions told to end" in a.minion("cancel", id)
    until(lambda: set(b.slurm.states().values()) == {"CANCELLED"}, federated.told)
    assert set(a.slurm.states().values()) == {"RUNNING"}

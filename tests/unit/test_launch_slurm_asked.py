"""Slurm: what is told of a launch's jobs by commands that answer this or that."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from minionize.errors import LaunchRefused
from minionize.launch import slurm
from minionize.launch import slurm_asking as asking
from minionize.launch.values import JobState, Submitted

SCONTROL = """#!/bin/sh
echo 'AccountingStorageType   = accounting_storage/{accounts}'
echo 'ClusterName             = {cluster}'
"""
OVER = """7_1|COMPLETED|n1|0:0|800|other|
7_1|FAILED|n1|2:0|900|scan|
7_1|COMPLETED|n1|0:0|900|scan|
7_1|FAILED|n1|3:0|990|others|
"""
LINE = "7_1|{state}|n1|0|None|t|900|0|scan|/q/a.sh|"

Make = Callable[[str, str], None]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes a command of that name that does this."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("HERE", str(tmp_path))

    def make(name: str, text: str) -> None:
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
        asking._site.cache_clear()

    return make


def prints(lines: str) -> str:
    return f"#!/bin/sh\ncat <<'END'\n{lines}\nEND\n"


def launched(cluster: str) -> Submitted:
    details = {"cluster": cluster, "submit_times": "900"}
    return Submitted("slurm", ("7",), "scan", "file:/q", 1, at=1000.0, details=details)


def test_the_accounts_tell_of_what_the_controller_has_forgotten(fake: Make) -> None:
    """The last line of the job itself, and none of others that had its number."""
    fake("scontrol", SCONTROL.format(accounts="slurmdbd", cluster="t"))
    fake("squeue", prints(""))
    fake("sacct", prints(OVER))
    (job,) = slurm.states([launched("t")])
    assert (job.id, job.state, job.detail) == ("7_1", JobState.ENDED, "exit 0")
    assert not job.gone


def test_without_accounts_what_is_forgotten_is_not_known(fake: Make) -> None:
    fake("scontrol", SCONTROL.format(accounts="none", cluster="t"))
    fake("squeue", prints(""))
    fake("sacct", prints(OVER))
    (job,) = slurm.states([launched("t")])
    assert (job.state, job.detail, job.gone) == (JobState.UNKNOWN, "Slurm has forgotten it", True)


def test_where_another_cluster_is_here_by_now_nothing_is_known(fake: Make, tmp_path: Path) -> None:
    """It was `t` when it was asked first."""
    fake("scontrol", SCONTROL.format(accounts="slurmdbd", cluster="t"))
    fake("squeue", prints(""))
    fake("sacct", prints(OVER))
    assert asking.site().cluster == "t"
    (tmp_path / "scontrol").write_text(SCONTROL.format(accounts="slurmdbd", cluster="u"))
    (job,) = slurm.states([launched("t")])
    assert job.state is JobState.UNKNOWN
    assert job.detail.startswith("on cluster t, which can't be asked from here")


@pytest.mark.parametrize("then", ["COMPLETING", "CANCELLED", "SIGNALING"])
def test_a_cancel_that_took_is_told_so(fake: Make, tmp_path: Path, then: str) -> None:
    fake("scontrol", SCONTROL.format(accounts="none", cluster="t"))
    fake("squeue", prints(LINE.format(state="RUNNING")))
    told = '#!/bin/sh\necho "$@" >>"$HERE/told"\ncp "$HERE/later" "$HERE/squeue"\n'
    fake("later", prints(LINE.format(state=then)))
    fake("scancel", told)
    assert slurm.cancel(launched("t")) == 1
    assert (tmp_path / "told").read_text() == "7\n"


def test_a_cancel_that_does_not_take_is_refused(
    fake: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "_CANCEL_S", 0.1)
    monkeypatch.setattr(slurm, "_LOOK_EVERY_S", 0.05)
    fake("scontrol", SCONTROL.format(accounts="none", cluster="t"))
    fake("squeue", prints(LINE.format(state="RUNNING")))
    fake("scancel", "#!/bin/sh\n")
    with pytest.raises(LaunchRefused, match=r"1 jobs to end, and 1 of them go on: 7_1 is running"):
        slurm.cancel(launched("t"))

"""`minion jobs` of what Slurm's controller has forgotten: told by a real slurmdbd, or not known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from services import accounting
from services.processes import until
from services.slurm import Slurm, lacking
from sites import SlurmSite, at_work

PATIENCE_S = 180.0
SLEEPS = ("sh", "-c", "trap '' TERM; sleep 600")
"""Heeds no warning."""


def test_accounting_tells_what_became_of_them(
    tmp_path: Path, needs_server: Callable[[str], NoReturn]
) -> None:
    slurm = Slurm(tmp_path / "slurm", forgets_s=2, accounting=True)
    with at_work(slurm, lacking() or accounting.lacking(), needs_server):
        site = SlurmSite(slurm, tmp_path)
        # Two nodes: of three, one waits all the time.
        site.feed(3)
        site.launch("-n", "3", "--grace", "600", command=SLEEPS)
        until(lambda: sorted(site.jobs("slurm-1").values()) == ["pending", "running", "running"],
              site.told, timeout_s=PATIENCE_S)  # fmt: skip
        # As if its wall time were over; Slurm looks after them twice a minute. It refuses an end in
        # the second in which the job began.
        over_now = ("scontrol", "update", "jobid=1_1", "endtime=now")
        until(lambda: slurm.call(*over_now).returncode == 0, site.told, timeout_s=PATIENCE_S)
        slurm.ok("scancel", "1_2", "1_3")
        over = {"1_1": "failed", "1_2": "cancelled", "1_3": "cancelled"}
        until(lambda: site.jobs("slurm-1") == over, site.told, timeout_s=PATIENCE_S)
        # What they were killed with goes to others: to one that can do nothing with it.
        failed = site.launch("-n", "1", "--max-attempts", "1", command=["false"]).partition(":")[0]
        until(lambda: set(site.jobs(failed).values()) == {"failed"}, site.told,
              timeout_s=PATIENCE_S)  # fmt: skip
        ended = site.launch("-n", "2", "--until", "empty", command=["true"]).partition(":")[0]
        until(lambda: set(site.jobs(ended).values()) == {"ended"}, site.told, timeout_s=PATIENCE_S)

        until(lambda: not slurm.states(), site.told, timeout_s=PATIENCE_S, every_s=0.5)
        # Slurm tells its database when there is time.
        wanted = ["timeout", "cancelled", "cancelled", "exit 1", "exit 0", "exit 0"]
        until(lambda: [job["detail"] for id in ("slurm-1", failed, ended)
                       for job in site.details(id)] == wanted,
              site.told, timeout_s=PATIENCE_S, every_s=0.5)  # fmt: skip
        assert site.jobs("slurm-1") == over
        assert list(site.jobs(failed).values()) == ["failed"]
        assert list(site.jobs(ended).values()) == ["ended", "ended"]
        (line,) = (line for line in site.minion("jobs").splitlines() if "slurm-1 " in line)
        assert line.endswith(": 1 failed, 2 cancelled")


def test_statuses_of_which_accounting_takes_128_off(
    tmp_path: Path, needs_server: Callable[[str], NoReturn]
) -> None:
    """As of a wrapper whose program died of a signal: they fail before and after."""
    slurm = Slurm(tmp_path / "slurm", forgets_s=2, accounting=True)
    with at_work(slurm, lacking() or accounting.lacking(), needs_server):
        site = SlurmSite(slurm, tmp_path)
        site.feed(1)
        ids = [
            site.launch("-O", f"setup=exit {status}", command=["true"]).partition(":")[0]
            for status in (128, 137)
        ]

        def told() -> list[tuple[str, str]]:
            return [(job["state"], job["detail"]) for id in ids for job in site.details(id)]

        until(lambda: not slurm.states(), site.told, timeout_s=PATIENCE_S, every_s=0.5)
        after = [("failed", "failed"), ("failed", "exit 9 or 137")]
        until(lambda: told() == after, told, timeout_s=PATIENCE_S, every_s=0.5)


def test_without_it_nobody_knows_and_that_is_said(
    tmp_path: Path, needs_server: Callable[[str], NoReturn]
) -> None:
    """Of an array, a task that ended is forgotten while others run."""
    with at_work(Slurm(tmp_path / "slurm", forgets_s=2), lacking(), needs_server) as slurm:
        site = SlurmSite(slurm, tmp_path)
        site.feed(2)
        script = 'test "$SLURM_ARRAY_TASK_ID" = 1 || exec sleep 600'
        site.launch("-n", "2", "--max-params", "1", command=["sh", "-c", script])
        forgotten = {"1_1": "unknown", "1_2": "running"}
        until(lambda: site.jobs("slurm-1") == forgotten, site.told, timeout_s=PATIENCE_S,
              every_s=0.5)  # fmt: skip
        (line,) = site.minion("jobs").splitlines()
        assert line.endswith(": 1 running, 1 unknown")
        site.minion("cancel", "slurm-1")
        until(lambda: not slurm.states(), site.told, timeout_s=PATIENCE_S, every_s=0.5)
        assert site.jobs("slurm-1") == {"1_1": "unknown", "1_2": "unknown"}
        assert {job["detail"] for job in site.details("slurm-1")} == {"Slurm has forgotten it"}
        assert "0 minions told to end" in site.minion("cancel", "slurm-1")

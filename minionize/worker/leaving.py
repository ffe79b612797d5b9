"""The last thing a minion does: see to it that its scheduler starts the job again, if it should."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from minionize.settings import Settings
from minionize.settings.machine import job_age_s, scheduler
from minionize.worker.signals import Stopping
from minionize.worker.summary import Summary

RESUBMIT = 99
"""OAR submits an idempotent job again that ends with this."""
OAR_OLD_ENOUGH_S = 62.0
"""OAR does so only if the job ran for more than 60 s, by its own clock of whole seconds."""
_ANSWER_S = 20.0
_CUT_SHORT = 75


class Farewell(NamedTuple):
    """How a minion takes its leave."""

    exit_status: int
    wait_s: float = 0.0
    """Stay for so long before."""
    requeue: bool = False
    """Ask Slurm to start the job again."""


def farewell(
    summary: Summary, started_by: str, requeue: bool | None, job_age_s: float = 0.0
) -> Farewell:
    """What `summary` means to the scheduler `started_by` (see settings.machine.scheduler).

    `requeue`: whether the job is to be started again if it was cut short while params remain;
    None: not said, then it is not.
    """
    plain = Farewell(summary.exit_status)
    if not requeue or not summary.cut_short or summary.exit_status != _CUT_SHORT:
        return plain
    if started_by == "oar":
        return Farewell(RESUBMIT, wait_s=max(0.0, OAR_OLD_ENOUGH_S - job_age_s))
    if started_by == "slurm":
        return plain._replace(requeue=True)
    return plain


def take_leave(
    summary: Summary,
    settings: Settings,
    lines: Callable[[str], None],
    ask: Callable[[list[str], Mapping[str, str]], str | None] | None = None,
) -> None:
    """Do so, and put the exit status into `summary`. Everything was given back before: whatever
    fails here costs no param. `ask` runs a command of the scheduler; None where it failed."""
    env = settings.env
    started_by = scheduler(env)
    if not summary.cut_short or summary.exit_status != _CUT_SHORT:
        return
    ask = ask or output_of
    requeue = settings.requeue
    if requeue is None and started_by == "oar":
        requeue = is_idempotent(env, ask)
    age_s = job_age_s(env, "OAR_JOB_ID") if started_by == "oar" else 0.0
    told = farewell(summary, started_by, requeue, age_s)
    if told.wait_s:
        lines(
            f"staying for {told.wait_s:.0f} s more, since OAR submits no job again that ran for "
            "less than a minute; another signal ends this at once"
        )
        _stay(told.wait_s)
    if told.requeue:
        lines(_requeue(env, ask))
    summary.exit_status = told.exit_status


def is_idempotent(
    env: Mapping[str, str], ask: Callable[[list[str], Mapping[str, str]], str | None]
) -> bool:
    """Whether this job of OAR says that it may be submitted again. OAR 2.5 tells its jobs nothing
    of their types, so it is asked; where a node has no `oarstat`, --requeue must say it."""
    told = ask(["oarstat", "-f", "-J", "-j", env.get("OAR_JOB_ID", "")], env)
    if told is None:
        return False
    import json

    try:
        return any("idempotent" in _types(job) for job in json.loads(told).values())
    except (ValueError, AttributeError):
        return False


def _types(job: Any) -> list[str]:
    types = job.get("types", [])
    return types if isinstance(types, list) else str(types).replace(",", " ").split()


def _requeue(env: Mapping[str, str], ask: Callable[..., str | None]) -> str:
    """Have Slurm start the job again; a line that tells how that went.

    Slurm requeues for nothing that a job ends with, so the job asks for it. One that was cancelled
    would come back by that as well: only one that runs may ask. One that is preempted is not seen
    to run any more when its TERM comes, and is requeued by Slurm itself.
    """
    job = env.get("SLURM_JOB_ID", "")
    state = ask(["squeue", "--noheader", "--format=%T", f"--jobs={job}"], env)
    words = (state or "").split()
    if not words:
        return f"Slurm does not tell the state of job {job}: it is not requeued"
    if words[0] != "RUNNING":
        return f"job {job} is {words[0]} already: whether it comes back is for Slurm to say"
    if ask(["scontrol", "requeue", job], env) is None:
        return f"Slurm refused to requeue job {job}: was it submitted with --requeue?"
    return f"job {job} is requeued, since params remain"


def output_of(command: list[str], env: Mapping[str, str]) -> str | None:
    """What a scheduler's command prints; None where it is missing, fails or gives no answer."""
    from minionize.launch.environment import asking

    try:
        ran = subprocess.run(
            command,
            env=asking(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_ANSWER_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return os.fsdecode(ran.stdout)


def _stay(seconds: float) -> None:
    stopping = Stopping()
    stopping.install()
    try:
        stopping.wait(seconds)
    finally:
        stopping.restore()
        stopping.close()

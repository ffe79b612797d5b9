"""What `squeue` and `sacct` print, read: states, and whose job it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from minionize.launch.identity import CLOCKS_S, OLD_S, marked
from minionize.launch.values import FINE, Job, JobState, Submitted

_PENDING = frozenset({"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED",
                      "SPECIAL_EXIT", "RESV_DEL_HOLD", "PREEMPTED_REQUEUE"})  # fmt: skip
_RUNNING = frozenset({"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT",
                      "RESIZING"})  # fmt: skip
_CANCELLED = frozenset({"CANCELLED", "PREEMPTED", "REVOKED", "DEADLINE"})
LEAVING = frozenset({"completing", "signaling", "stage_out"})
"""Details of jobs that were ended, and whose processes are about to."""
_FOLD = 128
"""`sacct` takes this off an exit status that is not below it."""
_OURS = frozenset({1, 2, *range(64, 79), 126, 127})
"""What minionize, and the shell that starts it, fail with: so it was not 128 more."""

SQUEUE = (
    "JobArrayID:|,State:|,NodeList:|,exit_code:|,Reason:|,Cluster:|,SubmitTime:|,RestartCnt:|,"
    "Name:|,Command:|"
)
"""The fields of a line for `seen_by_squeue`. The last two may hold a `|` themselves."""
SACCT = "JobID,State,NodeList,ExitCode,Submit,JobName,SubmitLine"
SACCT_OF_20 = "JobID,State,NodeList,ExitCode,Submit,JobName"
"""Of lines for `seen_by_sacct`; that of a Slurm before 21.08 gets a `|` at its end."""


class Identity(NamedTuple):
    """By what a launch's jobs are told from others that have the same numbers."""

    name: str
    cluster: str = ""
    """Empty in records of older versions, as all of the following."""
    mark: str = ""
    """What stands behind the script's name on the command line of `sbatch`."""
    submitted: Mapping[str, int] = {}
    """Unix time of the submission of each array."""
    at: float = 0.0
    """Of the launch, by the clock of the host that made it."""

    @classmethod
    def of(cls, submitted: Submitted) -> Identity:
        """From the record of a launch."""
        details = submitted.details
        times = details.get("submit_times", "").split()
        return cls(
            submitted.name,
            details.get("cluster", ""),
            details.get("mark", ""),
            {
                job: int(time)
                for job, time in zip(submitted.job_ids, times, strict=False)
                if time.isdecimal()
            },
            submitted.at,
        )


class Seen(NamedTuple):
    """A task as Slurm shows it, with what identifies it."""

    job: Job
    cluster: str
    """Empty: not told."""
    submitted: int | None
    """Unix time; None: not told."""
    restarted: bool
    """Then the time of its submission is that of its last restart."""
    names: str
    """Its name, `|`, and the command line of its script as far as that is told."""

    def is_of(self, whose: Identity) -> bool:
        """Whether all that is known of both agrees."""
        if not self.names.startswith(f"{whose.name}|"):
            return False
        command = self.names[len(whose.name) + 1 :]
        if whose.cluster and self.cluster and self.cluster != whose.cluster:
            return False
        if whose.mark and command and f" {marked(whose.mark)}-" not in command:
            return False
        if self.submitted is None:
            return True
        told = whose.submitted.get(self.job.id.partition("_")[0])
        if told is None:
            # A record of an older version, or no answer at that time: the mark says it alone, or
            # the time of the record, which was written after `sbatch` was waited for.
            return bool(whose.mark and command) or (
                self.restarted or whose.at - OLD_S <= self.submitted <= whose.at + CLOCKS_S
            )
        return self.submitted == told or (self.restarted and self.submitted > told)

    def called(self) -> str:
        """What a person may know it by."""
        return self.names.split("|")[0]


def job_of_squeue(line: str) -> Job:
    """A task from `id|state|nodes|status of wait(2)|reason|...`."""
    id, state, where, status, reason = line.split("|")[:5]
    exit_status, signum = _status_of_wait(status)
    return _job(id, state, where, exit_status, signum, reason)


def seen_by_squeue(line: str) -> Seen:
    """A task from a line with the fields of SQUEUE."""
    cluster, at, restarts, names = line.split("|", 8)[5:]
    restarted = bool(_number(restarts))
    names = names.removesuffix("|")
    return Seen(job_of_squeue(line), _none(cluster), _number(at), restarted, names)


def job_of_sacct(line: str) -> Job:
    """A task from `id|state|nodes|exit:signal|...`."""
    id, state, where, status = line.split("|")[:4]
    first, _, second = status.partition(":")
    return _job(id, state, where, _number(first), _number(second), "", folded=True)


def seen_by_sacct(line: str) -> Seen:
    """A task from a line with the fields of SACCT."""
    at, names = line.split("|", 5)[4:]
    # It tells of restarts by several lines for a job.
    return Seen(job_of_sacct(line), "", _number(at), True, names)


def _job(
    id: str, state: str, where: str, exit_status: int | None, signum: int | None, reason: str,
    *, folded: bool = False,
) -> Job:  # fmt: skip
    """`folded`: 128 was taken off an exit status from 128 on."""
    # sacct has `CANCELLED by 1000`.
    word = state.strip().partition(" ")[0].rstrip("+")
    where = _none(where)
    if word in _PENDING:
        why = f", {reason}" if reason not in ("", "None") else ""
        return Job(id, JobState.PENDING, "", word.lower() + why)
    if word in _RUNNING:
        return Job(id, JobState.RUNNING, where, word.lower())
    if word in _CANCELLED:
        return Job(id, JobState.CANCELLED, where, word.lower())
    if word == "COMPLETED":
        return Job(id, JobState.ENDED, where, "exit 0")
    if word != "FAILED":
        return Job(id, JobState.FAILED, where, word.lower())
    if signum:
        return Job(id, JobState.FAILED, where, f"signal {signum}")
    if not exit_status:  # it was not told, or it was 128
        return Job(id, JobState.FAILED, where, "failed")
    if exit_status in FINE:
        return Job(id, JobState.ENDED, where, f"exit {exit_status}")
    known = not folded or exit_status >= _FOLD or exit_status in _OURS
    other = "" if known else f" or {exit_status + _FOLD}"
    return Job(id, JobState.FAILED, where, f"exit {exit_status}{other}")


def _status_of_wait(text: str) -> tuple[int | None, int | None]:
    """Exit status and signal of the status of wait(2), or of `status:signal`."""
    if ":" in text:
        first, _, second = text.partition(":")
        return _number(first), _number(second)
    code = _number(text)
    return (None, None) if code is None else (code >> 8, code & 127)


def _none(word: str) -> str:
    return "" if word in ("None assigned", "(null)", "N/A") else word


def _number(word: str) -> int | None:
    return int(word) if word.isdecimal() else None

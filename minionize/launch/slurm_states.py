"""What `squeue` and `sacct` print, read."""

from __future__ import annotations

from minionize.launch.values import FINE, Job, JobState

_PENDING = frozenset({"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED",
                      "SPECIAL_EXIT", "RESV_DEL_HOLD", "PREEMPTED_REQUEUE"})  # fmt: skip
_RUNNING = frozenset({"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT",
                      "RESIZING"})  # fmt: skip
_CANCELLED = frozenset({"CANCELLED", "PREEMPTED", "REVOKED", "DEADLINE"})


def job_of_squeue(line: str) -> Job:
    """A task from `id|state|nodes|status of wait(2)|reason|`."""
    id, state, where, status, reason = line.split("|")[:5]
    code = int(status) if status.isdecimal() else 0
    return _job(id, state, where, code >> 8, code & 127, reason)


def job_of_sacct(line: str) -> Job:
    """A task from `id|state|nodes|exit:signal`."""
    id, state, where, status = line.split("|")[:4]
    exit_status, _, signum = status.partition(":")
    return _job(id, state, where, _number(exit_status), _number(signum), "")


def _job(id: str, state: str, where: str, exit_status: int, signum: int, reason: str) -> Job:
    # sacct has `CANCELLED by 1000`.
    word = state.strip().partition(" ")[0].rstrip("+")
    if where in ("None assigned", "(null)"):
        where = ""
    if word in _PENDING:
        why = f", {reason}" if reason not in ("", "None") else ""
        return Job(id, JobState.PENDING, "", word.lower() + why)
    if word in _RUNNING:
        return Job(id, JobState.RUNNING, where, word.lower())
    if word in _CANCELLED:
        return Job(id, JobState.CANCELLED, where, word.lower())
    if word == "COMPLETED" or (word == "FAILED" and exit_status in FINE and not signum):
        return Job(id, JobState.ENDED, where, f"exit {exit_status}")
    detail = f"signal {signum}" if signum else f"exit {exit_status}"
    return Job(id, JobState.FAILED, where, detail if word == "FAILED" else word.lower())


def _number(word: str) -> int:
    return int(word) if word.isdecimal() else 0

"""What `oarstat` prints, read."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any

from minionize.launch.identity import CLOCKS_S, OLD_S, marked
from minionize.launch.values import FINE, Job, JobState, Submitted

_PENDING = frozenset({"waiting", "hold", "toackreservation", "tolaunch", "resuming"})
_RUNNING = frozenset({"launching", "running", "suspended", "finishing"})


def job_of_oarstat(id: str, row: Mapping[str, Any]) -> Job:
    """A job from its row of `oarstat --json --full`."""
    word = str(row.get("state", "")).lower()
    where = ",".join(map(str, row.get("assigned_network_address") or ()))
    if word in _PENDING:
        return Job(id, JobState.PENDING, where, word)
    if word in _RUNNING:
        return Job(id, JobState.RUNNING, where, word)
    code = row.get("exit_code")
    if word not in ("terminated", "error", "toerror"):
        return Job(id, JobState.UNKNOWN, where, word)
    if code is None or not str(code).isdecimal():
        return Job(id, JobState.CANCELLED, where, "killed")
    status, signum = int(code) >> 8, int(code) & 127
    if signum == signal.SIGINT and is_cancelled(row):
        return Job(id, JobState.CANCELLED, where, "cancelled")
    if signum:
        return Job(id, JobState.FAILED, where, f"signal {signum}")
    return Job(id, JobState.ENDED if status in FINE else JobState.FAILED, where, f"exit {status}")


def is_cancelled(row: Mapping[str, Any]) -> bool:
    """Whether a running job was told by `oardel --signal INT`, and that reached it."""
    told = {event.get("type") for event in row.get("events") or ()}
    return "SIGNAL_INT" in told and "SIG_ERROR" not in told


def is_told(row: Mapping[str, Any]) -> bool:
    """Whether a job that is alive was told to end, or is to be deleted."""
    told = {event.get("type") for event in row.get("events") or ()}
    return is_cancelled(row) or "FRAG_JOB_REQUEST" in told


def is_of(row: Mapping[str, Any], submitted: Submitted) -> bool:
    """Whether a job is surely of this launch: its name and its mark agree. A record of an older
    version has no mark, but a time."""
    if row.get("name") != submitted.name:
        return False
    mark = submitted.details.get("mark")
    if mark:
        return str(row.get("command", "")).endswith(f" {marked(mark)}")
    try:
        at = float(row["submissionTime"])
    except (KeyError, TypeError, ValueError):
        return False
    again = str(row.get("resubmit_job_id") or 0) != "0"
    return submitted.at - OLD_S <= at and (again or at <= submitted.at + CLOCKS_S)

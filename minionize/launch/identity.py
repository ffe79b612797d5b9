"""By what a job is known to be ours; and what becomes of jobs that may be another's."""

from __future__ import annotations

from collections.abc import Sequence

from minionize.errors import LaunchRefused
from minionize.launch.values import Job

OLD_S = 600
"""So long before its record was written a launch may have been submitted."""
CLOCKS_S = 60
"""So far may the clocks of two hosts differ."""


def marked(mark: str, array: int | str = "") -> str:
    """The argument of a launch's script, the same in no other launch: in its first array, in its
    second. It does nothing there, and the scheduler shows it with the job."""
    return f"minionize={mark}" + (f"-{array}" if array != "" else "")


def leave_alone(jobs: Sequence[Job], told: int) -> None:
    """LaunchRefused if there are such jobs, after `told` others were told to end."""
    if not jobs:
        return
    others = f"{told} were told to end; " if told else ""
    whose = f"{jobs[0].id} ({jobs[0].detail})" if jobs[0].detail else jobs[0].id
    more = f" and {len(jobs) - 1} more" if len(jobs) > 1 else ""
    raise LaunchRefused(f"{others}not known, so left alone: {whose}{more}")

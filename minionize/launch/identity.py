"""What becomes of jobs that may be another's: they are left alone, and that is said."""

from __future__ import annotations

from collections.abc import Sequence

from minionize.errors import LaunchRefused
from minionize.launch.values import Job


def leave_alone(jobs: Sequence[Job], told: int) -> None:
    """LaunchRefused if there are such jobs, after `told` others were told to end."""
    if not jobs:
        return
    others = f"{told} were told to end; " if told else ""
    whose = f"{jobs[0].id} ({jobs[0].detail})" if jobs[0].detail else jobs[0].id
    more = f" and {len(jobs) - 1} more" if len(jobs) > 1 else ""
    raise LaunchRefused(f"{others}not known, so left alone: {whose}{more}")

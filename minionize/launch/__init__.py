"""Starts minions where the machines are: on this one, or through the scheduler that is there.

A `Launch` says what is wanted; the module of a scheduler (`launcher("slurm")`) makes a script of
it, submits it and tells what became of it, as `minionize.launch.contract.Launcher` promises:

    launch = Launch(minions=10, queue="file:/shared/runs", command=("./a.out",), wall_time_s=3600)
    print(launcher("slurm").render(launch))

Nothing here opens a queue: that is up to whoever follows a launch.
"""

from __future__ import annotations

from minionize.launch.contract import Launcher
from minionize.launch.registry import SCHEDULERS, launcher
from minionize.launch.values import Job, JobState, Launch, LogLine, Submitted

__all__ = [
    "SCHEDULERS",
    "Job",
    "JobState",
    "Launch",
    "Launcher",
    "LogLine",
    "Submitted",
    "launcher",
]

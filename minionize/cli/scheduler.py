"""The scheduler that a command of ours asks, and what a person hears while it does not answer."""

from __future__ import annotations

from minionize.cli.ending import one_line, say
from minionize.launch.contract import Launcher
from minionize.launch.registry import launcher


def scheduler_for(name: str, scheduler: str) -> Launcher:
    """The module of `scheduler`; `name`: of the command, before each line about a long wait."""
    from minionize.launch import commands

    commands.tell = lambda line: say(f"{name}: {one_line(line)}")
    return launcher(scheduler)

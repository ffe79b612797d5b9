"""Settings: the one reader of the environment, `.env` and `.minionize.yml`.

`load` gathers them; `Settings` is the value that the rest of minionize is given. `load_launch`
gives the section of `.minionize.yml` for a scheduler.
"""

from __future__ import annotations

import os

from minionize.settings.machine import shell_between
from minionize.settings.project import SCHEDULERS, YAML, LaunchSection, load_launch
from minionize.settings.sources import Loaded, environment, left_out, load
from minionize.settings.value import Settings

__all__ = [
    "SCHEDULERS",
    "YAML",
    "LaunchSection",
    "Loaded",
    "Settings",
    "debugging",
    "environment",
    "left_out",
    "load",
    "load_launch",
    "shell_between",
]


def debugging() -> bool:
    """Whether MINION_DEBUG asks for tracebacks. Needed before, and without, any settings."""
    return os.environ.get("MINION_DEBUG", "") not in ("", "0")

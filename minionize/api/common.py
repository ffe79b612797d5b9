"""What all of the Python API does the same way."""

from __future__ import annotations

from typing import Any

from minionize import settings as settings_of
from minionize.errors import UsageError
from minionize.settings import Settings


def load_settings(given: dict[str, Any], *, feeding: bool = False) -> Settings:
    """The settings of this process with these on top; notes on them are logged."""
    loaded = settings_of.load(given, feeding=feeding)
    for note in loaded.notes:
        say(note)
    return loaded.settings


def say(line: str) -> None:
    """A line for a person."""
    import logging

    logging.getLogger("minionize").warning("%s", line)


def refuse_half_started() -> None:
    """UsageError in a process that multiprocessing starts anew, and that runs the script of its
    parent first: it would start minions, which start processes, and so on."""
    import sys

    process = sys.modules.get("multiprocessing.process")
    if process is not None and getattr(process.current_process(), "_inheriting", False):
        raise UsageError(
            "a process that is being started by multiprocessing can't work on a queue: put what "
            "the script does below if __name__ == '__main__':"
        )

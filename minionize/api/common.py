"""What all of the Python API does the same way."""

from __future__ import annotations

from typing import Any

from minionize import settings as settings_of
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

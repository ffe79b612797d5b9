"""Settings: the one reader of the environment, `.env` and `.minionize.yml`.

`load` gathers them; `Settings` is the value that the rest of minionize is given.
"""

from __future__ import annotations

from minionize.settings.sources import Loaded, load
from minionize.settings.value import Settings

__all__ = ["Loaded", "Settings", "load"]

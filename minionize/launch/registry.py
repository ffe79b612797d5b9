"""From a scheduler's name to its module. Nothing is imported before it is used."""

from __future__ import annotations

from typing import cast

from minionize.errors import MissingDriver, UsageError
from minionize.launch.contract import Launcher
from minionize.nearest import nearest

SCHEDULERS = {
    "local": "this machine",
    "oar": "OAR: oarsub --array",
    "slurm": "Slurm: sbatch --array",
    "kubernetes": "Kubernetes: an indexed Job",
}
"""Name to what `--help` says of it; each has a module of that name beside this one."""

EXTRAS = {"kubernetes": "kubernetes"}
"""What `pip install 'minionize[…]'` must name for those that need a client library."""


def launcher(name: str) -> Launcher:
    """The module of the scheduler `name`. UsageError for an unknown one."""
    if name not in SCHEDULERS:
        near = nearest(name, SCHEDULERS)
        meant = f", did you mean {near}?" if near else ""
        raise UsageError(
            f"no scheduler is called {name!r}: there are {', '.join(SCHEDULERS)}{meant}"
        )
    from importlib import import_module

    try:
        return cast(Launcher, import_module(f"minionize.launch.{name}"))
    except ModuleNotFoundError as error:
        if name in EXTRAS and (error.name or "").partition(".")[0] != "minionize":
            extra = EXTRAS[name]
            raise MissingDriver(f"{name} needs: pip install 'minionize[{extra}]'") from error
        raise

"""Run one program over a million params, on a laptop or a thousand preemptible nodes.

The names below are all that scripts need; each is loaded when it is first used, so that
`import minionize` costs nothing. See the README for what they do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minionize.api import Minionized, QueueHandle, minionize, minionizer, open_queue
    from minionize.callbacks.container import ContainerCallback
    from minionize.callbacks.current import Run, current_run
    from minionize.callbacks.func import FuncCallback
    from minionize.callbacks.process import ProcessCallback
    from minionize.errors import MinionizeError, Reject, RetryLater
    from minionize.settings import Settings
    from minionize.values import Param
    from minionize.worker.summary import Summary

_HOMES = {
    "ContainerCallback": "minionize.callbacks.container",
    "FuncCallback": "minionize.callbacks.func",
    "MinionizeError": "minionize.errors",
    "Minionized": "minionize.api",
    "Param": "minionize.values",
    "ProcessCallback": "minionize.callbacks.process",
    "QueueHandle": "minionize.api",
    "Reject": "minionize.errors",
    "RetryLater": "minionize.errors",
    "Run": "minionize.callbacks.current",
    "Settings": "minionize.settings",
    "Summary": "minionize.worker.summary",
    "current_run": "minionize.callbacks.current",
    "minionize": "minionize.api",
    "minionizer": "minionize.api",
    "open_queue": "minionize.api",
}

__all__ = [
    "ContainerCallback",
    "FuncCallback",
    "MinionizeError",
    "Minionized",
    "Param",
    "ProcessCallback",
    "QueueHandle",
    "Reject",
    "RetryLater",
    "Run",
    "Settings",
    "Summary",
    "current_run",
    "minionize",
    "minionizer",
    "open_queue",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(home), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

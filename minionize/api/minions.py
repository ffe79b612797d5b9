"""Minions from Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from minionize.api.common import load_settings, refuse_half_started, say
from minionize.callbacks.func import FuncCallback
from minionize.errors import UsageError

if TYPE_CHECKING:
    from minionize.assembly import Minion


def minionizer(callback: Any, **settings: Any) -> Minion:
    """A minion that does `callback` with each param of the queue; `.run()` returns its Summary.

    `callback` is a ProcessCallback, a FuncCallback or a function. UsageError for settings that
    can't be used; `.run()` raises what keeps it from beginning (NoSuchQueue, EngineUnavailable).
    """
    from minionize.assembly import make_minion

    refuse_half_started()
    if isinstance(callback, type) and hasattr(callback, "invocation"):
        name = callback.__name__
        raise UsageError(f"minionizer needs an object, not the class {name}: give {name}()")
    if not hasattr(callback, "invocation") and not isinstance(callback, FuncCallback):
        callback = FuncCallback(callback)
    return make_minion(load_settings(settings), callback, lines=say)

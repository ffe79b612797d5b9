"""The real `execo_engine.sweep`, without what else comes with importing execo.

`import execo_engine` starts execo's machinery for remote processes: it forks a process that stays
until its parent ends, starts a thread, and takes over the signal wakeup descriptor, which the
worker needs for its own. Sweeps use none of that. So only `sweep.py` is executed, inside a
package that becomes the whole of execo_engine as soon as somebody asks it for more.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

_PACKAGE = "execo_engine"


@cache
def sweep_module() -> Any:
    """The module `execo_engine.sweep`. ModuleNotFoundError where execo is not installed."""
    if _PACKAGE in sys.modules:  # somebody has imported it, with all that comes with it
        import_module(f"{_PACKAGE}.sweep")
        return sys.modules[f"{_PACKAGE}.sweep"]
    spec = find_spec(_PACKAGE)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {_PACKAGE!r}", name=_PACKAGE)
    package = sys.modules[_PACKAGE] = _package(spec)
    log = sys.modules[f"{_PACKAGE}.log"] = _log()
    try:
        sweep = import_module(f"{_PACKAGE}.sweep")
    except BaseException:  # Ctrl-C as well
        del sys.modules[_PACKAGE]
        raise
    finally:
        del sys.modules[f"{_PACKAGE}.log"]
    for name in ("log", "sweep"):
        vars(package).pop(name, None)
    assert sweep.logger is vars(log)["logger"]
    return sweep


def _package(spec: ModuleSpec) -> ModuleType:
    """The package execo_engine, executed only when it is asked for something else than sweeps."""
    package = module_from_spec(spec)

    def rest(name: str) -> Any:
        sweep = sys.modules.get(f"{_PACKAGE}.sweep")
        if sweep is not None and not name.startswith("__") and hasattr(sweep, name):
            return getattr(sweep, name)
        if name.startswith("__") or spec.loader is None:
            raise AttributeError(f"module {_PACKAGE!r} has no attribute {name!r}")
        del vars(package)["__getattr__"]
        spec.loader.exec_module(package)
        return getattr(package, name)

    vars(package)["__getattr__"] = rest
    return package


def _log() -> ModuleType:
    """Stands in for execo_engine.log while sweep.py is imported: its traces go nowhere."""

    class Silent:
        def __getattr__(self, level: str) -> Any:
            return lambda *_args: None

    log = ModuleType(f"{_PACKAGE}.log")
    vars(log)["logger"] = Silent()
    return log

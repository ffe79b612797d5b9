"""The official client, and no more of it than is used.

`import redis` runs all of it: asyncio's side, clusters, Sentinel, each command; 0.1 s and more for
a minion that needs one connection. So a package whose parts can be imported without it is put off:
its own code runs as soon as anybody asks it for a name, as `redis.Redis`, and it is the same
package then as ever.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from types import ModuleType
from typing import Any

_lock = threading.RLock()
_running: set[str] = set()

_ALONE = {
    "asyncio": {"IncompleteReadError": "exceptions", "Lock": "locks", "StreamReader": "streams"}
}
"""Packages whose parts need nothing of the package itself: what the client asks them for when it is
imported, and the part that has it."""
_IN_VAIN = ("importlib.metadata", "asyncio", "ipaddress", "random", "textwrap", "tokenize")
"""What is only imported along: by the client, for its version, its other half and what it may have
to do one day, and by what the client imports."""


class _PutOff(ModuleType):
    """A package whose own code has not run yet. Its parts are imported as usual."""

    def __getattr__(self, name: str) -> Any:
        """Only asked for what is not there."""
        with _lock:
            me = self.__name__
            if type(self) is _PutOff:
                if me in _running:  # by us: its code imports what wants it
                    raise AttributeError(f"partially initialized module {me!r} has no {name!r}")
                names = _ALONE.get(me)
                if names is not None:
                    if name in names:
                        return getattr(importlib.import_module(f"{me}.{names[name]}"), name)
                    if importlib.util.find_spec(f"{me}.{name}") is not None:
                        return importlib.import_module(f"{me}.{name}")
                spec = self.__spec__
                assert spec is not None and spec.loader is not None
                _running.add(me)
                try:
                    spec.loader.exec_module(self)
                    self.__class__ = ModuleType  # type: ignore[assignment]
                finally:
                    _running.discard(me)
        return getattr(self, name)


def put_off(name: str) -> None:
    """Have `name` as it will be, unless it was imported already. What is not installed is left
    for the import that wants it."""
    if name in sys.modules:
        return
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        return
    module = importlib.util.module_from_spec(spec)
    module.__class__ = _PutOff
    sys.modules[name] = module
    parent, _, own = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], own, module)


def _import_parts() -> None:
    """What is used here, by its own name."""
    for part in ("backoff", "connection", "exceptions", "retry"):
        importlib.import_module(f"redis.{part}")


def _imported() -> None:
    if "redis" in sys.modules:
        return
    for module in _IN_VAIN:
        put_off(module)
    put_off("redis")
    try:
        _import_parts()
    except (ImportError, AttributeError):
        # A version whose parts need the whole; or there is none, and that is said now.
        halves = ["redis", *(name for name in _ALONE if type(sys.modules.get(name)) is _PutOff)]
        for name in [name for name in sys.modules if name.partition(".")[0] in halves]:
            del sys.modules[name]
        importlib.import_module("redis")


_imported()

from redis import backoff, connection, exceptions, retry  # noqa: E402


def anonymous() -> dict[str, Any]:
    """Options of a connection that need not find out which version of the client is installed,
    to tell the server: that takes 15 ms."""
    try:
        from redis.driver_info import DriverInfo
    except ImportError:  # an older one, which has found it out by now
        return {}
    return {"driver_info": DriverInfo(lib_version=None)}


__all__ = ["anonymous", "backoff", "connection", "exceptions", "retry"]

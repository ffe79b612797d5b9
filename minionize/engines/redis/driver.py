"""The official client, and no more of it than is used.

`import redis` runs all of it: asyncio's side, clusters, Sentinel, each command; 0.1 s and more for
a minion that needs one connection. So that is put off, and so is what is only imported along, where
no code but ours runs. Elsewhere the client is imported as ever.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import FunctionType
from typing import Any

from minionize import engines
from minionize.engines.redis.put_off import for_now, is_put_off, put_off

_IN_PARTS = {
    "asyncio": {"IncompleteReadError": "asyncio.exceptions"},
    "ssl": {"SSLError": "_ssl", "SSLWantReadError": "_ssl", "SSLWantWriteError": "_ssl"},
}
"""What the client asks them for when it is imported, and which module has it."""
_IN_VAIN = ("importlib.metadata", "inspect", "ipaddress", "random", "textwrap", "tokenize",
            "traceback")  # fmt: skip
"""What is only imported along: by the client, for its version, and for what it may have to do one
day, and by what the client imports."""
_CO_COROUTINE = 0x80
"""As in `inspect`."""


def _is_coroutine_function(function: Any) -> bool:
    """`inspect.iscoroutinefunction`, which the client asks of functions of its own."""
    if type(function) is FunctionType and not any(
        name.startswith("_is_coroutine") for name in vars(function)
    ):
        return bool(function.__code__.co_flags & _CO_COROUTINE)
    whole = importlib.import_module("inspect")
    whole.isfunction(function)  # so its code has run, and what follows is its own
    return bool(whole.iscoroutinefunction(function))


_MENTIONED: dict[str, dict[str, Any]] = {
    "asyncio": {name: type(name, (), {}) for name in ("Lock", "StreamReader")},
    "inspect": {"iscoroutinefunction": _is_coroutine_function},
    "ssl": {"VerifyFlags": type("VerifyFlags", (), {})},
}
"""What the client only mentions in types when it is imported, and what it asks of its own code."""


def _import_parts() -> None:
    """What is used here, by its own name."""
    for part in ("backoff", "connection", "exceptions", "retry"):
        importlib.import_module(f"redis.{part}")


def _imported() -> None:
    if "redis" in sys.modules:
        return
    if not engines.alone:
        importlib.import_module("redis")
        return
    for module in _IN_VAIN:
        put_off(module)
    for module, elsewhere in _IN_PARTS.items():
        # Whether there is OpenSSL is found out by importing it.
        if module != "ssl" or importlib.util.find_spec("_ssl") is not None:
            put_off(module, elsewhere)
    put_off("redis")
    try:
        with for_now(_MENTIONED):
            _import_parts()
    except Exception:
        # A version whose parts need the whole, whatever they raise without it: TypeError, say,
        # where more is done with a stand-in than to mention it. Or there is none: that is said now.
        halves = ["redis", *(["asyncio"] if is_put_off("asyncio") else [])]
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

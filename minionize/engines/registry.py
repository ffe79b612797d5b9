"""From a queue URL to the engine that speaks it: scheme → module, and the extra it needs.

Nothing is imported before a queue of its kind is opened. Engines of others are entry points in
the group `minionize.engines`, named as their scheme; they are looked for only where the scheme
is not built in, since that look takes longer than everything else here.
"""

from __future__ import annotations

import os.path
import re
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from minionize import engines
from minionize.errors import MissingDriver, UsageError
from minionize.nearest import nearest

if TYPE_CHECKING:
    from minionize.contracts.engine import Driver, Engine, EngineOptions, Queue

GROUP = "minionize.engines"


class BuiltIn(NamedTuple):
    """Where an engine of ours lives."""

    module: str
    extra: str | None = None
    """What `pip install 'minionize[…]'` must name; None: nothing to install."""
    whole: bool = False
    """It speaks several schemes, so it is given the whole URL as its address."""


BUILT_IN = {
    "execo": BuiltIn("minionize.engines.execo", "execo"),
    "file": BuiltIn("minionize.engines.file"),
    "memory": BuiltIn("minionize.engines.memory"),
    "pulsar": BuiltIn("minionize.engines.pulsar", "pulsar", whole=True),
    "pulsar+ssl": BuiltIn("minionize.engines.pulsar", "pulsar", whole=True),
    "pubsub": BuiltIn("minionize.engines.pubsub", "google"),
    "redis": BuiltIn("minionize.engines.redis", "redis", whole=True),
    "rediss": BuiltIn("minionize.engines.redis", "redis", whole=True),
    "unix": BuiltIn("minionize.engines.redis", "redis", whole=True),
}

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
_WINDOWS = r"[A-Za-z]:[\\/]"


def normalise(url: str) -> str:
    """`url` as `scheme:address`. Without a scheme it is a folder, hence `file:`; `~` is expanded.

    UsageError for a scheme that nobody offers.
    """
    scheme, address = _split(url)
    return f"{scheme}:{address}"


def scheme_of(url: str) -> str:
    """The scheme of `url`, in lower case. UsageError if nobody offers it."""
    return _split(url)[0]


def schemes() -> list[str]:
    """All schemes that can be opened, built in or from entry points."""
    return sorted({*BUILT_IN, *(point.name for point in _entry_points())})


def open_engine(url: str, options: EngineOptions) -> Engine:
    """Join the queue that `url` names as a minion. NoSuchQueue if it is missing."""
    scheme, address = _for_driver(url)
    try:
        return _driver(scheme).open_engine(address, options)
    except ModuleNotFoundError as error:
        raise _missing(scheme, error) from error


def open_queue(url: str, options: EngineOptions) -> Queue:
    """A person's face of the queue that `url` names."""
    scheme, address = _for_driver(url)
    try:
        return _driver(scheme).open_queue(address, options)
    except ModuleNotFoundError as error:
        raise _missing(scheme, error) from error


def _for_driver(url: str) -> tuple[str, str]:
    """(scheme, what its driver is given as the address)."""
    scheme, address = _split(url)
    built_in = BUILT_IN.get(scheme)
    return scheme, f"{scheme}:{address}" if built_in is not None and built_in.whole else address


def _split(url: str) -> tuple[str, str]:
    """(scheme, address) of a URL or folder; the scheme is one that somebody offers."""
    if not url or "\0" in url:
        raise UsageError(f"queue {url!r} is no name: give a folder or a URL such as file:runs/q")
    match = _SCHEME.fullmatch(url)
    if match is None:
        return "file", _folder(url, url)
    scheme, address = match[1].lower(), match[2]
    if scheme == "file":
        return scheme, _folder(address, url)
    if scheme == "execo":
        return scheme, os.path.expanduser(address)
    if scheme not in BUILT_IN and (re.match(_WINDOWS, url) or _entry_point(scheme) is None):
        raise _unknown(scheme, url)
    return scheme, address


def _folder(address: str, url: str) -> str:
    """The folder that a `file:` address names."""
    if address.startswith("//"):
        host, slash, path = address[2:].partition("/")
        if host in ("", "localhost"):
            address = slash + path
        elif host == "~":
            address = address[2:]
        else:
            raise UsageError(
                f"queue {url!r} names host {host!r}, and a file queue has none: "
                f"use file:{address[2:]}"
            )
    if not address:
        raise UsageError(f"queue {url!r} names no folder: use for instance file:minion-queue")
    return os.path.expanduser(address).rstrip("/") or "/"


def _unknown(scheme: str, url: str) -> UsageError:
    from minionize.engines.address import without_credentials

    known = schemes()
    url = without_credentials(url)
    listing = ", ".join(f"{name}:" for name in known)
    if re.match(_WINDOWS, url):
        return UsageError(
            f"queue {url!r} looks like a Windows path, and minions run on Linux: "
            f"use a folder, or one of {listing}"
        )
    near = nearest(scheme, known)
    meant = f" (did you mean {near}:?)" if near else ""
    folder = "" if "//" in url else f", and a folder of that name is ./{url}"
    return UsageError(
        f"queue {url!r}: no engine for {scheme!r}{meant}; there are {listing}{folder}"
    )


def _driver(scheme: str) -> Driver:
    """The module that opens queues of `scheme`."""
    from importlib import import_module

    built_in = BUILT_IN.get(scheme)
    if built_in is not None:
        return cast("Driver", import_module(built_in.module))
    point = _entry_point(scheme)
    assert point is not None, scheme
    engines.alone = False
    return cast("Driver", point.load())


def _missing(scheme: str, error: ModuleNotFoundError) -> Exception:
    """The error to raise instead of `error`: names what to install."""
    if error.name is None or error.name.partition(".")[0] == "minionize":
        return error
    built_in = BUILT_IN.get(scheme)
    if built_in is not None and built_in.extra:
        return MissingDriver(f"engine {scheme!r} needs: pip install 'minionize[{built_in.extra}]'")
    return MissingDriver(f"engine {scheme!r} needs the Python module {error.name!r}: install it")


def _entry_points() -> Any:
    from importlib.metadata import entry_points

    return entry_points(group=GROUP)


def _entry_point(scheme: str) -> Any:
    for point in _entry_points():
        if point.name == scheme:
            return point
    return None

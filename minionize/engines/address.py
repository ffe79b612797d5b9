"""The URL of a broker's queue taken to pieces, and shown without its credentials."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, NamedTuple

from minionize.errors import UsageError
from minionize.nearest import nearest

if TYPE_CHECKING:
    from urllib.parse import SplitResult

# urllib.parse is imported where it is used: slow, and a look at credentials needs none of it.

HIDDEN = "***"
# All cases of all of Unicode would take ten times as long to compile.
_SECRET_PARAMETER = re.compile(
    r"([?&][^=&#]*?(?:pass|secret|token|credential|private)[^=&#]*=)[^&#]*", re.I | re.A
)
# A folder may be called anything.
_BROKER = re.compile(r"(?!(?:file|execo|memory):)[a-z][a-z0-9+.-]*://", re.I | re.A)
_CREDENTIALS = r"(?s)//.*@"
_MOST_SECRET_BYTES = 1024 * 1024


class Address(NamedTuple):
    """A URL's pieces, each percent-decoded. What is not said is empty or None."""

    scheme: str
    """In lower case."""
    user: str
    password: str
    host: str
    """The first one, without the brackets of an IPv6 address."""
    port: int | None
    """Of that host."""
    hosts: str
    """All of them with their ports, as they stand in the URL: `one:6650,two:6650`."""
    path: str
    """Without its first slash."""
    parameters: Mapping[str, str]
    """What follows `?`; a parameter that is given without a value is empty."""


def parse(url: str, known: Collection[str]) -> Address:
    """`url` in pieces. `known`: the parameters that this engine has.

    UsageError for one that is not known or given twice, and for what is no URL; never with the
    credentials in it.
    """
    from urllib.parse import unquote, urlsplit

    shown = without_credentials(url)
    split = _split(url)
    if split is None:
        raise UsageError(
            f"queue {shown!r} is no URL: write for instance redis://host:6379/0?stream=NAME, "
            "with % escapes in user and password (/ is %2F, @ is %40, # is %23)"
        )
    if split.fragment or url.endswith("#"):
        raise UsageError(f"queue {shown!r} has a #: write it as %23")
    first, _, _ = split.netloc.rpartition("@")[2].partition(",")
    one = urlsplit(f"//{first}")
    return Address(
        scheme=split.scheme.lower(),
        user=unquote(split.username or ""),
        password=unquote(split.password or ""),
        host=unquote(one.hostname or ""),
        port=one.port,
        hosts=split.netloc.rpartition("@")[2],
        path=unquote(split.path.removeprefix("/")),
        parameters=_parameters(split.query, known, shown),
    )


def without_credentials(url: str) -> str:
    """`url` for messages: no user, no password, and no parameter that names a secret.

    A URL that can't be read, as one whose password has a bare slash, loses all that might be
    one.
    """
    if _BROKER.match(url) is None:
        return url
    url = _SECRET_PARAMETER.sub(rf"\1{HIDDEN}", url)
    if "@" not in url:
        return url
    split = _split(url)
    if split is not None:
        user, at, hosts = split.netloc.rpartition("@")
        rest = url.partition("//")[2][len(split.netloc) :]
        if not at and re.fullmatch(r"[^@]*\?([\w.-]+=[^&]*(&|\Z))*", rest):
            return url
        if at and "@" not in user and "@" not in rest:
            return url.replace(f"//{split.netloc}", f"//{hosts}", 1)
    return re.sub(_CREDENTIALS, "//", url)


def has_password(url: str) -> bool:
    """Whether `url` shows a secret to those who see it: a password, a token as a parameter."""
    return _BROKER.match(url) is not None and (
        _SECRET_PARAMETER.search(url) is not None
        or re.match(r"[^:]*://[^/?#]*:[^@]+@", url) is not None
    )


def credential(env: Mapping[str, str], name: str) -> str:
    """The secret that the variable `name` holds, or the file that `name`_FILE names (a mounted
    secret, say; without its last line break); the empty string where neither is set.

    UsageError for a file that can't be read.
    """
    said = env.get(name, "")
    path = env.get(f"{name}_FILE", "")
    if said or not path:
        return said
    try:
        return _read_secret(path).decode().removesuffix("\n").removesuffix("\r")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is no UTF-8"
        raise UsageError(f"{name}_FILE={path} can't be read ({why}): mend or unset it") from error


def _read_secret(path: str) -> bytes:
    """All of the file. OSError for what has no end (a device) or may never begin (a pipe without
    a writer); a shell's `<(pass redis)` has one."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISFIFO(mode) and path.startswith(("/dev/", "/proc/")):
            os.set_blocking(fd, True)
        elif stat.S_ISFIFO(mode):
            raise OSError(errno.EINVAL, "it is a named pipe")
        elif not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise OSError(errno.EINVAL, "it is a device")
        with open(fd, "rb", closefd=False) as file:
            read = file.read(_MOST_SECRET_BYTES + 1)
    finally:
        os.close(fd)
    if len(read) > _MOST_SECRET_BYTES:
        raise OSError(errno.EFBIG, "it is larger than 1 MiB, no secret")
    return read


def with_parameters(base: str, parameters: Mapping[str, str]) -> str:
    """`base` with those of `parameters` that are not empty, escaped as they must be."""
    from urllib.parse import quote

    said = [f"{name}={quote(value, safe='')}" for name, value in parameters.items() if value]
    return f"{base}?{'&'.join(said)}" if said else base


def _split(url: str) -> SplitResult | None:
    """The URL's coarse pieces; None where a host or port is none, or it has blanks."""
    from urllib.parse import urlsplit

    if not url.isprintable() or " " in url:
        return None
    try:
        split = urlsplit(url)
        for host in split.netloc.rpartition("@")[2].split(","):
            _ = urlsplit(f"//{host}").port
    except ValueError:
        return None
    return split if split.scheme else None


def _parameters(query: str, known: Collection[str], shown: str) -> dict[str, str]:
    from urllib.parse import parse_qsl

    parameters: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            near = nearest(name, known)
            meant = f"did you mean {near}?" if near else f"it takes {', '.join(known) or 'none'}"
            raise UsageError(f"queue {shown!r} has no parameter {name!r}: {meant}")
        if name in parameters:
            raise UsageError(f"queue {shown!r} says {name!r} twice: say it once")
        parameters[name] = value
    return parameters

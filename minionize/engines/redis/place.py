"""Where a queue is: its URL, and what REDIS_ variables say that the URL lacks."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from minionize.engines.address import Address, credential, parse
from minionize.engines.envelope import checked_decoder
from minionize.engines.redis.keys import keys
from minionize.errors import UsageError

GROUP = "minions"
PARAMETERS = ("stream", "group", "decoder", "field", "db")
_NAME = re.compile(r"[^\s{}]+(\{[^\s{}]+\}[^\s{}]*)?|\{[^\s{}]+\}[^\s{}]*")


@dataclass(frozen=True)
class Place:
    """A server, and a stream there."""

    url: str
    """Without credentials."""
    stream: str
    keys: tuple[bytes, ...]
    group: str = GROUP
    decoder: str = "identity"
    field: str = ""
    """The field of somebody else's messages that is the param; empty: their only one."""
    host: str = "localhost"
    port: int = 6379
    path: str = ""
    """Of a Unix socket, instead of host and port."""
    db: int = 0
    user: str = dataclasses.field(default="", repr=False)
    password: str = dataclasses.field(default="", repr=False)
    tls: Mapping[str, str] | None = None
    """For rediss: keyword arguments with the files."""

    def connection(self, timeout_s: float) -> Any:
        """A new connection, not connected yet. Nothing is retried by itself: a command whose
        answer got lost may have been done."""
        from minionize.engines.redis import driver

        options: dict[str, Any] = {
            **driver.anonymous(),
            "db": self.db,
            "username": self.user or None,
            "password": self.password or None,
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
            "retry": driver.retry.Retry(driver.backoff.NoBackoff(), 0),
            "protocol": 2,
            # Fewer, larger reads: answers hold thousands of params.
            "socket_read_size": 1 << 18,
        }
        kind: Any  # the driver's types are partial
        if self.path:
            kind = driver.connection.UnixDomainSocketConnection
            return kind(path=self.path, **options)
        kinds = driver.connection
        kind = kinds.Connection if self.tls is None else kinds.SSLConnection
        options.update(self.tls or {})
        return kind(host=self.host, port=self.port, socket_keepalive=True, **options)


def place_of(url: str, env: Mapping[str, str]) -> Place:
    """The queue that `url` names. UsageError for what can't be."""
    address = parse(url, PARAMETERS)
    said = address.parameters
    stream = said.get("stream") or env.get("REDIS_STREAM", "")
    if not stream or _NAME.fullmatch(stream) is None:
        what = f"stream {stream!r} is no name" if stream else "no stream is named"
        raise UsageError(
            f"queue {address.scheme}: {what}: write ?stream=NAME behind it, with neither blanks "
            "nor lone braces"
        )
    decoder = checked_decoder(
        said.get("decoder") or env.get("REDIS_DECODER", ""),
        "decoder=" if said.get("decoder") else "REDIS_DECODER",
    )
    group = said.get("group") or GROUP
    unix = address.scheme == "unix"
    path = f"/{address.path}" if unix else ""
    if unix and (address.host or not address.path):
        raise UsageError("queue unix: names no socket: write unix:///path/of/socket?stream=NAME")
    db_text = (said.get("db", "") if unix else address.path) or env.get("REDIS_DB") or "0"
    if not db_text.isdecimal():
        raise UsageError(f"queue {address.scheme}: database {db_text!r} is no number: use host/0")
    host = address.host or env.get("REDIS_HOST") or "localhost"
    port = address.port or _port(env)
    return Place(
        url=_shown(address, path, host, port, int(db_text), stream, group),
        stream=stream,
        keys=tuple(key.encode() for key in keys(stream)),
        group=group,
        decoder=decoder,
        field=said.get("field", ""),
        host=host,
        port=port,
        path=path,
        db=int(db_text),
        user=address.user or env.get("REDIS_USER", ""),
        password=address.password or credential(env, "REDIS_PASSWORD"),
        tls=_tls(env) if address.scheme == "rediss" else None,
    )


def _port(env: Mapping[str, str]) -> int:
    text = env.get("REDIS_PORT", "")
    # Kubernetes sets it to tcp://10.0.0.1:6379 where a Service is called redis.
    if not text or "://" in text:
        return 6379
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise UsageError(f"REDIS_PORT={text} is no port: set it to a number such as 6379")
    return int(text)


def _tls(env: Mapping[str, str]) -> dict[str, str]:
    """Files for TLS, each of which must be there: a missing one would be a riddle later."""
    found: dict[str, str] = {}
    for variable, option in (
        ("REDIS_CA_FILE", "ssl_ca_certs"),
        ("REDIS_CERT_FILE", "ssl_certfile"),
        ("REDIS_KEY_FILE", "ssl_keyfile"),
    ):
        path = env.get(variable)
        if path:
            if not os.access(path, os.R_OK):
                raise UsageError(f"{variable}={path} can't be read: mend the path or its rights")
            found[option] = path
    if "ssl_keyfile" in found and "ssl_certfile" not in found:
        raise UsageError("REDIS_KEY_FILE needs its certificate: set REDIS_CERT_FILE too")
    return found


def _shown(
    address: Address,
    path: str,
    host: str,
    port: int,
    db: int,
    stream: str,
    group: str,
) -> str:
    said_too = [f"stream={quote(stream, safe='')}"]
    if group != GROUP:
        said_too.append(f"group={quote(group, safe='')}")
    if path and db:
        said_too.append(f"db={db}")
    bracketed = f"[{host}]" if ":" in host else host
    base = f"unix://{quote(path)}" if path else f"{address.scheme}://{bracketed}:{port}/{db}"
    return f"{base}?{'&'.join(said_too)}"

"""What a server or the network said, as an error of ours: worth a retry, or not."""

from __future__ import annotations

from minionize.engines.redis.driver import exceptions
from minionize.errors import (
    EngineUnavailable,
    MinionizeError,
    NoSuchQueue,
    QueueRefused,
    UsageError,
)

# Within a script Redis 6.2, Redis 7 and Valkey say it each in its own way.
_DENIED = ("NOPERM", "user executing the script can't", "ACL failure in script")
_NOT_NOW = ("MASTERDOWN", "NOREPLICAS", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "UNBLOCKED")


def translated(error: Exception, url: str) -> MinionizeError:
    """`error` of the driver as one of ours, in one line."""
    said = " ".join(str(error).split())
    code = said.partition(" ")[0]
    lower = said.lower()
    if isinstance(error, exceptions.BusyLoadingError) or code == "LOADING":
        return EngineUnavailable(f"{url}: the server is still loading its data")
    if (
        isinstance(error, (exceptions.AuthenticationError, exceptions.AuthorizationError))
        or code in ("NOAUTH", "WRONGPASS")
        or "invalid username-password" in lower
    ):
        return QueueRefused(
            f"{url}: the server wants another user or password: set REDIS_USER and REDIS_PASSWORD"
        )
    if isinstance(error, exceptions.NoPermissionError) or any(phrase in said for phrase in _DENIED):
        return QueueRefused(
            f"{url}: this user may not do that ({said}): give it the rights of its role in "
            "docs/redis.md"
        )
    # The driver takes the code away, and a script puts more before it.
    if "command not allowed when used memory" in said:
        return EngineUnavailable(
            f"{url}: the server has no memory left: let minions empty the queue, or raise its "
            "maxmemory"
        )
    if isinstance(error, exceptions.ReadOnlyError) or "READONLY" in said:
        return EngineUnavailable(f"{url}: this server is a read-only replica: name its master")
    if "MISCONF" in said:
        return EngineUnavailable(f"{url}: the server can't write to its disk ({said})")
    if isinstance(error, exceptions.MasterDownError) or code in _NOT_NOW:
        return EngineUnavailable(f"{url}: the server can't just now ({said})")
    if code in ("MOVED", "ASK"):
        return UsageError(
            f"{url}: this node of a cluster has not got the stream ({said}): name that node"
        )
    if "WRONGTYPE" in said:
        return UsageError(f"{url}: a key of that name is no stream: choose another stream=NAME")
    if "unknown command" in lower or "unknown subcommand" in lower or "syntax error" in lower:
        return UsageError(f"{url}: the server is older than Redis 6.2 ({said}): use a newer one")
    if "out of range" in lower and "index" in lower:
        return UsageError(f"{url}: the server has no such database ({said}): use another number")
    if isinstance(error, exceptions.TimeoutError):
        return EngineUnavailable(f"{url}: the server does not answer")
    if isinstance(error, exceptions.InvalidResponse) or "Protocol Error" in said:
        return EngineUnavailable(
            f"{url}: what answers there is no Redis server: mend host, port, or redis: for rediss:"
        )
    if "certificate" in lower or "ssl" in lower:
        return EngineUnavailable(
            f"{url}: TLS failed ({said}): see REDIS_CA_FILE, REDIS_CERT_FILE, REDIS_KEY_FILE"
        )
    if isinstance(error, (exceptions.ConnectionError, OSError)):
        return EngineUnavailable(
            f"{url}: can't be reached ({_short(said)}): look whether the server is up and the "
            "address is right"
        )
    return EngineUnavailable(f"{url}: the server said: {said[:300]}")


def no_queue(url: str) -> NoSuchQueue:
    """There is none, or no more."""
    return NoSuchQueue(f"no queue {url}: put params first (minion feed)")


def _short(said: str) -> str:
    """Without the host that the URL names already."""
    for phrase in ("Connection refused", "Connection reset by peer", "timed out"):
        if phrase.lower() in said.lower():
            return phrase.lower()
    return said[:200]

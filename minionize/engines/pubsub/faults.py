"""The service's errors as ours: what is worth a retry, what is not, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minionize.engines.pubsub.library import grpc_module
from minionize.engines.pubsub.names import short
from minionize.errors import (
    EngineUnavailable,
    MinionizeError,
    NoSuchQueue,
    QueueRefused,
    UsageError,
)

_NEEDS = {
    "pull": "roles/pubsub.subscriber on it",
    "acknowledge": "roles/pubsub.subscriber on it",
    "modify_ack_deadline": "roles/pubsub.subscriber on it",
    "publish": "roles/pubsub.publisher on it",
    "get_topic": "roles/pubsub.viewer on it",
    "get_subscription": "roles/pubsub.viewer on it",
    "create_topic": "roles/pubsub.editor in the project, or make it beforehand",
    "create_subscription": "roles/pubsub.editor in the project, or make it beforehand",
}
PERMANENT = "PERMANENT_FAILURE"
TRANSIENT = "TRANSIENT_FAILURE"


def is_code(error: BaseException, *names: str) -> bool:
    """Whether an error of gRPC has one of these status codes, `NOT_FOUND` and the like."""
    return _code(error) in names


def translated(error: BaseException, procedure: str, name: str, url: str) -> MinionizeError:
    """The error to raise instead of `error`, which came from calling `procedure` on `name`."""
    code = _code(error)
    what = short(name)
    said = " ".join(str(getattr(error, "details", str)() or "").split())[:300]
    if code == "NOT_FOUND":
        return NoSuchQueue(f"no queue {url}: there is no {what}: minion feed makes it")
    if code == "PERMISSION_DENIED":
        needs = _NEEDS.get(procedure, "more rights on it")
        return QueueRefused(
            f"{url}: not allowed to {procedure.replace('_', ' ')} {what} ({said}): the account "
            f"needs {needs}"
        )
    if code == "UNAUTHENTICATED":
        return QueueRefused(
            f"{url}: Google did not take the credentials ({said}): renew what "
            "GOOGLE_APPLICATION_CREDENTIALS names, or log in again"
        )
    if code == "UNAVAILABLE" and "from plugin failed" in said:
        return EngineUnavailable(
            f"{url}: no token for the credentials ({said}): look at the network and the account"
        )
    if code == "UNAVAILABLE":
        return EngineUnavailable(
            f"{url}: can't be reached ({said}): look at the network, or at PUBSUB_EMULATOR_HOST"
        )
    if code == "DEADLINE_EXCEEDED":
        return EngineUnavailable(f"{url}: no answer in time to {procedure}: look at the network")
    if code == "RESOURCE_EXHAUSTED":
        return EngineUnavailable(
            f"{url}: over a quota of the project ({said}): fewer minions, or a higher quota"
        )
    if code in ("INVALID_ARGUMENT", "OUT_OF_RANGE", "UNIMPLEMENTED", "FAILED_PRECONDITION"):
        return UsageError(f"{url}: {procedure} on {what} was refused: {said or code}")
    return EngineUnavailable(f"{url}: {procedure} on {what} failed: {said or code or error}")


def ack_failures(error: BaseException) -> dict[str, str] | None:
    """With exactly-once delivery: which ack ids failed, and how (`PERMANENT_FAILURE_…` or
    `TRANSIENT_FAILURE_…`); all others of that request did what was asked. None where the error
    is of another kind."""
    from google.api_core import exceptions

    parse: Callable[[BaseException], Any] = exceptions.from_grpc_error
    details = getattr(parse(error), "details", None) or ()
    failures: dict[str, str] = {}
    for detail in details:
        metadata = getattr(detail, "metadata", None) or {}
        failures.update(
            (id_, value)
            for id_, value in metadata.items()
            if str(value).startswith((PERMANENT, TRANSIENT))
        )
    return failures or None


def _code(error: BaseException) -> str:
    code = getattr(error, "code", None)
    found = code() if callable(code) else None
    return found.name if isinstance(found, grpc_module().StatusCode) else ""

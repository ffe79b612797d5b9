"""The client's errors, translated at the edge."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pulsar

from minionize.engines.pulsar.place import Place
from minionize.errors import (
    BadParam,
    EngineUnavailable,
    MinionizeError,
    NoSuchQueue,
    QueueRefused,
    UsageError,
)

_REFUSED = (
    pulsar.AuthenticationError,
    pulsar.AuthorizationError,
    pulsar.ErrorGettingAuthenticationData,
)
_USAGE = (
    pulsar.InvalidTopicName,
    pulsar.InvalidUrl,
    pulsar.InvalidConfiguration,
    pulsar.UnsupportedVersionError,
    pulsar.IncompatibleSchema,
)
_QUOTA = (pulsar.ProducerBlockedQuotaExceededError, pulsar.ProducerBlockedQuotaExceededException)
FULL = "the topic's backlog quota is full: let minions empty it, or raise the quota"
_LIMITS: tuple[tuple[tuple[type[pulsar.PulsarException], ...], str], ...] = (
    (
        (pulsar.ProducerBusy,),
        "the topic has as many producers as it may have: raise maxProducersPerTopic, or wait",
    ),
    (
        (pulsar.ConsumerBusy,),
        "the topic has as many consumers as it may have: start fewer minions, or raise "
        "maxConsumersPerTopic and maxConsumersPerSubscription",
    ),
    (
        (pulsar.NotAllowedError,),
        "the broker does not allow it: see its limits, maxTopicsPerNamespace for one, and "
        "docs/pulsar.md for the topics of a queue",
    ),
    (
        (pulsar.TopicTerminated,),
        "the topic was terminated and takes nothing more: use another one",
    ),
)
"""What a broker refuses for now, by its settings; whoever keeps them may change them meanwhile."""


class TopicFull(EngineUnavailable):
    """The topic's backlog quota leaves no room."""


@contextmanager
def translated(place: Place, what: str) -> Iterator[None]:
    """Errors of the client in the block are raised as ours: `place`: cannot `what`."""
    try:
        yield
    except pulsar.PulsarException as error:
        raise as_ours(place, what, error) from error


def as_ours(place: Place, what: str, error: pulsar.PulsarException) -> MinionizeError:
    """What `error` is to everybody else."""
    kind = type(error).__name__
    if isinstance(error, _REFUSED):
        return QueueRefused(
            f"{place.url}: cannot {what}, the broker refuses it ({kind}): give the role of "
            "PULSAR_TOKEN or PULSAR_TLS_CERT the rights that docs/pulsar.md lists"
        )
    if isinstance(error, pulsar.TopicNotFound):
        return NoSuchQueue(
            f"{place.url}: cannot {what}, a topic is missing and the broker makes none by itself: "
            f"make {place.topic} and those that docs/pulsar.md lists"
        )
    if isinstance(error, pulsar.MessageTooBig):
        return BadParam(
            f"{place.url}: a param is larger than the broker takes (maxMessageSize, 5 MiB as a "
            "rule): put the name of a file instead"
        )
    if isinstance(error, _QUOTA):
        return TopicFull(f"{place.url}: cannot {what}, {FULL}")
    limit = next((says for kinds, says in _LIMITS if isinstance(error, kinds)), "")
    if limit:
        return EngineUnavailable(f"{place.url}: cannot {what}, {limit}")
    if isinstance(error, _USAGE):
        return UsageError(f"{place.url}: cannot {what} ({error}): mend the queue's URL")
    silent = "a wrong token gets none either"
    tls = ""
    if place.service.startswith("pulsar+ssl:"):
        silent = "TLS that fails and a wrong token get none either"
        tls = "; does TLS suit it, see PULSAR_TLS_CA, PULSAR_TLS_CERT, PULSAR_TLS_KEY?"
    if isinstance(error, pulsar.Timeout):
        return EngineUnavailable(
            f"{place.url}: cannot {what}, no answer ({silent}): is the broker up{tls or '?'}"
        )
    return EngineUnavailable(f"{place.url}: cannot {what} ({kind}): is the broker up{tls or '?'}")

"""The client's errors, translated at the edge."""

from __future__ import annotations

import re
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
"""What a broker refuses for now, by its settings, which its operator may change meanwhile."""


_DELAY = re.compile(r"max allowed delivery delay of (\d+) milliseconds")


class DelayRefused(UsageError):
    """The broker delays no message for so long."""

    def __init__(self, place: Place, delay_s: float, most_s: float) -> None:
        super().__init__(
            f"{place.url}: the broker delays no message for longer than {most_s:g} s "
            f"(maxDeliveryDelayInMillis), and a lease or a pause here needs {delay_s:.1f} s: give "
            f"minionize --lease {max(0.1, most_s * 0.8):.3g}, or have that limit raised"
        )
        self.most_s = most_s


def refused(place: Place, topic: str, said: str, delay_s: float) -> MinionizeError:
    """The error for what a broker said when it refused to store a message on `topic`."""
    limit = _DELAY.search(said)
    if limit is not None:
        return DelayRefused(place, delay_s, int(limit[1]) / 1000)
    return EngineUnavailable(f"{place.url}: cannot send to {topic}, the broker refuses it: {said}")


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
    """`error` as an error of minionize."""
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
    if isinstance(error, pulsar.IncompatibleSchema):
        return UsageError(
            f"{place.url}: cannot {what}, the topic has a schema that is enforced, and params are "
            "sent without one: use another topic, or have that lifted (pulsar-admin schemas delete "
            "TOPIC, or namespaces set-schema-validation-enforce --disable NAMESPACE)"
        )
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

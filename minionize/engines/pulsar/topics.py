"""Topics and subscriptions: whether they are there, and making them."""

from __future__ import annotations

import contextlib
import re

import pulsar
from _pulsar import MessageId

from minionize.engines.pulsar.faults import translated
from minionize.engines.pulsar.place import Place
from minionize.errors import NoSuchQueue, QueueRefused, UsageError

KINDS = ("held", "back", "dead", "orders")
"""The topics beside the one of a queue."""


def exists(client: pulsar.Client, place: Place, topic: str = "") -> bool:
    """Whether a topic is there; the queue's own if none is named.

    To subscribe to a topic would make it; to subscribe to all whose name is this one does not.
    Such a consumer knows which topics it has, and says so when it is asked to ack something.
    """
    topic = topic or place.topic
    with translated(place, f"look for {topic}"):
        if client.get_topic_partitions(topic) != [topic]:
            return True  # it has partitions
        try:
            consumer = client.subscribe(
                re.compile(f"{re.escape(topic)}$"),
                place.subscription,
                consumer_type=pulsar.ConsumerType.Shared,
                receiver_queue_size=1,
                initial_position=pulsar.InitialPosition.Earliest,
            )
        except (pulsar.AuthorizationError, pulsar.LookupError):
            # We may use the topic, and not list the namespace: it is made where it is missing.
            return True
        try:
            nothing = MessageId(-1, -1, -1, -1)
            nothing.topic_name(topic)
            consumer.acknowledge(nothing)
        except pulsar.OperationNotSupported:
            return False
        finally:
            consumer.close()
    return True


def check_exists(client: pulsar.Client, place: Place) -> None:
    """NoSuchQueue if the queue's topics are missing. Where only its own is, the broker has deleted
    it as inactive, while others hold something still: a new subscription makes it anew."""
    if exists(client, place):
        return
    if not any(exists(client, place, place.beside(kind)) for kind in ("dead", "back", "held")):
        raise NoSuchQueue(f"no queue {place.url}: its topic is missing, and minion feed makes it")


def missing(client: pulsar.Client, place: Place) -> list[str]:
    """The topics of the queue that are not there, as far as we may know. What is there has our
    subscription from now on: without one all that is put would be lost."""
    found = []
    for topic in (place.topic, *map(place.beside, KINDS)):
        with contextlib.suppress(QueueRefused):
            if not exists(client, place, topic):
                found.append(f"topic {short(topic)}")
    return found


def short(topic: str) -> str:
    """`tenant/namespace/topic`."""
    return topic.partition("://")[2]


def make_subscription(client: pulsar.Client, place: Place, topic: str) -> None:
    """See that the subscription is there, from the beginning of `topic`: what is put into a topic
    without a subscription is dropped."""
    with (
        translated(place, f"subscribe to {topic}"),
        # In use by another producer alone: so it is there.
        contextlib.suppress(pulsar.ConsumerBusy),
    ):
        consumer = client.subscribe(
            topic,
            place.subscription,
            consumer_type=pulsar.ConsumerType.Shared,
            receiver_queue_size=1,
            initial_position=pulsar.InitialPosition.Earliest,
        )
        consumer.close()


def make_all(client: pulsar.Client, place: Place) -> None:
    """See that topics and subscriptions are there, all that we may use. A feeder needs the first
    only; a minion that needs another makes it, before anything is put there."""
    make_subscription(client, place, place.topic)
    for topic in map(place.beside, KINDS):
        with contextlib.suppress(QueueRefused):
            make_subscription(client, place, topic)
            with translated(place, f"look for {topic}"):
                split = client.get_topic_partitions(topic) != [topic]
            if split:
                raise has_partitions(place, topic)


def has_partitions(place: Place, topic: str) -> UsageError:
    """What to raise for a topic beside the queue's that has some: acks and orders need it whole."""
    return UsageError(
        f"{place.url}: {topic} has partitions, which only the queue's own topic may have: make it "
        f"without, and the others that docs/pulsar.md lists (allowAutoTopicCreationType)"
    )

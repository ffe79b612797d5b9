"""Whether the parts of a queue are there, and making those that are missing.

A queue is a topic and a subscription, `SUB`, and beside it two more of each: `SUB-dead` keeps the
dead letters, `SUB-aside` what is delayed and what is known to run. A message to a topic without
a subscription is lost, so a subscription is always made first, before anything is put.
"""

from __future__ import annotations

import math
from typing import Any

from minionize.engines.pubsub.faults import is_code
from minionize.engines.pubsub.names import short
from minionize.engines.pubsub.wire import Wire
from minionize.errors import MinionizeError, NoSuchQueue, QueueRefused, UsageError

LEASE_MOST_S = 600
DEADLINE_LEAST_S = 10
"""Of a subscription; a single lease may be shorter."""
DELIVERIES_MOST = 100
"""The service makes a dead letter of what it has delivered so often; it may count no further.
We want its count, which tells what was leased before."""
_KEPT_DAYS = (31, 7)
"""How long messages wait; the emulator, as the service once did, keeps none for longer than 7."""
_DAY_S = 86_400


def deadline_of(lease_s: float) -> int:
    """The ack deadline of a lease, in whole seconds. UsageError above the service's 10 minutes."""
    if lease_s > LEASE_MOST_S:
        raise UsageError(f"Pub/Sub leases for 600 s at most, not {lease_s:g}: set --lease to less")
    return max(1, math.ceil(lease_s))


def checked(wire: Wire, *, topic: bool = False) -> Any:
    """The queue's subscription as it is, or None where we may not look at it.

    NoSuchQueue if it is missing (or, with `topic`, its topic); UsageError for one that minions
    can't work on.
    """
    names = wire.names
    if topic and not _topic_is_there(wire, names.topic):
        raise NoSuchQueue(f"no queue {names.url}: there is no {short(names.topic)}: feed makes it")
    subscription = _look(wire, names.subscription)
    if subscription is None:
        raise NoSuchQueue(
            f"no queue {names.url}: there is no {short(names.subscription)}: minion feed makes it"
        )
    if isinstance(subscription, QueueRefused):
        return None
    what = short(names.subscription)
    if subscription.topic != names.topic:
        raise UsageError(f"{names.url}: {what} is one of {subscription.topic}: mend the URL")
    if subscription.push_config.push_endpoint or subscription.detached:
        raise UsageError(f"{names.url}: {what} can't be pulled from: use another subscription")
    return subscription


def described(wire: Wire) -> list[Any]:
    """The subscriptions of the queue as they are, its own first: None for one that we may not
    look at; those that are missing are left out."""
    found = []
    for name in (wire.names.subscription, wire.names.dead, wire.names.aside):
        said = _look(wire, name)
        if said is not None:
            found.append(None if isinstance(said, QueueRefused) else said)
    return found


def complete(wire: Wire, deadline_s: int, *, create: bool) -> list[str]:
    """Make what is missing beside the queue's own topic and subscription; says what it made.

    NoSuchQueue if something is missing and must not be made.
    """
    names = wire.names
    made: list[str] = []
    for topic, subscription in (
        (names.dead_topic, names.dead),
        (names.aside_topic, names.aside),
    ):
        if _look(wire, subscription) is not None:
            continue
        if not create:
            raise NoSuchQueue(
                f"{names.url} is not complete: there is no {short(subscription)}: minion feed "
                "makes it"
            )
        made += _make_topic(wire, topic)
        made += _make_subscription(wire, {"name": subscription, "topic": topic}, deadline_s)
    return made


def make(wire: Wire, deadline_s: int) -> list[str]:
    """Make all of the queue that is missing, the subscription before anything can be put; says
    what it made."""
    names = wire.names
    made = complete(wire, deadline_s, create=True)
    if _look(wire, names.subscription) is None:
        made += _make_topic(wire, names.topic)
        made += _make_subscription(
            wire,
            {
                "name": names.subscription,
                "topic": names.topic,
                "enable_exactly_once_delivery": names.exactly_once,
                "dead_letter_policy": {
                    "dead_letter_topic": names.dead_topic,
                    "max_delivery_attempts": DELIVERIES_MOST,
                },
            },
            deadline_s,
        )
    checked(wire)
    return made


def _look(wire: Wire, subscription: str) -> Any:
    """The subscription; None if there is none, the error if we may not look."""
    request = wire.types.GetSubscriptionRequest(subscription=subscription)
    try:
        return wire.call("get_subscription", subscription, request)
    except NoSuchQueue:
        return None
    except QueueRefused as error:
        return error if _denied(error) else _raise(error)


def _topic_is_there(wire: Wire, topic: str) -> bool:
    try:
        wire.call("get_topic", topic, wire.types.GetTopicRequest(topic=topic))
    except NoSuchQueue:
        return False
    except QueueRefused as error:
        return _denied(error) or _raise(error)
    return True


def _make_topic(wire: Wire, topic: str) -> list[str]:
    return _made(wire, "create_topic", topic, wire.types.Topic(name=topic))


def _make_subscription(wire: Wire, fields: dict[str, Any], deadline_s: int) -> list[str]:
    for days in _KEPT_DAYS:
        request = wire.types.Subscription(
            **fields,
            ack_deadline_seconds=min(LEASE_MOST_S, max(DEADLINE_LEAST_S, deadline_s)),
            message_retention_duration={"seconds": days * _DAY_S},
            # Said, but without a time: it never expires, however long it is not used.
            expiration_policy={},
        )
        try:
            return _made(wire, "create_subscription", fields["name"], request)
        except UsageError as error:
            if days == _KEPT_DAYS[-1] or "retention" not in str(error):
                raise
    raise AssertionError


def _made(wire: Wire, procedure: str, name: str, request: Any) -> list[str]:
    try:
        wire.call(procedure, name, request)
    except MinionizeError as error:
        cause = error.__cause__
        if cause is not None and is_code(cause, "ALREADY_EXISTS"):
            return []  # another process was faster
        raise
    return [short(name)]


def _denied(error: MinionizeError) -> bool:
    return error.__cause__ is not None and is_code(error.__cause__, "PERMISSION_DENIED")


def _raise(error: Exception) -> Any:
    raise error

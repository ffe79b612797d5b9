"""What a subscription's own settings drop, delay or hide, as people read it."""

from __future__ import annotations

from typing import Any

from minionize.engines.pubsub.making import DELIVERIES_MOST
from minionize.engines.pubsub.names import Names, short
from minionize.values import Harm, Policy

UNKNOWN = Policy(
    Harm.UNKNOWN,
    "settings of the subscription",
    "this account may not look at them",
    "grant it roles/pubsub.viewer on the subscription",
)
_UPDATE = "gcloud pubsub subscriptions update"
_DAY_S = 86_400
_KEPT_LEAST_S = 7 * _DAY_S
_PAUSE_MOST_S = 60


def policies_of(subscription: Any, names: Names, *, own: bool) -> list[Policy]:
    """Those of one subscription of the queue, as the service describes it; None if we may not look
    at it. `own`: it is the one that minions take params from."""
    if subscription is None:
        return [UNKNOWN]
    name = subscription.name.rpartition("/")[2]
    found: list[Policy] = []

    def add(harm: Harm, setting: str, effect: str, remedy: str) -> None:
        found.append(Policy(harm, f"{short(subscription.name)}: {setting}", effect, remedy))

    kept_s = _seconds(subscription.message_retention_duration)
    if kept_s and kept_s < _KEPT_LEAST_S:
        add(Harm.LOSS, f"message retention {_time(kept_s)}",
            "the service drops what waits for longer",
            f"{_UPDATE} {name} --message-retention-duration=31d")  # fmt: skip
    expires_s = _seconds(subscription.expiration_policy.ttl)
    if expires_s:
        add(Harm.LOSS, f"expires after {_time(expires_s)}",
            "the service deletes it, with all that waits, when there was no pull for so long",
            f"{_UPDATE} {name} --expiration-period=never")  # fmt: skip
    if subscription.filter:
        add(Harm.LOSS, f"filter {subscription.filter}",
            "the service drops what does not match, all that minion feed puts among it",
            "make another subscription: a filter can't be changed")  # fmt: skip
    if getattr(subscription, "message_transforms", None):
        add(Harm.LOSS, "message transforms", "the service changes or drops messages by them",
            f"{_UPDATE} {name} --clear-message-transforms")  # fmt: skip
    pause_s = _seconds(subscription.retry_policy.minimum_backoff)
    if pause_s > _PAUSE_MOST_S:
        add(Harm.DELAY, f"retry policy from {_time(pause_s)}",
            "what a minion gives back is hidden for so long",
            f"{_UPDATE} {name} --clear-retry-policy")  # fmt: skip
    if own:
        if subscription.enable_message_ordering:
            add(Harm.DELAY, "message ordering",
                "a message with an ordering key waits until all before it are done",
                "make another subscription: ordering can't be turned off")  # fmt: skip
        _dead_letters(add, subscription, names, name)
    return found


def _dead_letters(add: Any, subscription: Any, names: Names, name: str) -> None:
    policy = subscription.dead_letter_policy
    wanted = (
        f"--dead-letter-topic={names.dead_topic.rpartition('/')[2]} --max-delivery-attempts=100"
    )
    if not policy.max_delivery_attempts:
        add(Harm.DELAY, "no dead-letter policy",
            "deliveries are not counted, so the first crashes of a param are not charged",
            f"{_UPDATE} {name} {wanted}")  # fmt: skip
        return
    if policy.dead_letter_topic != names.dead_topic:
        add(Harm.LOSS, f"dead-letter topic {policy.dead_letter_topic}",
            f"what was delivered {policy.max_delivery_attempts} times goes there, where minion "
            "failures does not see it",
            f"{_UPDATE} {name} {wanted}")  # fmt: skip
    elif policy.max_delivery_attempts < DELIVERIES_MOST:
        add(Harm.LOSS, f"max delivery attempts {policy.max_delivery_attempts}",
            "the service makes dead letters of params that were only given back so often",
            f"{_UPDATE} {name} {wanted}")  # fmt: skip


def _seconds(duration: Any) -> float:
    """A duration of the client (a timedelta), or of a protocol buffer; 0 where there is none."""
    if not duration:
        return 0.0
    if hasattr(duration, "total_seconds"):
        return float(duration.total_seconds())
    return float(duration.seconds)


def _time(seconds: float) -> str:
    if seconds >= _DAY_S:
        return f"{seconds / _DAY_S:.3g} d"
    return f"{seconds / 3600:.3g} h" if seconds >= 3600 else f"{seconds:.3g} s"

"""Which policies of a broker drop, delay or hide params, as its admin API tells them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from minionize.engines.pulsar.place import Place, lease_margin_s
from minionize.errors import EngineUnavailable, MinionizeError
from minionize.values import Harm, Policy

_OF_TOPIC = (
    "messageTTL",
    "delayedDelivery",
    "backlogQuotaMap",
    "inactiveTopicPolicies",
    "dispatchRate",
    "subscriptionDispatchRate",
    "schemaValidationEnforced",
)


def asked_policies(
    place: Place, answer: Callable[[str], object], lease_s: float
) -> Sequence[Policy]:
    """Those of the queue's topic; one that says that they are unknown, where they can't be asked
    for. `answer`: what the admin API has at a path."""
    if not place.admin:
        return [_unknown("without admin= in the queue's URL they can't be asked for", "add it")]
    _, _, name = place.topic.partition("://")
    space = name.rpartition("/")[0]
    found: dict[str, Any] = {}
    try:
        for policy in _OF_TOPIC:
            try:
                said = answer(f"{place.path(place.topic)}/{policy}?applied=true")
            except EngineUnavailable:  # a broker without policies of topics
                said = None
            # There is none, or no topic yet: its namespace says what it will have.
            found[policy] = answer(f"namespaces/{space}/{policy}") if said is None else said
        found["schema"] = answer(f"schemas/{name}/schema")
        found["namespace"] = answer(f"namespaces/{space}")
    except MinionizeError as error:
        why = " ".join(str(error).partition(": ")[2].split())
        return [_unknown(why or "they can't be asked for", "ask who keeps the broker")]
    return policies_of(found, space, lease_s)


def policies_of(found: Mapping[str, Any], space: str, lease_s: float) -> list[Policy]:
    """What these policies do to a queue in namespace `space`, by their names in the admin API."""
    namespace = _mapping(found.get("namespace"))
    policies: list[Policy] = []

    def add(harm: Harm, setting: str, effect: str, remedy: str) -> None:
        policies.append(Policy(harm, setting, effect, remedy))

    ttl_s = _number(found.get("messageTTL"))
    if ttl_s:
        add(Harm.LOSS, f"messageTTL {ttl_s:,} s",
            "the broker drops params that wait for longer, are delayed, or are dead letters",
            f"pulsar-admin namespaces remove-message-ttl {space} (or of the topic, or the broker's "
            "ttlDurationDefaultInSeconds), or another namespace")  # fmt: skip
    minutes = _number(namespace.get("subscription_expiration_time_minutes"))
    if minutes:
        add(Harm.LOSS, f"subscription_expiration_time_minutes {minutes:,}",
            "the broker drops all that waits once no minion was there for so long",
            f"pulsar-admin namespaces remove-subscription-expiration-time {space}")  # fmt: skip
    for kind, quota in _mapping(found.get("backlogQuotaMap")).items():
        if _mapping(quota).get("policy") == "consumer_backlog_eviction":
            add(Harm.LOSS, f"backlog quota consumer_backlog_eviction ({kind})",
                "the broker drops the oldest params of a topic that is full",
                f"pulsar-admin namespaces set-backlog-quota {space} -p producer_exception "
                f"-t {kind} ...")  # fmt: skip
    delayed = _mapping(found.get("delayedDelivery"))
    most_s = _number(delayed.get("maxDeliveryDelayInMillis")) / 1000
    needed_s = lease_s + lease_margin_s(lease_s)
    if most_s and most_s < needed_s:
        add(Harm.BLOCK, f"maxDeliveryDelayInMillis {most_s * 1000:.0f}",
            f"minions with --lease {lease_s:g} can take nothing, since what stands for a running "
            "param is delayed for longer",
            f"minionize --lease {0.8 * most_s:.3g}, or have the limit raised")  # fmt: skip
    if delayed and delayed.get("active") is False:
        add(Harm.DELAY, "delayedDelivery off",
            "what is delayed, and what stands for running params, comes at once and goes back, "
            "again and again",
            f"pulsar-admin namespaces set-delayed-delivery {space} --enable")  # fmt: skip
    inactive = _mapping(found.get("inactiveTopicPolicies"))
    if inactive.get("inactiveTopicDeleteMode") == "delete_when_subscriptions_caught_up" and (
        inactive.get("deleteWhileInactive", True)
    ):
        after_s = _number(inactive.get("maxInactiveDurationSeconds"))
        add(Harm.DELAY, f"inactive topics are deleted after {after_s:,} s",
            "topics of the queue go while they hold nothing; feeders and minions make them "
            "again, if the broker lets them",
            f"pulsar-admin namespaces remove-inactive-topic-policies {space}, or the mode "
            "delete_when_no_subscriptions")  # fmt: skip
    if found.get("schemaValidationEnforced") is True and found.get("schema"):
        add(Harm.BLOCK, "schemaValidationEnforced",
            "the topic has a schema, and takes no params, which have none",
            f"pulsar-admin namespaces set-schema-validation-enforce --disable {space}, schemas "
            "delete TOPIC, or another topic")  # fmt: skip
    for rate in ("dispatchRate", "subscriptionDispatchRate"):
        said = _mapping(found.get(rate))
        messages, size = (
            _number(said.get(f"dispatchThrottlingRateIn{what}")) for what in ("Msg", "Byte")
        )
        if messages > 0 or size > 0:
            limit = f"{messages:,} messages" if messages > 0 else f"{size:,} bytes"
            add(Harm.DELAY, f"{rate} {limit} per {_number(said.get('ratePeriodInSecond')) or 1} s",
                "minions get params no faster",
                f"pulsar-admin namespaces remove-{_dashed(rate)} {space}")  # fmt: skip
    return policies


def _unknown(why: str, remedy: str) -> Policy:
    return Policy(Harm.UNKNOWN, "policies of the broker", why, remedy)


def _dashed(name: str) -> str:
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name)


def _mapping(said: object) -> Mapping[str, Any]:
    return said if isinstance(said, dict) else {}


def _number(said: object) -> int:
    return said if isinstance(said, int) and said > 0 else 0

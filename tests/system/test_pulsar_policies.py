"""Policies of a real broker that drop, delay or hide params: each is named with its remedy, what
was dropped is counted, and what can be had still is had."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pulsar
import pytest
from services.minions import MINION_MAIN, Minions
from services.processes import until
from services.pulsar import Broker, lacking

from minionize.contracts.engine import EngineOptions
from minionize.engines.pulsar import PulsarQueue, open_queue
from minionize.values import Harm, Policy


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker | str]:
    if reason := lacking():
        yield reason
        return
    settings = {
        "backlogQuotaCheckIntervalInSeconds": "1",
        "brokerDeleteInactiveTopicsFrequencySeconds": "1",
    }
    broker = Broker(tmp_path_factory.mktemp("policies"), settings)
    broker.start()
    yield broker
    broker.stop()


class Governed(Minions):
    """A queue in a namespace of its own, whose policies a test sets."""

    def __init__(self, folder: Path, broker: Broker) -> None:
        self.space = f"public/{re.sub(r'[^a-z0-9]', '', folder.name)}"
        self.broker = broker
        broker.ask(f"namespaces/{self.space}", "PUT")
        self.plain = f"{broker.url}/{self.space}/q"
        super().__init__(folder, f"{self.plain}?admin={broker.admin}")

    def govern(self, name: str, value: object) -> None:
        self.broker.ask(f"namespaces/{self.space}/{name}", "POST", value)

    def command(self, *args: str) -> tuple[int, str]:
        return self.ended(self.start(MINION_MAIN, *args, "-q", self.url))

    def queue(self, lease_s: float = 60.0) -> contextlib.closing[PulsarQueue]:
        return contextlib.closing(open_queue(self.url, EngineOptions(lease_s=lease_s)))

    def policies(self, lease_s: float = 60.0) -> list[Policy]:
        with self.queue(lease_s) as queue:
            return list(queue.policies())

    def topics(self) -> set[str]:
        found = self.broker.ask(f"persistent/{self.space}")
        assert isinstance(found, list)
        return {str(name).rpartition("/")[2] for name in found}


@pytest.fixture
def governed(
    tmp_path: Path, started: Broker | str, needs_server: Callable[[str], NoReturn]
) -> Iterator[Governed]:
    if isinstance(started, str):
        needs_server(started)
    governed = Governed(tmp_path, started)
    yield governed
    governed.close()


def test_what_the_broker_lets_expire_is_counted_and_not_0(governed: Governed) -> None:
    governed.put([1, 2, 3])
    assert governed.policies() == []
    governed.govern("messageTTL", 1)
    status, said = governed.command("feed", "--grid", "x=1:3")
    assert status == 0 and "warning: messageTTL 1 s" in said, said
    assert "remove-message-ttl" in said, said

    def expired() -> bool:
        # As the broker does by itself, each five minutes.
        governed.broker.ask(
            f"persistent/{governed.space}/q/subscription/minions/expireMessages/1", "POST"
        )
        return governed.stats().lost == 5

    until(expired, lambda: f"{governed.stats()}", timeout_s=60)
    status, said = governed.command("wait")
    assert status == 1 and "5 lost" in said, said
    status, said = governed.command("status")
    assert "5 lost" in said and "messageTTL 1 s: params can be dropped" in said, said
    status, said = governed.command("status", "--json")
    assert json.loads(said)["lost"] == 5
    status, said = governed.command("feed", "--grid", "x=1")
    assert "5 params of this queue were lost so far" in said, said
    status, said = governed.command("doctor")
    assert status == 1 and "5 params are gone" in said and "warn  policy" in said, said
    minion = governed.minion("--lease", "2", "true")
    status, said = governed.ended(minion)
    assert status == 1 and "lost by the queue" in said, said


@pytest.mark.parametrize("admin", [True, False])
def test_a_limit_of_delays_below_the_lease_is_named_at_once(
    governed: Governed, admin: bool
) -> None:
    governed.govern("delayedDelivery", {"active": True, "maxDeliveryDelayInMillis": 3000})
    governed.put([1])
    url = governed.url if admin else governed.plain
    began_s = time.monotonic()
    status, said = governed.ended(governed.minion("--idle", "2", "true", url=url))
    assert status == 2, said
    assert "maxDeliveryDelayInMillis" in said and "3 s" in said and "--lease 2.4" in said, said
    assert time.monotonic() - began_s < 30, "what is silent takes more than a minute"
    status, said = governed.ended(governed.script('echo "$1" >>runs', "--lease", "2"))
    assert status == 0, said
    assert governed.ran() == {"1": 1}
    assert [policy.harm for policy in governed.policies()] == [Harm.BLOCK]
    assert governed.policies(lease_s=2) == []
    status, said = governed.command("doctor")
    assert status == 2 and "maxDeliveryDelayInMillis 3000" in said, said


def test_a_pause_longer_than_the_limit_is_cut_to_it(governed: Governed) -> None:
    governed.govern("delayedDelivery", {"active": True, "maxDeliveryDelayInMillis": 1500})
    governed.put([1])
    minion = governed.script(
        'echo "$1" >>runs; [ $(wc -l <runs) -gt 2 ]', "--lease", "1", "--max-attempts", "5"
    )
    status, said = governed.ended(minion)
    assert status == 0, said
    assert governed.ran() == {"1": 3}


def test_an_enforced_schema_is_the_reason(governed: Governed) -> None:
    client = pulsar.Client(governed.broker.url)
    topic = f"persistent://{governed.space}/q"
    client.create_producer(topic, schema=pulsar.schema.StringSchema())
    governed.govern("schemaValidationEnforced", True)

    def refused() -> bool:
        return governed.command("feed", "--grid", "x=1")[0] == 2

    until(refused, "the broker takes the policy in", timeout_s=60)
    _, said = governed.command("feed", "--grid", "x=1")
    assert "schema that is enforced" in said and "schemas delete" in said, said
    assert [policy.harm for policy in governed.policies()] == [Harm.BLOCK]
    client.close()


def test_dead_letters_are_there_though_inactive_topics_are_deleted(governed: Governed) -> None:
    governed.put([1, 2])
    status, said = governed.ended(
        governed.minion("--max-attempts", "1", "--lease", "2", "sh", "-c", '[ "$1" = 1 ]', "x")
    )
    assert status == 1, said
    inactive = {
        "inactiveTopicDeleteMode": "delete_when_subscriptions_caught_up",
        "maxInactiveDurationSeconds": 1,
        "deleteWhileInactive": True,
    }
    governed.govern("inactiveTopicPolicies", inactive)
    until(lambda: governed.topics() == {"q-minions-dead"}, governed.topics, timeout_s=90)
    status, said = governed.command("failures")
    assert status == 0 and "exit 1: 1 dead" in said, said
    status, said = governed.command("doctor")
    assert status == 1 and "inactive topics are deleted after 1 s" in said, said
    status, said = governed.command("retry")
    assert status == 0 and "1 dead letter back to work" in said, said
    status, said = governed.ended(governed.script('echo "$1" >>runs', "--lease", "2"))
    assert status == 0, said
    assert governed.ran() == {"2": 1}


@pytest.mark.parametrize(
    ("name", "value", "harm", "setting"),
    [
        ("subscriptionExpirationTime", 5, Harm.LOSS, "subscription_expiration_time_minutes 5"),
        (
            "backlogQuota?backlogQuotaType=message_age",
            {"limitSize": -1, "limitTime": 60, "policy": "consumer_backlog_eviction"},
            Harm.LOSS,
            "backlog quota consumer_backlog_eviction (message_age)",
        ),
        ("delayedDelivery", {"active": False, "tickTime": 1000}, Harm.DELAY, "delayedDelivery off"),
        (
            "dispatchRate",
            {"dispatchThrottlingRateInMsg": 5, "dispatchThrottlingRateInByte": -1,
             "ratePeriodInSecond": 2},
            Harm.DELAY,
            "dispatchRate 5 messages per 2 s",
        ),
    ],
)  # fmt: skip
def test_policies_are_read_before_and_after_the_topic_is_there(
    governed: Governed, name: str, value: object, harm: Harm, setting: str
) -> None:
    governed.govern(name, value)

    def told() -> bool:
        return [(each.harm, each.setting) for each in governed.policies()] == [(harm, setting)]

    until(told, lambda: str(governed.policies()), timeout_s=30)
    governed.put([1])
    until(told, lambda: str(governed.policies()), timeout_s=30)


def test_policies_that_cant_be_asked_for_are_unknown(governed: Governed) -> None:
    governed.put([1])
    governed.url = governed.plain
    (policy,) = governed.policies()
    assert policy.harm is Harm.UNKNOWN and "admin=" in policy.effect
    governed.url = f"{governed.plain}?admin=http://127.0.0.1:9"
    (policy,) = governed.policies()
    assert policy.harm is Harm.UNKNOWN and "can't be asked" in policy.effect, policy

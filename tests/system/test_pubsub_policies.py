"""Settings of a subscription by which params are dropped, delayed or hidden: each is named with its
remedy, over a server that keeps and tells them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from services.minions import MAIN, MINION_MAIN, Minions
from services.pubsub import Pubsub
from test_pubsub import Here

from minionize.engines.pubsub.policies import UNKNOWN, policies_of
from minionize.values import Harm

DAY_S = 86_400


@pytest.fixture
def here(pubsub_server: Pubsub) -> Iterator[Here]:
    with contextlib.closing(Here(pubsub_server)) as here:
        yield here


def told(here: Here) -> list[tuple[Harm, str]]:
    return [(each.harm, each.setting.partition(": ")[2]) for each in here.queue.policies()]


def test_what_minion_feed_makes_harms_nothing(here: Here) -> None:
    here.queue.put([1])
    assert told(here) == []
    assert not here.engine().policies()


@pytest.mark.parametrize(
    ("fields", "harm", "setting"),
    [
        (
            {"message_retention_duration": {"seconds": 3600}},
            Harm.LOSS,
            "message retention 1 h",
        ),
        (
            {"expiration_policy": {"ttl": {"seconds": 2 * DAY_S}}},
            Harm.LOSS,
            "expires after 2 d",
        ),
        ({"filter": 'attributes.kind = "x"'}, Harm.LOSS, 'filter attributes.kind = "x"'),
        ({"enable_message_ordering": True}, Harm.DELAY, "message ordering"),
        (
            {"retry_policy": {"minimum_backoff": {"seconds": 300}}},
            Harm.DELAY,
            "retry policy from 300 s",
        ),
    ],
)
def test_settings_of_a_subscription_that_was_made_by_hand(
    here: Here, fields: dict[str, Any], harm: Harm, setting: str
) -> None:
    here.queue._make()  # what stands beside it
    wire, names = here.queue._wire, here.names
    request = wire.types.DeleteSubscriptionRequest(subscription=names.subscription)
    wire.call("delete_subscription", names.subscription, request)
    wire.call(
        "create_subscription",
        names.subscription,
        wire.types.Subscription(
            **{
                "name": names.subscription,
                "topic": names.topic,
                "expiration_policy": {},
                "message_retention_duration": {"seconds": 7 * DAY_S},
                "dead_letter_policy": {
                    "dead_letter_topic": names.dead_topic,
                    "max_delivery_attempts": 100,
                },
                **fields,
            }
        ),
    )
    assert told(here) == [(harm, setting)]
    assert [policy.harm for policy in here.engine().policies()] == [harm]


def test_dead_letter_policies(here: Here) -> None:
    here.queue._make()
    types = here.queue._wire.types
    name = here.names.subscription

    def settings(**policy: Any) -> list[tuple[Harm, str]]:
        subscription = types.Subscription(name=name, dead_letter_policy=policy)
        found = policies_of(subscription, here.names, own=True)
        return [(each.harm, each.setting.partition(": ")[2]) for each in found]

    ours = here.names.dead_topic
    assert settings(dead_letter_topic=ours, max_delivery_attempts=100) == []
    assert settings() == [(Harm.DELAY, "no dead-letter policy")]
    assert settings(dead_letter_topic=ours, max_delivery_attempts=5) == [
        (Harm.LOSS, "max delivery attempts 5")
    ]
    assert settings(dead_letter_topic="projects/p/topics/other", max_delivery_attempts=5) == [
        (Harm.LOSS, "dead-letter topic projects/p/topics/other")
    ]
    assert policies_of(None, here.names, own=True) == [UNKNOWN]


def test_commands_name_it(here: Here, pubsub_server: Pubsub, tmp_path: Path) -> None:
    here.make_by_hand(expiration_policy={"ttl": {"seconds": DAY_S}})
    minions = Minions(tmp_path, here.url, pubsub_server.env)
    said = {}
    for args in (("feed", "--grid", "x=1"), ("status",), ("doctor",)):
        said[args[0]] = minions.ended(minions.start(MINION_MAIN, *args, "-q", here.url))
    said["minionize"] = minions.ended(minions.start(MAIN, "-q", here.url, "--idle", "1", "true"))
    for command, (status, text) in said.items():
        assert "expires after 1 d" in text, (command, text)
        assert status == (1 if command == "doctor" else 0), (command, text)
    assert "--expiration-period=never" in said["feed"][1]
    assert "--expiration-period=never" in said["doctor"][1]

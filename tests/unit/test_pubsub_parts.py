"""The pure parts of the Pub/Sub engine: names, letters, portions, errors. No server."""

from __future__ import annotations

from typing import Any, NamedTuple

import grpc
import pytest

from minionize.contracts.engine import EngineOptions
from minionize.engines.envelope import Envelope, Undecodable, from_message
from minionize.engines.pubsub import faults, letters, open_engine
from minionize.engines.pubsub.making import deadline_of
from minionize.engines.pubsub.names import names_of
from minionize.engines.pubsub.wire import ACK_BYTES, Letter, _ack_portions, portions
from minionize.errors import (
    EngineUnavailable,
    MinionizeError,
    NoSuchQueue,
    QueueRefused,
    UsageError,
)
from minionize.values import Failure


class Message(NamedTuple):
    data: bytes
    attributes: dict[str, str]
    message_id: str = "17"


class Failed(Exception):
    """As gRPC's errors are."""

    def __init__(self, code: grpc.StatusCode, details: str = "so it is") -> None:
        super().__init__(details)
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details


def test_one_url_names_all() -> None:
    names = names_of("pubsub://my-project/ising?subscription=minions&decoder=json")
    assert names.topic == "projects/my-project/topics/ising"
    assert names.subscription == "projects/my-project/subscriptions/minions"
    assert names.dead == "projects/my-project/subscriptions/minions-dead"
    assert names.aside_topic == "projects/my-project/topics/minions-aside"
    assert (names.decoder, names.exactly_once) == ("json", False)
    assert names_of("pubsub://p/ising").subscription == "projects/p/subscriptions/ising"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("pubsub://p", "does not name project and topic"),
        ("pubsub:///topic", "does not name project and topic"),
        ("pubsub://p/a/b", "does not name project and topic"),
        ("pubsub://p/ab", "'ab' can't be the name of a topic: take 3 to 255"),
        ("pubsub://p/topic?subscription=ab", "'ab' can't be the name of a subscription"),
        ("pubsub://p/google", "not goog"),
        ("pubsub://p/1abc", "a letter first"),
        ("pubsub://p/topic?subscriptoin=abc", "did you mean subscription?"),
        ("pubsub://p/topic?exactly_once=yes", "neither 0 nor 1"),
        ("pubsub://p/topic?decoder=xml", "no decoder 'xml'"),
        ("pubsub://p/topic?subscription=" + "x" * 250, "take 3 to 249"),
    ],
)
def test_a_url_that_cant_be_is_refused_with_the_remedy(url: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        names_of(url)
    assert said in str(caught.value)


def test_a_lease_has_ten_minutes_at_most() -> None:
    assert deadline_of(60.0) == 60
    assert deadline_of(2.5) == 3
    with pytest.raises(UsageError, match="600 s at most, not 601: set --lease"):
        deadline_of(601)
    with pytest.raises(UsageError, match="600 s at most"):
        open_engine("//project/topic", EngineOptions(lease_s=900))


@pytest.mark.parametrize(
    "failure",
    [
        Failure("exit 3", "boom\n\x1b[31mred"),
        Failure("", ""),
        Failure("snowman ☃ 𝄞 \ud800", "lone \ud800 " + "ü" * 2000),
        Failure("r" * 150, "tail " * 600),
    ],
)
def test_dead_letters_keep_their_reason(failure: Failure) -> None:
    letter = letters.dead(Envelope("9", '{"a":1}', attempt=3), failure)
    assert all(len(value.encode()) <= 1024 for value in letter.attributes.values())
    assert len(letter.attributes) <= 100
    entry = letters.entry_of(Message(letter.body, letter.attributes), "identity")
    assert (entry.id, entry.text, entry.attempt) == ("9", '{"a":1}', 3)
    assert entry.failure == failure
    back = letters.revived(Message(letter.body, letter.attributes), "identity")
    assert from_message(back.body, back.attributes, decoder="json", own_id="x") == Envelope(
        "9", '{"a":1}'
    )


def test_a_detail_that_is_too_long_keeps_its_end() -> None:
    letter = letters.dead(Envelope("9", "1"), Failure("exit 1", "x" * 100_000 + "the end"))
    assert letter.size() < 30_000
    failure = letters.entry_of(Message(letter.body, letter.attributes), "identity").failure
    assert failure is not None
    assert failure.detail.endswith("xxx" + "the end")


def test_what_is_no_param_goes_back_as_it_came() -> None:
    message = Message(b"\xff{", {"theirs": "kept"})
    with pytest.raises(Undecodable) as caught:
        from_message(message.data, message.attributes, decoder="json", own_id="17")
    letter = letters.undecodable(message, caught.value)
    entry = letters.entry_of(Message(letter.body, letter.attributes), "json")
    assert entry.failure is not None
    assert entry.failure.reason == "message is not UTF-8"
    back = letters.revived(Message(letter.body, letter.attributes), "json")
    assert (back.body, back.attributes) == (b"\xff{", {"theirs": "kept"})


def test_a_message_that_the_service_gave_up_says_so() -> None:
    attributes = {"CloudPubSubDeadLetterSourceDeliveryCount": "100"}
    entry = letters.entry_of(Message(b"text", attributes), "identity")
    assert entry.failure == Failure("delivered too often", "Pub/Sub gave up after 100 deliveries")
    assert letters.revived(Message(b"text", attributes), "identity") == Letter(b"text", {})


def test_requests_are_of_the_sizes_that_the_service_takes() -> None:
    ids = ["i" * 200] * 6000
    some = list(_ack_portions(ids))
    assert [id_ for portion in some for id_ in portion] == ids
    assert all(sum(map(len, portion)) < ACK_BYTES for portion in some)
    assert max(map(len, _ack_portions(["i" * 10] * 6000))) == 2500
    assert list(_ack_portions([])) == []
    small = list(portions(Letter(b"x", {}) for _ in range(2500)))
    assert [len(portion) for portion in small] == [1000, 1000, 500]
    large = list(portions(Letter(b"x" * 700_000, {}) for _ in range(3)))
    assert [len(portion) for portion in large] == [1, 1, 1]
    assert list(portions([])) == []


@pytest.mark.parametrize(
    ("code", "kind", "status", "said"),
    [
        ("NOT_FOUND", NoSuchQueue, 2, "minion feed makes it"),
        ("PERMISSION_DENIED", QueueRefused, 69, "needs roles/pubsub.subscriber"),
        ("UNAUTHENTICATED", QueueRefused, 69, "GOOGLE_APPLICATION_CREDENTIALS"),
        ("UNAVAILABLE", EngineUnavailable, 69, "look at the network"),
        ("DEADLINE_EXCEEDED", EngineUnavailable, 69, "no answer in time"),
        ("RESOURCE_EXHAUSTED", EngineUnavailable, 69, "quota"),
        ("INTERNAL", EngineUnavailable, 69, "so it is"),
        ("INVALID_ARGUMENT", UsageError, 2, "so it is"),
    ],
)
def test_errors_are_ours_in_one_line_with_the_remedy(
    code: str, kind: type[MinionizeError], status: int, said: str
) -> None:
    error = Failed(getattr(grpc.StatusCode, code), "so\nit is")
    ours: Any = faults.translated(error, "pull", "projects/p/subscriptions/s", "pubsub://p/t")
    assert type(ours) is kind
    assert ours.exit_status == status
    assert said in str(ours)
    assert "\n" not in str(ours)
    assert "pubsub://p/t" in str(ours)

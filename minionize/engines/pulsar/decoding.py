"""From a message to a param, and from a param to the messages that stand for it."""

from __future__ import annotations

import json
from typing import Any

from minionize.engines.envelope import Envelope, Undecodable, from_message, to_properties
from minionize.engines.pulsar.sending import Letter
from minionize.values import Failure, Lease

REASON, DETAIL, BURIED, MARKER = "mz_reason", "mz_detail", "mz_buried", "mz_marker"
"""Properties of dead letters: why, more about it, the id of one that was no param; and of the
messages that are none, by which the end of a list is found."""


def own_id(message_id: Any) -> str:
    """The broker's id of a message, as a param's."""
    partition, index = message_id.partition(), message_id.batch_index()
    place = f"{message_id.ledger_id()}-{message_id.entry_id()}"
    if partition < 0 and index < 0:
        return place
    return f"{place}-{max(0, partition)}-{max(0, index)}"


def envelope_of(message: Any, decoder: str) -> Envelope:
    """The param that `message` brings. Raises Undecodable."""
    return from_message(
        message.data(), message.properties(), decoder=decoder, own_id=own_id(message.message_id())
    )


def letter(envelope: Envelope, delay_s: float = 0.0) -> Letter:
    return Letter(envelope.text.encode(), to_properties(envelope), delay_s)


def envelope(lease: Lease) -> Envelope:
    """A lease as a message would say it."""
    return Envelope(lease.id, lease.text, lease.attempt, lease.crashes, lease.laters, lease.suspect)


def leased(found: Envelope, token: int) -> Lease:
    """A message's param as a lease."""
    return Lease(
        found.id, found.text, found.attempt, found.crashes, found.laters, found.suspect, token
    )


def dead_letter(lease: Lease, failure: Failure) -> Letter:
    """A dead letter. Reasons come from programs: any character may be in them."""
    properties = to_properties(envelope(lease))
    return Letter(lease.text.encode(), {**properties, **_why(failure)})


def dead_raw(message: Any, error: Undecodable) -> Letter:
    """The dead letter of a message that is no param: as it came, and why."""
    failure = Failure(error.reason, error.detail)
    properties = {**message.properties(), **_why(failure)}
    properties[BURIED] = own_id(message.message_id())
    return Letter(message.data(), properties)


def without_detail(dead: Letter) -> Letter:
    """A dead letter with a short reason, and nothing more about it."""
    reason = json.dumps(_text(dead.properties[REASON])[:100])
    return dead._replace(properties={**dead.properties, REASON: reason, DETAIL: '""'})


def failure_of(properties: dict[str, str]) -> Failure:
    """Why a dead letter is one."""
    return Failure(_text(properties.get(REASON, "")), _text(properties.get(DETAIL, "")))


def _why(failure: Failure) -> dict[str, str]:
    return {REASON: json.dumps(failure.reason), DETAIL: json.dumps(failure.detail)}


def _text(said: str) -> str:
    try:
        return str(json.loads(said))
    except ValueError:
        return said

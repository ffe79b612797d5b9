"""What a param looks like as a message here, beyond the envelope that all brokers share.

A dead letter has its reason in attributes; one that could not be decoded keeps the body and the
attributes it came with, so that it can be put back as it was. Beside the queue, in `SUB-aside`,
stand params that are delayed, and the claims of runs that were marked as started.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from minionize.engines.envelope import MARK, Envelope, Undecodable, from_message, to_properties
from minionize.engines.pubsub.wire import Letter
from minionize.values import Entry, Failure, State

REASON = "mz_reason"
DETAIL = "mz_detail"
"""With a number behind it: an attribute takes 1,024 bytes."""
RAW = "mz_raw"
"""A dead letter that is no param: what is here is the message as it came."""
CLAIM = "mz_claim"
"""A message in aside that stands for a run: whose, and which of its."""
_OURS = (REASON, DETAIL, RAW, CLAIM)
_FORWARDED = "CloudPubSubDeadLetterSourceDeliveryCount"
_VALUE = 1000
_DETAILS = 20
_ATTRIBUTES_MOST = 100


def letter(envelope: Envelope) -> Letter:
    """A param as a message."""
    return Letter(envelope.text.encode(), to_properties(envelope))


def given_back(envelope: Envelope, charge: bool, later: bool) -> Envelope:
    """The param after a run; the same object where nothing changed."""
    if charge:
        return envelope._replace(attempt=envelope.attempt + 1, laters=0, suspect=False)
    if later:
        return envelope._replace(laters=envelope.laters + 1, suspect=False)
    return envelope


def claim(envelope: Envelope, name: str) -> Letter:
    """The claim `name` of a run of this param: what comes back if the minion dies under it."""
    charged = envelope._replace(crashes=envelope.crashes + 1, suspect=True, not_before=0.0)
    return Letter(charged.text.encode(), {**to_properties(charged), CLAIM: name})


def dead(envelope: Envelope, failure: Failure) -> Letter:
    """A dead letter."""
    return Letter(envelope.text.encode(), {**to_properties(envelope), **_reason(failure)})


def undecodable(message: Any, error: Undecodable) -> Letter:
    """The dead letter of a message that is no param."""
    attributes = dict(message.attributes)
    ours = {**_reason(Failure(error.reason, error.detail)), RAW: "1"}
    # More than these the service would not take.
    kept = list(attributes.items())[: _ATTRIBUTES_MOST - len(ours)]
    return Letter(bytes(message.data), {**dict(kept), **ours})


def entry_of(message: Any, decoder: str) -> Entry:
    """A dead letter as people see it."""
    attributes = message.attributes
    failure = _failure(attributes)
    try:
        known = from_message(message.data, attributes, decoder=decoder, own_id=message.message_id)
    except Undecodable as error:
        return Entry(
            message.message_id,
            error.text,
            State.DEAD,
            failure=failure or Failure(error.reason, error.detail),
        )
    return Entry(
        known.id,
        known.text,
        State.DEAD,
        known.attempt,
        known.crashes,
        failure=failure or _forwarded(attributes),
    )


def revived(message: Any, decoder: str) -> Letter:
    """A dead letter as it goes back to work: counts reset, or, where it is no param, as it came."""
    attributes = {
        key: value
        for key, value in message.attributes.items()
        if not key.startswith(_OURS) and not key.startswith("CloudPubSubDeadLetter")
    }
    if RAW in message.attributes or MARK not in attributes:
        return Letter(bytes(message.data), attributes)
    known = entry_of(message, decoder)
    return letter(Envelope(known.id, known.text))


def _reason(failure: Failure) -> dict[str, str]:
    # As JSON it is plain ASCII, whatever a program wrote: lone surrogates, control characters.
    detail = json.dumps(failure.detail)
    parts = [detail[at : at + _VALUE] for at in range(0, len(detail), _VALUE)]
    if len(parts) > _DETAILS:
        detail = json.dumps(failure.detail[-_VALUE * _DETAILS // 8 :])
        parts = [detail[at : at + _VALUE] for at in range(0, len(detail), _VALUE)]
    numbered = {f"{DETAIL}{number:02}": part for number, part in enumerate(parts)}
    reason = json.dumps(failure.reason[:150])
    if len(reason) > _VALUE:  # escapes
        reason = json.dumps(failure.reason[:75])
    return {REASON: reason, **numbered}


def _failure(attributes: Mapping[str, str]) -> Failure | None:
    if REASON not in attributes:
        return None
    detail = "".join(attributes[key] for key in sorted(attributes) if key.startswith(DETAIL))
    return Failure(_text(attributes[REASON]), _text(detail))


def _forwarded(attributes: Mapping[str, str]) -> Failure:
    """Why the service itself made a dead letter of it."""
    times = attributes.get(_FORWARDED, "too many")
    return Failure("delivered too often", f"Pub/Sub gave up after {times} deliveries")


def _text(said: str) -> str:
    try:
        value = json.loads(said)
    except ValueError:
        return said
    return value if isinstance(value, str) else said

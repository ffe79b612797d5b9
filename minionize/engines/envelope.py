"""What travels with a param through a broker that can't count for itself, and how a message
becomes a param again, whoever put it there.

A message of ours has the param's JSON text as its body, and properties (attributes, on Pub/Sub)
that say the rest; what is as usual is left out. A message without our mark is somebody else's,
and is a param too: a decoder says how its body is read.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from json.encoder import encode_basestring_ascii
from typing import NamedTuple

from minionize.errors import UsageError
from minionize.values import to_text

VERSION = "1"
MARK = "mz_v"
"""The property that makes a message one of ours: the version of this format."""
ID = "mz_id"
ATTEMPT = "mz_attempt"
CRASHES = "mz_crashes"
LATERS = "mz_laters"
SUSPECT = "mz_suspect"
NOT_BEFORE = "mz_due"

DECODERS = ("identity", "json")
"""`identity`: the body is text, and the param is a string. `json`: the body is JSON."""

_ID = r"[A-Za-z0-9._-]{1,200}"
_COUNT = r"[0-9]{1,9}"


class Envelope(NamedTuple):
    """A param, and what is known of its past."""

    id: str
    """Stable for life: the broker's own id of the message that brought the param first."""
    text: str
    """The param as JSON on one line."""
    attempt: int = 1
    crashes: int = 0
    laters: int = 0
    suspect: bool = False
    not_before: float = 0.0
    """Unix time before which it should not be leased; 0.0: any time."""


class Undecodable(ValueError):
    """A message that is no param. It becomes a dead letter, with this as the reason; put the
    message itself back when it is retried, not `text`."""

    def __init__(self, reason: str, detail: str, body: bytes) -> None:
        super().__init__(f"{reason} ({detail})")
        self.reason = reason
        """Short and fit for grouping, for values.Failure."""
        self.detail = detail
        self.text = encode_basestring_ascii(body.decode("utf-8", "backslashreplace"))
        """The body as a JSON string, to be shown where params are."""


def checked_decoder(name: str, origin: str) -> str:
    """The decoder called `name`; the empty name is `identity`. `origin`: who said so, for the
    UsageError about a name that is none."""
    name = name.strip().lower() or DECODERS[0]
    if name not in DECODERS:
        raise UsageError(f"{origin}: there is no decoder {name!r}: use {' or '.join(DECODERS)}")
    return name


def to_properties(envelope: Envelope) -> dict[str, str]:
    """The properties of a message whose body is `envelope.text`.

    An empty id is left to the broker: it is the id of that very message.
    """
    properties = {MARK: VERSION}
    if envelope.id:
        properties[ID] = envelope.id
    if envelope.attempt != 1:
        properties[ATTEMPT] = str(envelope.attempt)
    if envelope.crashes:
        properties[CRASHES] = str(envelope.crashes)
    if envelope.laters:
        properties[LATERS] = str(envelope.laters)
    if envelope.suspect:
        properties[SUSPECT] = "1"
    if envelope.not_before:
        properties[NOT_BEFORE] = f"{envelope.not_before:.3f}"
    return properties


def from_message(
    body: bytes, properties: Mapping[str, str], *, decoder: str, own_id: str
) -> Envelope:
    """The param that a message brings.

    `own_id`: the broker's id of this message, `[A-Za-z0-9._-]+`; the param's id unless the
    properties have an older one. `decoder`: one of DECODERS, for messages that are not ours.
    Raises Undecodable, and nothing else.
    """
    version = properties.get(MARK)
    if version is None:
        return Envelope(own_id, _decoded(body, decoder))
    if version != VERSION:
        raise Undecodable(
            "put by another minionize",
            f"its messages are of version {version[:20]}, this one reads version {VERSION}",
            body,
        )
    text = _utf8(body)
    if "\n" in text or "\r" in text or not text:
        # What is kept as a line must be one.
        text = _json(body)
    if len(properties) == 1:
        return Envelope(own_id, text)
    return Envelope(
        _id(properties, body) or own_id,
        text,
        max(1, _count(properties, ATTEMPT, body, 1)),
        _count(properties, CRASHES, body),
        _count(properties, LATERS, body),
        properties.get(SUSPECT) == "1",
        _time(properties, body),
    )


def _decoded(body: bytes, decoder: str) -> str:
    return _json(body) if decoder == "json" else encode_basestring_ascii(_utf8(body))


def _utf8(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise Undecodable(
            "message is not UTF-8",
            f"byte 0x{body[error.start]:02x} at offset {error.start}: {error.reason}",
            body,
        ) from error


def _json(body: bytes) -> str:
    """The body's JSON value as a param's text."""
    text = _utf8(body)
    try:
        return to_text(json.loads(text, parse_constant=_no_constant, parse_float=_number))
    except RecursionError as error:
        raise Undecodable("message is no JSON", "nested too deeply", body) from error
    except ValueError as error:
        raise Undecodable("message is no JSON", str(error), body) from error


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


def _number(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:40]} is no number that fits")
    return value


def _id(properties: Mapping[str, str], body: bytes) -> str:
    id_ = properties.get(ID, "")
    if id_ and re.fullmatch(_ID, id_) is None:
        raise _bad(ID, id_, body)
    return id_


def _count(properties: Mapping[str, str], name: str, body: bytes, usual: int = 0) -> int:
    said = properties.get(name)
    if said is None:
        return usual
    if re.fullmatch(_COUNT, said) is None:
        raise _bad(name, said, body)
    return int(said)


def _time(properties: Mapping[str, str], body: bytes) -> float:
    said = properties.get(NOT_BEFORE)
    if said is None:
        return 0.0
    try:
        at_s = float(said)
    except ValueError:
        at_s = -1.0
    if not 0.0 <= at_s < 1e12:
        raise _bad(NOT_BEFORE, said, body)
    return at_s


def _bad(name: str, said: str, body: bytes) -> Undecodable:
    return Undecodable("message has a damaged property", f"{name} is {said[:80]!r}", body)

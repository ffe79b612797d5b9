"""The keys of a queue, all in one hash slot."""

from __future__ import annotations

import re

_TAG = re.compile(r"\{[^{}]+\}")

KINDS = (
    "back",  # stream: given back
    "suspects",  # stream: taken over from dead minions
    "later",  # stream: delayed
    "due",  # sorted set: message in `later` -> when it is due
    "dead",  # stream: dead letters with their reasons
    "graves",  # hash: param's id -> message in `dead`
    "marks",  # hash: tokens of those that were marked as started
    "minions",  # sorted set: consumer -> until when it is alive
    "who",  # hash: consumer or feeder -> host, pid, slots, running
    "feeders",  # sorted set: feeder -> until when it is alive
    "meta",  # hash: counts, orders, format
    "loads",  # list: parts of a large put that are not in the stream yet
)


def prefix(stream: str) -> str:
    """What the other keys of the queue in `stream` begin with."""
    return f"{stream}:" if _TAG.search(stream) else f"{{{stream}}}:"


def keys(stream: str) -> tuple[str, ...]:
    """All keys, in the order in which scripts expect them; the first is the stream itself."""
    before = prefix(stream)
    return (stream, *(before + kind for kind in KINDS))

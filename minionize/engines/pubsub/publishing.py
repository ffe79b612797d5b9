"""Putting params: spooled first, since all or nothing is put if their source fails; then published
in portions, a few of them under way at a time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from tempfile import SpooledTemporaryFile
from typing import IO

from minionize.engines.envelope import MARK, VERSION
from minionize.engines.pubsub.faults import is_code
from minionize.engines.pubsub.wire import MESSAGE_BYTES, Call, Letter, Wire, portions
from minionize.errors import BadParam, EngineUnavailable

_SPOOL_BYTES = 1_000_000
"""More than these are spooled on the disk."""
_UNDER_WAY = 3
"""Portions sent and not confirmed yet: memory."""
_ANSWER_S = 60.0
_RETRY_S = 60.0
"""A portion that the service does not take is sent again for this long."""
_MARKS = {MARK: VERSION}
_ROOM = 100
"""Bytes that a message has beside its body."""


def put(wire: Wire, texts: Iterable[str]) -> int:
    """Publish these; returns how many, and they are durable then.

    If `texts` raises, or one is too large (BadParam), nothing is put. If the service fails on
    the way, EngineUnavailable says how many of them are put for sure. A portion whose answer was
    lost is sent again, so that some params of it may be there twice.
    """
    with SpooledTemporaryFile(max_size=_SPOOL_BYTES, mode="w+b") as spool:
        count = 0
        for count, text in enumerate(texts, 1):
            body = text.encode()
            if len(body) > MESSAGE_BYTES - _ROOM:
                raise BadParam(
                    f"param {count} has {len(body):,} bytes, and a message of Pub/Sub takes 10 MB: "
                    "put it into a file or bucket, and its name into the queue"
                )
            spool.write(body + b"\n")
        spool.seek(0)
        _publish(wire, spool, count)
    return count


def _publish(wire: Wire, spool: IO[bytes], count: int) -> None:
    """All lines of the spool as messages."""
    under_way: deque[tuple[Call, Sequence[Letter]]] = deque()
    sure = 0
    try:
        for some in portions(Letter(line[:-1], _MARKS) for line in spool):
            if len(under_way) == _UNDER_WAY:
                sure += _confirmed(wire, *under_way.popleft())
            under_way.append((wire.send_publish(wire.names.topic, some, _ANSWER_S), some))
        while under_way:
            sure += _confirmed(wire, *under_way.popleft())
    except EngineUnavailable as error:
        if not sure:
            raise
        raise EngineUnavailable(
            f"{error}: the first {sure:,} of {count:,} params are put: put the others again"
        ) from error


def _confirmed(wire: Wire, call: Call, letters: Sequence[Letter]) -> int:
    """Wait until these are durable, sending them again where that may help."""
    until = time.monotonic() + _RETRY_S
    pause_s = 0.1
    while True:
        call.ended(_ANSWER_S + 1)
        error = call.error()
        if error is None:
            ids = wire.published(call)
            if len(ids) != len(letters):
                raise EngineUnavailable(
                    f"{wire.names.url}: {len(ids)} of {len(letters)} messages were confirmed"
                )
            return len(ids)
        worth = is_code(error, "UNAVAILABLE", "ABORTED", "INTERNAL", "DEADLINE_EXCEEDED",
                        "RESOURCE_EXHAUSTED", "CANCELLED", "UNKNOWN")  # fmt: skip
        if not worth or time.monotonic() + pause_s > until:
            wire.published(call)
            raise AssertionError  # it raises
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 5.0)
        call = wire.send_publish(wire.names.topic, letters, _ANSWER_S)

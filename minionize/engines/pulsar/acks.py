"""Acks that are on their way: told later where they can't be told now, and again after a break."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Mapping
from typing import Any

from minionize.engines.pulsar.holding import Held
from minionize.engines.pulsar.intake import Intake

_ON_ITS_WAY_S = 60.0
"""What was acked so long before a break may be lost with it: so late is a dead one noticed."""


class AcksUnderWay:
    """Of one minion, for all its topics."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._told: deque[tuple[float, str, Any]] = deque(maxlen=20_000)
        """When, which topic, which message: told, and maybe not stored."""
        self._untold: dict[str, list[Any]] = {}
        """What is to be acked, and could not be when that was tried."""

    def tell(self, held: Held) -> None:
        """Ack it, and do not wait for the answer."""
        held.consumer.acknowledge(held.message_id)
        self._told.append((time.monotonic(), held.kind, held.message_id))

    def ack(self, message_ids: Mapping[str, Collection[Any]]) -> None:
        """Ack these, by their topics, and wait for the answer."""
        for kind, some in message_ids.items():
            self._untold.setdefault(kind, []).extend(some)
        self.ack_untold()

    def ack_untold(self) -> None:
        """What can't be told now is told later: a message that we have and do not ack goes to no
        other minion as long as we are there."""
        for kind, some in list(self._untold.items()):
            self._intake.ack_now(kind, some)
            del self._untold[kind]

    def forget_stored(self) -> None:
        """Only the last ones may be lost; what was acked into a break that is not seen yet among
        them."""
        while self._told and time.monotonic() - self._told[0][0] > _ON_ITS_WAY_S:
            self._told.popleft()

    def tell_again(self) -> None:
        """Ack once more what was on its way when the connection broke."""
        again: dict[str, list[Any]] = {}
        for _, kind, message_id in self._told:
            again.setdefault(kind, []).append(message_id)
        self._told.clear()
        self.ack(again)

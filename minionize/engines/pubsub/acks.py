"""Acks on their way: gathered, sent while something else is done, and sent again if that failed."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from minionize.engines.pubsub.wire import Call, Wire

_log = logging.getLogger(__name__)
Sent = dict[str, list[tuple[Call, list[str]]]]
"""By subscription: what was called, and for which ack ids."""


class Acks:
    """Of one minion, for all its subscriptions."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._untold: dict[str, list[str]] = {}
        self.urgent = False
        """Among them is one that must not wait for the next beat."""

    def add(self, subscription: str, ack_ids: Iterable[str], *, urgent: bool = False) -> None:
        """These are to be acked."""
        self._untold.setdefault(subscription, []).extend(ack_ids)
        self.urgent |= urgent

    def send(self) -> Sent:
        """Send them all and go on; `end` waits for it."""
        return {
            subscription: self._wire.send_acks(subscription, ack_ids)
            for subscription, ack_ids in self._untold.items()
            if ack_ids
        }

    def end(self, sent: Sent) -> None:
        """They are durable when this returns. EngineUnavailable: they will be sent again."""
        lost = 0
        for subscription, calls in sent.items():
            told = {ack_id for _, ack_ids in calls for ack_id in ack_ids}
            lost += len(self._wire.acked(subscription, calls))
            left = [ack_id for ack_id in self._untold[subscription] if ack_id not in told]
            self._untold[subscription] = left
        self.urgent = False
        if lost:
            _log.warning(
                "%s: %d acks came too late, their leases were lost: that work may be repeated",
                self._wire.names.url,
                lost,
            )

    def flush(self) -> None:
        """Send them and wait."""
        self.end(self.send())

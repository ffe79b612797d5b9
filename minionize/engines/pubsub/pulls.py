"""Pulls: messages are asked for at once, or by a call that the service answers when it has some."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from minionize.engines.pubsub.wire import PULL_MOST, Call, Wire
from minionize.errors import EngineUnavailable
from minionize.values import Clock

_log = logging.getLogger(__name__)

_NOTHING_AGAIN_S = 0.02
"""After a look that found nothing, the next one that may not wait, doubling up to the most."""
_NOTHING_MOST_S = 0.5
_POLL_S = 0.02


class Pulls:
    """Of one minion, from the subscription that it works on."""

    def __init__(
        self, wire: Wire, clock: Clock, accept: Callable[[Sequence[Any], float], bool]
    ) -> None:
        """`accept` is told what came, and since when (monotonic) it is leased. It returns whether
        there is something to run now."""
        self._wire = wire
        self._clock = clock
        self._accept = accept
        self._subscription = wire.names.subscription
        self._pending: Call | None = None
        self._pending_at = 0.0
        """When the answer to the pending pull came."""
        self._nothing_s = 0.0
        self._look_at = 0.0

    def get(self, limit: int, wait_s: float) -> None:
        """Ask the subscription, waiting for `wait_s` at most."""
        if wait_s <= 0 and self._pending is None:
            sent_s = self._clock.monotonic()
            if sent_s < self._look_at:
                return
            received = self._wire.pull(self._subscription, min(limit, PULL_MOST))
            self._accept(received, sent_s)
            self._nothing_s = (
                0.0 if received else min(_NOTHING_MOST_S, 2 * self._nothing_s or _NOTHING_AGAIN_S)
            )
            self._look_at = sent_s + self._nothing_s
            return
        until = time.monotonic() + wait_s  # the service waits, whatever `clock` is
        if not self._wire.waits:
            self._poll(limit, until)
            return
        while True:
            if self._pending is None:
                self._pending = self._wire.send_pull(self._subscription, limit)
                self._pending.on_end(self._note_answer)
            if not self._pending.ended(max(0.0, until - time.monotonic())):
                # It stays: what the service sends to a pull that is given up is lost for a lease.
                return
            pending, self._pending = self._pending, None
            received = self._wire.answered(pending)
            found = self._accept(received, self._pending_at or self._clock.monotonic())
            if found or time.monotonic() >= until:
                return

    def _poll(self, limit: int, until: float) -> None:
        """Ask again and again until something came, or that time."""
        while True:
            sent_s = self._clock.monotonic()
            found = self._accept(self._wire.pull(self._subscription, limit), sent_s)
            left_s = until - time.monotonic()
            if found or left_s <= 0:
                return
            time.sleep(min(_POLL_S, left_s))

    def _note_answer(self) -> None:
        self._pending_at = self._clock.monotonic()

    def take_pending(self) -> None:
        """Accept what came after the wait for it was over."""
        pending = self._pending
        if pending is None or not pending.ended(0.0):
            return
        self._pending = None
        try:
            self._accept(self._wire.answered(pending), self._pending_at)
        except EngineUnavailable as error:
            _log.debug("%s: the last pull failed: %s", self._wire.names.url, error)

    def cancel(self) -> None:
        """Wait for no answer any more."""
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None

"""Feeding a pipe: what its producer wrote is put at once, and then each second."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from minionize.filling.sources import Source

PERIOD_S = 1.0
_MOST = 50_000


class Stream:
    """Puts what comes from `source` in batches by time; `put` takes JSON texts."""

    def __init__(self, source: Source, put: Callable[[list[str]], int]) -> None:
        self.count = 0
        """Params put so far."""
        self._source = source
        self._put = put
        self._held: list[str] = []
        self._due_s = 0.0

    def feed(self, batches: Iterable[list[str]]) -> int:
        """Put all of `batches` (those that are read from the source); returns how many.

        The first params go at once; later ones wait for others at most PERIOD_S. Without
        params `put` is called about as often, with nothing: so others see that it is alive.
        What was read before an error (a bad line) is put before that is raised.
        """
        self._source.on_idle = self._flush
        try:
            for batch in batches:
                self._held += batch
                wait_s = self._due_s - time.monotonic()
                if wait_s <= 0 or len(self._held) >= _MOST or not self._source.ready(wait_s):
                    self._flush()
        finally:
            self._source.on_idle = None
            if self._held:
                self._flush()
        return self.count

    def _flush(self) -> None:
        held, self._held = self._held, []
        self._due_s = time.monotonic() + PERIOD_S
        self.count += self._put(held)

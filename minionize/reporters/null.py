"""The null reporter: keeps nothing."""

from __future__ import annotations

from collections.abc import Sequence

from minionize.events import Event


class NullReporter:
    """Keeps nothing, and tells the worker that it need not even make events."""

    wants_events = False
    results_folder: str | None = None

    def report(self, events: Sequence[Event]) -> None:
        """Forget them."""

    def beat(self, running: int) -> None:
        """Nothing to flush."""

    def close(self) -> None:
        """Nothing to close."""

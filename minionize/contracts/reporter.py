"""The reporter contract: where events go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from minionize.events import Event


class Reporter(Protocol):
    """Takes events in batches. A reporter that fails says so once, and never stops a minion."""

    wants_events: bool
    """False: the worker need not even make events (the null reporter)."""
    results_folder: str | None
    """Where runs put results that are too large for an event, each in a file of its own, which
    the reporter owns once it gets the event. None: it keeps no results."""

    def report(self, events: Sequence[Event]) -> None:
        """Keep these events; may buffer until the next beat."""

    def beat(self, running: int) -> None:
        """Once per heartbeat: flush, and roll up. `running`: params running now."""

    def close(self) -> None:
        """Flush all. May be repeated."""


@runtime_checkable
class TellsUnkept(Protocol):
    """A reporter that may be unable to keep events for a while. The worker then tells the queue of
    no run that it is done while its result is only in memory."""

    unkept: str
    """Why events that it got are not kept yet; empty where all are. `report(())` tries again."""
    dropped: int
    """How many events it had to drop so far, since too many waited."""

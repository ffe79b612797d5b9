"""Results that the report has not kept yet: a run is not done before they are.

A report can be away for a while: its disk is full, its server is down. A minion goes on then, and
what it has to report waits in memory. But a run whose result, or captured output, is only in
memory must not be told to the queue as done: it would be lost with the minion.
"""

from __future__ import annotations

from collections.abc import Sequence

from minionize.contracts.reporter import Reporter, TellsUnkept
from minionize.events import Event, Kind

NOT_KEPT = "the report could not keep its result"
"""Why a run that ended well is given back."""


class UnkeptResults:
    """Whether acks have to wait for the report."""

    def __init__(self, reporter: Reporter, *, captured: bool) -> None:
        """`captured`: what programs print was asked for, so that it is a result as well."""
        self._reporter = reporter
        self._teller = reporter if isinstance(reporter, TellsUnkept) else None
        self._captured = captured
        self._owed = False
        self._dropped = 0

    def reported(self, events: Sequence[Event]) -> None:
        """The reporter got these. Acks among them are told to the queue after this."""
        teller = self._teller
        if teller is not None and (teller.unkept or teller.dropped != self._dropped):
            self._owed = self._owed or any(map(self._has_result, events))

    def _has_result(self, event: Event) -> bool:
        return event.kind is Kind.ACK and (
            event.result is not None
            or bool(event.result_file)
            or (self._captured and event.stdout is not None)
        )

    @property
    def are_lost(self) -> bool:
        """Whether the reporter had to drop some: the runs of all acks that wait are to be run
        again."""
        teller = self._teller
        return self._owed and teller is not None and teller.dropped != self._dropped

    def given_up(self) -> None:
        """The runs were given back: nothing is owed any more."""
        self._owed = False
        if self._teller is not None:
            self._dropped = self._teller.dropped

    def why(self, *, ask: bool) -> str:
        """Why acks have to wait; empty where they need not. `ask`: have the reporter try again."""
        teller = self._teller
        if teller is None or not self._owed:
            return ""
        if ask:
            self._reporter.report(())
        if teller.unkept or teller.dropped != self._dropped:
            return teller.unkept or NOT_KEPT
        self._owed = False
        return ""

"""Passing the output of runs on: whole runs, one after the other, without ever waiting."""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Callable, Sized

from minionize.contracts.crew import Outcome, Verdict
from minionize.worker.output import Sink
from minionize.worker.spool import Pages, ProgramSpool

UNDELIVERED = "its output could not be passed on"
"""Why a run is given back that ended well; the person is told."""
UNREAD = "nobody reads its output any more"
"""The same, behind `| head`, where it is known that the reader is gone."""
BACKLOG = 32
"""So many runs whose output waits for a slow reader; with more, none is started."""


# No dataclasses: they are slow to import, and each minion would wait for that.
class _Part:
    """A part of a file that is still to be passed on."""

    __slots__ = ("end", "lent", "pages", "sink", "start")

    def __init__(self, sink: Sink, pages: Pages, start: int, end: int) -> None:
        self.sink = sink
        self.pages = pages
        self.start = start
        self.end = end
        self.lent = False
        """Another one closes the file, when it is no longer needed."""

    def over(self) -> None:
        """All of it is out."""
        if self.lent:
            self.pages.let_go()
        else:
            self.pages.close()


class _Delivery:
    """An ended run, and what of its output is not out yet."""

    __slots__ = ("lost", "outcome", "parts", "unread")

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.parts: deque[_Part] = deque()
        self.lost = self.unread = False


class Deliveries:
    """Output of ended runs on its way to the minion's stdout and stderr.

    An outcome is held until its output is out: what could not be passed on was not done.
    """

    def __init__(self, poll: select.poll) -> None:
        """`poll` is told of a sink that waits for its reader."""
        self._poll = poll
        self._waiting: deque[_Delivery] = deque()
        self._asleep: dict[int, Sink] = {}

    @property
    def waiting(self) -> Sized:
        """The ended runs whose output is not out yet: always the same object."""
        return self._waiting

    @property
    def stuck(self) -> bool:
        """Whether a reader has to make room first."""
        return bool(self._asleep)

    def pass_live(self, sink: Sink, spool: ProgramSpool) -> None:
        """Pass on what a run that goes on has written by now."""
        if self._waiting or sink.fd in self._asleep:
            return
        size = spool.size()
        if size > spool.passed:
            spool.passed = sink.pass_from(spool.pread, spool.passed, size)
            spool.free_passed()
            self._sleep_if_blocked(sink)

    def deliver(
        self,
        outcome: Outcome,
        streams: tuple[tuple[Sink, ProgramSpool, int], ...],
        lend: Callable[[Pages, int], bool] | None = None,
    ) -> bool:
        """Pass on the rest of an ended run: (sink, spool, size). True if all of it is out.
        `lend`: Lent.hand_over, where something goes on that may write to the files."""
        delivery = _Delivery(outcome)
        for sink, spool, size in streams:
            if not size:
                continue
            if not self._waiting and not delivery.parts and sink.fd not in self._asleep:
                spool.passed = sink.pass_from(spool.pread, spool.passed, size)
                self._sleep_if_blocked(sink)
            if spool.passed < size:
                start = spool.passed
                part = _Part(sink, spool.give_away(), start, size)
                part.lent = lend is not None and lend(part.pages, size)
                delivery.parts.append(part)
            else:
                spool.clear()
        if not delivery.parts:
            return True
        self._waiting.append(delivery)
        return False

    def go_on(self) -> list[Outcome]:
        """Pass on one more turn; returns the outcomes whose output is out now."""
        out: list[Outcome] = []
        while self._waiting:
            delivery = self._waiting[0]
            part = delivery.parts[0]
            if part.sink.fd in self._asleep:
                break
            before = part.start
            part.start = part.sink.pass_from(part.pages.pread, part.start, part.end)
            self._sleep_if_blocked(part.sink)
            if part.start < part.end:
                if part.start > before and not part.sink.blocked:
                    break  # Its turn is over.
                continue
            part.over()
            delivery.parts.popleft()
            delivery.lost |= part.sink.lost
            delivery.unread |= part.sink.unread
            if not delivery.parts:
                self._waiting.popleft()
                lost = delivery.lost and delivery.outcome.verdict is Verdict.DONE
                ended = delivery.outcome
                out.append(undelivered(ended, unread=delivery.unread) if lost else ended)
        return out

    def wake(self, fd: int) -> None:
        """`poll` says that this sink can be written again."""
        if self._asleep.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def _sleep_if_blocked(self, sink: Sink) -> None:
        if sink.blocked and sink.fd not in self._asleep:
            self._asleep[sink.fd] = sink
            self._poll.register(sink.fd, select.POLLOUT)

    def close(self) -> None:
        """Drop what is still on its way."""
        for delivery in self._waiting:
            for part in delivery.parts:
                part.over()
        self._waiting.clear()


def undelivered(outcome: Outcome, *, unread: bool) -> Outcome:
    """A run that ended well, whose output was not taken or not wanted: it is given back."""
    reason = UNREAD if unread else UNDELIVERED
    return outcome._replace(verdict=Verdict.ABORTED, reason=reason)

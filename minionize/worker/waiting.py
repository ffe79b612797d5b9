"""The leases that wait for a slot, and how they get into one."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from itertools import repeat

from minionize.contracts.crew import Crew
from minionize.values import Lease
from minionize.worker.book import Book
from minionize.worker.decisions import crashed_too_often, suspect_may_start
from minionize.worker.link import Link
from minionize.worker.pace import Pace


class Waiting:
    """Spares, which start as soon as there is room, and suspects, which start one by one."""

    def __init__(
        self, crew: Crew, link: Link, book: Book, pace: Pace, *, max_crashes: int, beat_s: float
    ) -> None:
        self._crew = crew
        self._link = link
        self._book = book
        self._pace = pace
        self._max_crashes = max_crashes
        self._beat_s = beat_s
        self.spares: deque[tuple[float, Lease]] = deque()
        """Each with the time since when it waits."""
        self.suspects: deque[tuple[float, Lease]] = deque()
        self.unsynced = False
        """The end of a marked run could not be told yet: nothing starts before it is."""

    def __len__(self) -> int:
        return len(self.spares) + len(self.suspects)

    def accept(self, leases: Sequence[Lease], now: float) -> None:
        """Sort what came: to be run, suspects, and those that crashed too often."""
        plain = [lease for lease in leases if not (lease.crashes or lease.suspect)]
        self.spares.extend(zip(repeat(now), plain, strict=False))
        for lease in leases if len(plain) < len(leases) else ():
            if lease.crashes:
                failure = crashed_too_often(lease, self._max_crashes)
                if failure is not None:
                    self._book.bury_unrun(lease, failure)
                    continue
            if lease.suspect:
                self.suspects.append((now, lease))
            elif lease.crashes:
                self.spares.append((now, lease))
        self.start(now)

    def start(self, now: float) -> None:
        """Start what waits, as far as there is room."""
        if self.unsynced:
            return
        crew = self._crew
        room = crew.room(self._pace.seconds_each)
        if room and self.suspects and self._suspect_may_start():
            # Behind a run that goes on it would be charged for that one's crash: nothing is
            # queued before a slot is idle.
            if not crew.room(None):
                return
            self._start_suspect()
            room = crew.room(self._pace.seconds_each)
        spares = self.spares
        if room > 0 and spares:
            leases = [spares.popleft()[1] for _ in range(min(room, len(spares)))]
            if self._book.aborting:
                leases = self._not_aborting(leases, now)
            if leases:
                crew.start(leases)

    def _not_aborting(self, leases: list[Lease], now: float) -> list[Lease]:
        """Leave out those whose former run is not dead yet."""
        aborting = self._book.aborting
        self.spares.extend((now, lease) for lease in leases if lease.id in aborting)
        return [lease for lease in leases if lease.id not in aborting]

    def _suspect_may_start(self) -> bool:
        """Whether none is too near to the first of the suspects."""
        _, lease = self.suspects[0]
        marked = self._link.marked
        beside = [(run.crashes, s) for run, s in self._crew.running() if run.id in marked]
        if len(beside) < len(marked):
            # One that was marked ended, and the queue does not know yet.
            return False
        return lease.id not in self._book.aborting and suspect_may_start(
            lease.crashes, beside, self._beat_s
        )

    def _start_suspect(self) -> None:
        """Mark and start the first of the suspects, if the queue can be told."""
        _, lease = self.suspects[0]
        if self._link.started([lease]):
            self.suspects.popleft()
            self._crew.start([lease])

    def take_old(self, now: float, age_s: float) -> list[Lease]:
        """Take out those that waited for so long."""
        old: list[Lease] = []
        for waiting in (self.spares, self.suspects):
            while waiting and now - waiting[0][0] >= age_s:
                old.append(waiting.popleft()[1])
        return old

    def take_all(self) -> list[Lease]:
        """Take out all."""
        all_ = [lease for _, lease in (*self.spares, *self.suspects)]
        self.spares.clear()
        self.suspects.clear()
        return all_

    def drop(self, ids: Collection[str]) -> set[str]:
        """Forget those of these ids; returns which of them waited here."""
        dropped = {item[1].id for item in (*self.spares, *self.suspects) if item[1].id in ids}
        if dropped:
            self.spares = deque(item for item in self.spares if item[1].id not in ids)
            self.suspects = deque(item for item in self.suspects if item[1].id not in ids)
        return dropped

"""Which slots wait for a child, and when the zygote is asked for one."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable

from minionize.worker.functions.links import Links
from minionize.worker.functions.nursery import Nursery
from minionize.worker.functions.slot import Slot

AT_ONCE = 8
"""So many births are asked for before the first is told: descriptors on their way are few."""


class Births:
    """Asks one zygote for children, a few at a time."""

    def __init__(
        self,
        nursery: Nursery,
        links: Links,
        rounds: Callable[[], int],
        unmade: Callable[[Slot, OSError], None],
    ) -> None:
        """`rounds`: of the guard, now. `unmade` is told of a slot for which the machine has no
        room."""
        self._unmade = unmade
        self._nursery = nursery
        self._links = links
        self._rounds = rounds
        self._wanted: deque[Slot] = deque()
        self._asked: set[int] = set()
        self.up = False
        """Whether the zygote takes orders."""

    def want(self, slots: Iterable[Slot]) -> None:
        """A child for each of these that has none."""
        self._wanted += [slot for slot in slots if slot.link is None and slot not in self._wanted]
        self.go_on()

    def told(self, slot: Slot) -> None:
        """The zygote answered for this slot."""
        self._asked.discard(slot.index)
        self.go_on()

    def go_on(self) -> None:
        """Ask for what can be asked for now."""
        while self.up and self._wanted and len(self._asked) < AT_ONCE:
            slot = self._wanted.popleft()
            slot.rounds = self._rounds()
            try:
                ends = slot.conceive()
            except OSError as error:
                # Whatever has something to run asks again.
                self._wanted.clear()
                self._unmade(slot, error)
                return
            self._nursery.fork(slot.index, slot.birth, ends)
            os.close(ends[0])
            self._links.add(slot)
            self._asked.add(slot.index)

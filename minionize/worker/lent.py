"""Files of output that something which outlives its run may still write to.

A daemon that goes on after its run has that run's output open. The next run in the slot gets files
of its own, so that no run is said to have printed what another one's daemon did. What the daemon
prints from then on is dropped, now and then, since it would fill the memory else.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque

from minionize.worker.program_slot import Slot
from minionize.worker.spool import Pages

_MOST = 64
"""Of so many descriptors the oldest is closed: its memory is free when the daemon ends."""


class Lent:
    """The files of one crew's runs that are over."""

    def __init__(self) -> None:
        self._files: deque[Pages] = deque()

    def __bool__(self) -> bool:
        return bool(self._files)

    def part(self, slot: Slot, *, keep: bool) -> None:
        """The run in `slot` is over, and its output is taken: the next one gets other files.
        `keep`: `empty` will be told when nothing is left of any run."""
        with contextlib.suppress(OSError):  # no descriptor left: the old ones stay
            for pages in slot.change_files():
                self._files.append(pages)
        while len(self._files) > (_MOST if keep else 0):
            self._files.popleft().close()

    def empty(self, *, over: bool) -> None:
        """Drop what was written since the last call. `over`: nothing writes any more."""
        for pages in self._files:
            if over:
                pages.close()
            else:
                os.ftruncate(pages.fd, 0)
        if over:
            self._files.clear()

"""Files of output that something which outlives its run may still write to.

A daemon that goes on after its run has that run's output open. The next run in the slot gets files
of its own, so that no run is said to have printed what another one's daemon did. What the daemon
prints from then on is dropped, now and then, since it would fill the memory else. What the run
itself printed stays until it is passed on.
"""

from __future__ import annotations

import contextlib

from minionize.worker.orphans import Orphans
from minionize.worker.program_slot import Slot
from minionize.worker.spool import Pages

_MOST = 64
"""Of so many descriptors the oldest is closed: its memory is free when the daemon ends."""


class Lent:
    """The files of one crew's runs that are over."""

    def __init__(self, orphans: Orphans) -> None:
        """`orphans` tell when nothing is left of any run, where they can."""
        self._orphans = orphans
        self._files: list[Pages] = []

    def __bool__(self) -> bool:
        return bool(self._files)

    def part(self, slot: Slot) -> None:
        """The run in `slot` is over, and its output is taken: the next one gets other files."""
        with contextlib.suppress(OSError):  # no descriptor left: the old ones stay
            self._files += slot.change_files()
        most = _MOST if self._orphans.adopting else 0
        for pages in [pages for pages in self._files if not pages.needed]:
            if len(self._files) <= most:
                return
            pages.close()
            self._files.remove(pages)

    def hand_over(self, pages: Pages, size: int) -> bool:
        """The output of an ended run, of `size` bytes, waits for its reader. False if these files
        are not kept here, so that the caller closes them; else it calls `let_go`."""
        if not self._orphans.adopting:
            return False
        pages.needed = size
        self._files.append(pages)
        return True

    def empty(self) -> None:
        """Drop what was written since the last call, and is no run's output."""
        for pages in self._files:
            pages.drop_later()

    def close_if_over(self) -> None:
        """Close what nothing writes any more, once it is passed on."""
        if self._orphans.none():
            for pages in self._files:
                if not pages.needed:
                    pages.close()
            self._files = [pages for pages in self._files if pages.needed]

    def close(self) -> None:
        """Let go of all files."""
        for pages in self._files:
            pages.close()
        self._files.clear()

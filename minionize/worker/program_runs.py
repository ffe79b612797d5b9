"""The runs of a crew of programs that go on: their output, their time-outs, and signals to them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection
from typing import TYPE_CHECKING

from minionize.worker.guard import Guard
from minionize.worker.lent import Lent
from minionize.worker.orphans import Orphans
from minionize.worker.program_output import ProgramOutput
from minionize.worker.program_slot import NEVER, Slot
from minionize.worker.rests import Rests, send
from minionize.worker.spool import SPILL_BYTES

if TYPE_CHECKING:
    from minionize.worker.terminal import Terminal

LIVE_TICK_S = 0.05
TICK_S = 0.1
NO_PIDFD_TICK_S = 0.01
_HURRY_TICK_S = 0.02
"""While much of what programs print is in memory."""
_ORPHANS_S = 1.0


class ProgramRuns:
    """The runs that go on, and what goes on of those whose main process has ended."""

    def __init__(
        self,
        running: dict[int, Slot],
        rests: Rests,
        orphans: Orphans,
        output: ProgramOutput,
        lent: Lent,
        terminal: Terminal | None,
        guard: Guard | None,
    ) -> None:
        """`running`: the crew's own, by pidfd, or by minus the pid where there is none."""
        self._running = running
        self._rests = rests
        self._orphans = orphans
        self._output = output
        self._terminal = terminal
        self._guard = guard
        self._orphans_at = 0.0
        self.lent = lent
        """What runs that are over left open."""

    def all(self) -> list[Slot]:
        """The slots with a run, or with the rest of one."""
        return [*self._running.values(), *self._rests.slots]

    def ended_unheard(self) -> list[int]:
        """The keys of those that have no pidfd, and whose main process has ended."""
        return [
            key
            for key in self._running
            if key < 0 and os.waitid(os.P_PID, -key, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        ]

    def look(self, now: float, tick_s: float) -> float:
        """Look after them all. Returns for how many seconds that is enough, at most `tick_s`."""
        most = 0
        for slot in self._running.values():
            if self._terminal is not None:
                self._terminal.suspend_with(slot.pid)
            else:
                most = max(most, self._pour(slot))
        for slot in self._rests.slots:
            most = max(most, self._pour(slot))
        if now >= self._orphans_at:
            # Daemons that ended while the run that started them goes on, and such that may go on.
            self._orphans_at = now + _ORPHANS_S
            self._orphans.reap([slot.pid for slot in self._rests.slots])
            self.lent.close_if_over()
        if self.lent:
            self.lent.empty()
        return min(tick_s, _HURRY_TICK_S) if most > SPILL_BYTES else tick_s

    def _pour(self, slot: Slot) -> int:
        """Look after the output of a run that goes on: how much of it is in memory."""
        try:
            return self._output.tick(slot)
        except OSError as error:
            if not slot.end:
                slot.end, slot.fault = "room", error
                self._signal(slot, signal.SIGKILL)
            return 0

    def enforce(self, now: float) -> float:
        """Time-outs: TERM to the group, and KILL when the grace is over. Returns when the next
        comes; NEVER if there is none."""
        for slot in self.all():
            if now >= slot.due:
                if slot.end:
                    slot.due = NEVER
                    self._signal(slot, signal.SIGKILL)
                else:
                    slot.end = "timeout"
                    slot.due = now + self._rests.grace_s
                    self._signal(slot, signal.SIGTERM)
        return min((slot.due for slot in self.all()), default=NEVER)

    def abort(self, ids: Collection[str]) -> None:
        """Kill those of these params now."""
        for slot in self.all():
            if slot.lease is not None and slot.lease.id in ids:
                slot.end = "abort"
                self._signal(slot, signal.SIGKILL)

    def stop(self, number: int) -> None:
        """This signal to every group, since the minion ends."""
        for slot in self.all():
            slot.end = slot.end or "stop"
            self._signal(slot, number)

    def end(self) -> list[Slot]:
        """Kill them all, and wait for their main processes. Returns the slots that they had."""
        self.stop(signal.SIGKILL)
        for key, slot in self._running.items():
            if key >= 0:
                os.close(key)
            os.wait4(slot.pid, 0)
            if self._guard is not None:
                self._guard.release(slot.index)
            if self._terminal is not None:
                self._terminal.take_back(slot.pid)
        ended = self.all()
        self._running.clear()
        self._rests.slots.clear()
        return ended

    def _signal(self, slot: Slot, number: int) -> None:
        send(slot.pid, number)
        if slot.rest is not None:
            self._rests.signalled(slot, number, time.monotonic())

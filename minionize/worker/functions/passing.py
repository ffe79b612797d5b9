"""Passing on what functions write."""

from __future__ import annotations

from collections.abc import Sequence

from minionize.worker.functions.slot import Slot
from minionize.worker.limits import limits
from minionize.worker.output import Sink

BEHIND_BYTES = 64 << 20
"""With so much output that a slow reader has not taken, nothing more is started."""
CLEAR_BYTES = 1 << 20
"""From here on what was passed on is dropped when the child is idle next."""


class Output:
    """The way from the files that children write to, to the minion's own stdout and stderr: as
    it comes with one slot, else up to the end of whole runs, so that they are not interleaved."""

    def __init__(self, out: Sink, err: Sink, *, capture: bool, live: bool) -> None:
        """`capture`: nothing is passed on, since outcomes carry it."""
        self._sinks = (out, err)
        self._capture = capture
        self._live = live

        most = limits.file_bytes
        self._clear_bytes = CLEAR_BYTES if most is None else min(CLEAR_BYTES, most // 4)

    @property
    def blocked(self) -> bool:
        """Whether a reader has to make room first."""
        return any(sink.blocked for sink in self._sinks)

    def behind(self, slots: Sequence[Slot]) -> bool:
        """Whether a slow reader is so far behind that nothing more should be started."""
        return self.blocked and any(
            spool.size() - spool.passed > BEHIND_BYTES
            for slot in slots
            for spool in (slot.out, slot.err)
        )

    def owes(self, slots: Sequence[Slot]) -> bool:
        """Whether output of runs that ended is still to be passed on."""
        return any(
            slot.out.passed < slot.out_end or slot.err.passed < slot.err_end for slot in slots
        )

    def pass_on(self, slots: Sequence[Slot], *, final: bool = False) -> None:
        """Pass on what goes without waiting. `final`: what unfinished runs wrote, too."""
        for slot in slots:
            ends = (slot.out_end, slot.err_end)
            for sink, spool, end in zip(self._sinks, (slot.out, slot.err), ends, strict=True):
                if self._capture:
                    spool.passed = end
                    continue
                if self._live or final:
                    end = spool.size()
                if end > spool.passed:
                    spool.passed = sink.pass_on(spool.fd, spool.passed, end)
                    spool.free_passed()
            if slot.out.passed + slot.err.passed > self._clear_bytes:
                slot.clear_output()

    def close(self) -> None:
        """Let go of what was opened for it."""
        for sink in self._sinks:
            sink.close()

"""What becomes of the output of programs: passed on, live or at the end, or captured."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Callable

from minionize.contracts.crew import Outcome, Verdict
from minionize.worker.delivery import Deliveries, undelivered
from minionize.worker.lent import Lent
from minionize.worker.output import Sink
from minionize.worker.program_slot import Slot
from minionize.worker.spool import HOLD_UP_BYTES, LEAST_HELD_BYTES, SPILL_BYTES


class ProgramOutput:
    """The output of the runs of one crew, on its way to the minion's own."""

    def __init__(
        self,
        poll: select.poll,
        *,
        slots: int,
        capture: bool,
        keep_end: bool,
        live: bool,
        on_closed: Callable[[str], None],
        before: Callable[[], None] | None,
        lent: Lent | None = None,
    ) -> None:
        """`slots`: so many runs share the memory. `capture`: output goes into the outcome;
        `keep_end`: the end of it too, besides being passed on. `poll` is told of a sink that
        waits for its reader; `on_closed` and `before` as of output.Sink. `lent` takes
        files that something may write to after the run."""
        self.captures = capture
        """Whether output goes into the outcome, instead of on."""
        self._keep_end = keep_end
        self._most_held = max(LEAST_HELD_BYTES, HOLD_UP_BYTES // slots)
        self._live = live
        self._lent = lent
        self._out = Sink(1, "stdout", on_closed, before)
        self._err = Sink(2, "stderr", on_closed, before)
        self._deliveries = Deliveries(poll)
        self.waiting = self._deliveries.waiting
        """The ended runs whose output is not out yet."""

    @property
    def stuck(self) -> bool:
        """Whether a reader has to make room first."""
        return self._deliveries.stuck

    def wake(self, fd: int) -> None:
        """`poll` says that this sink can be written again."""
        self._deliveries.wake(fd)

    def go_on(self) -> list[Outcome]:
        """Pass on one more turn; returns the outcomes whose output is out now."""
        return self._deliveries.go_on()

    def tick(self, slot: Slot) -> int:
        """What is done with the output of a run that goes on. Returns how much of it is in
        memory; OSError where there is no room on disk for the rest."""
        for draft in (slot.draft_out, slot.draft_err):
            if draft is not None:
                draft.tick()
        out, err = slot.out, slot.err
        if out is None or err is None:
            return 0
        if self.captures:
            out.free_middle()
            err.free_middle()
            return out.held() + err.held()
        if self._live:
            self._deliveries.pass_live(self._out, out)
            self._deliveries.pass_live(self._err, err)
        if not self._live or self._deliveries.stuck:
            try:
                out.spill()
                err.spill()
            except OSError:
                if not self._live:
                    raise
                # It is held up until its reader has made room, as in front of a pipe.
        held = out.held() + err.held()
        if held > self._most_held and not (slot.held_up or slot.end):
            slot.held_up = True
            _signal(slot.pid, signal.SIGSTOP)
        elif slot.held_up and held < 2 * SPILL_BYTES:
            slot.held_up = False
            _signal(slot.pid, signal.SIGCONT)
        return held

    def end(self, slot: Slot, outcome: Outcome, out_size: int, err_size: int) -> Outcome | None:
        """The run in `slot` ended: its outcome, or None if that comes when its output is out."""
        out, err = slot.out, slot.err
        out_kept, err_kept = slot.draft_out is None, slot.draft_err is None
        outcome = slot.keep_files(outcome)
        if out is None or err is None:
            return outcome
        if self.captures:
            outcome = outcome._replace(
                stdout=out.kept() if out_kept else None,
                stderr=err.kept() if err_kept else None,
            )
            if out_size:
                out.clear()
            if err_size:
                err.clear()
        elif out_size or err_size:
            if out_size and self._keep_end:
                outcome = outcome._replace(stdout=out.end(out_size))
            streams = ((self._out, out, out_size), (self._err, err, err_size))
            fds = out.fd, err.fd
            lend = self._lent.hand_over if self._lent is not None and slot.outlived else None
            at_once = self._deliveries.deliver(outcome, streams, lend)
            if fds != (out.fd, err.fd):
                slot.files_moved()
            if not at_once:
                return None
            lost = (out_size and self._out.lost) or (err_size and self._err.lost)
            if lost and outcome.verdict is Verdict.DONE:
                return undelivered(outcome, unread=self._out.unread or self._err.unread)
        return outcome

    def close(self) -> None:
        """Drop what is still on its way."""
        self._deliveries.close()
        self._out.close()
        self._err.close()


def _signal(pgid: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.killpg(pgid, number)

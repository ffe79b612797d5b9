"""What a run of a program came to, when its process group is gone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from minionize.contracts.crew import Flaw, Outcome, Verdict
from minionize.worker.blame import remedy
from minionize.worker.decisions import NEVER_BEGAN
from minionize.worker.guard import Guard
from minionize.worker.judging import End, judge
from minionize.worker.kin import Kin
from minionize.worker.limits import limits
from minionize.worker.program_output import ProgramOutput
from minionize.worker.program_slot import NEVER, Slot
from minionize.worker.rests import Rest
from minionize.worker.strays import kill_marked

if TYPE_CHECKING:
    from minionize.worker.apart import ApartRuns
    from minionize.worker.hooks import Hooked

_DONE = Verdict.DONE


class ProgramEnds:
    """Says how the runs of one crew went, and what becomes of their output."""

    def __init__(
        self,
        table: Mapping[int, Verdict],
        output: ProgramOutput,
        hooked: Hooked | ApartRuns | None,
        guard: Guard | None,
        *,
        mark: str,
        folder: str,
    ) -> None:
        """`table`: what each exit status means. `hooked` is called after each run. `mark`: what
        all runs have in their environment. `folder`: where much output is kept, TMPDIR."""
        self._table = table
        self._output = output
        self._hooked = hooked
        self._always = output.captures or hooked is not None
        self._guard = guard
        self._mark = mark.encode()
        self._folder = folder
        self._own_peak_kib = 0

    def over(
        self, slot: Slot, status: int, usage: Any, seconds: float, rest: Rest | None
    ) -> Outcome | None:
        """The run in `slot` is over: its outcome, or None if that comes when its output is out.
        `status`, `usage`: of its main process, as of wait4. The slot is idle then."""
        lease = slot.lease
        assert lease is not None
        slot.lease = None
        slot.due = NEVER
        exit_status = os.waitstatus_to_exitcode(status) if status else 0
        shortage = slot.fault if slot.plain else slot.fault or slot.shortage()
        if shortage is None and limits.file_bytes is not None:
            shortage = slot.cut(limits.file_bytes)
        if status or slot.end or rest is not None or shortage is not None:
            guard = self._guard
            stood_still = guard is not None and guard.killed_since(slot.rounds)
            verdict, reason = judge(
                End(exit_status, slot.end, rest, shortage is not None, stood_still), self._table
            )
            if slot.end in ("timeout", "abort") or (rest is not None and verdict is not _DONE):
                # Also what left its process group.
                kill_marked((self._mark, f"MINION_PARAM_ID={lease.id}".encode()), Kin(os.getpid()))
        else:
            verdict, reason = self._table[0], ""
        flaws = (Flaw.REST,) if verdict is _DONE and reason else ()
        peak_kib = usage.ru_maxrss
        if peak_kib > self._own_peak_kib:
            self._own_peak_kib = _own_peak_kib()
        outcome = Outcome(
            lease,
            verdict,
            slot.index,
            seconds,
            exit_status,
            usage.ru_utime + usage.ru_stime,
            peak_kib,
            peak_kib <= self._own_peak_kib,
            reason,
            flaws=flaws,
        )
        out_size = err_size = 0
        if slot.out is not None and slot.err is not None:
            # `size` of both, without the calls.
            out_size = os.lseek(slot.out.fd, 0, os.SEEK_END)
            err_size = os.lseek(slot.err.fd, 0, os.SEEK_END)
        if not (verdict is not _DONE or out_size or err_size or self._always or not slot.plain):
            return outcome
        if verdict is not _DONE and verdict not in NEVER_BEGAN:
            note = f"\n{rest.note}" if rest is not None and rest.note else ""
            outcome = outcome._replace(detail=slot.tail(err_size) + note)
        elif shortage is not None:
            why = os.strerror(shortage.errno or 0)
            outcome = outcome._replace(
                detail=f"{shortage.filename or self._folder}: {why}: {remedy(shortage)}"
            )
        if self._hooked is not None:
            outcome = self._hooked.after(outcome)
        told = self._output.end(slot, outcome, out_size, err_size)
        slot.tidy()
        return told


def _own_peak_kib() -> int:
    """wait4 gives a spawned program its parent's peak until it has a higher one itself."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

"""What the end of a program means, as far as its exit status tells."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import NamedTuple

from minionize.contracts.crew import Verdict
from minionize.worker.rests import Rest
from minionize.worker.room import NO_ROOM, NO_ROOM_IN_TMPDIR

_VERDICTS = {
    "done": Verdict.DONE,
    "later": Verdict.LATER,
    "dead": Verdict.REJECTED,
    "failed": Verdict.FAILED,
}


def verdicts(on_exit: Mapping[int, str] | None) -> dict[int, Verdict]:
    """What each exit status means (others: failed), from the words of --on-exit."""
    told = on_exit or {65: "dead", 75: "later"}
    return {0: Verdict.DONE} | {status: _VERDICTS[word] for status, word in told.items()}


class End(NamedTuple):
    """How a run ended, as far as that decides whether it is done."""

    exit_status: int
    """Of its main process: 0 to 255, or minus a signal."""
    by_us: str = ""
    """What we ended it for: `timeout`, `abort`, `stop`, `room`, or nothing."""
    rest: Rest | None = None
    """What went on when its main process had ended, and is gone now."""
    no_room: bool = False
    """A file of its output may not be whole, since its disk is full."""
    stood_still: bool = False
    """The guard took the minion for hung since the run began, and killed what it found."""


def judge(end: End, table: Mapping[int, Verdict]) -> tuple[Verdict, str]:
    """Verdict and reason of a run. The one place that decides whether it is done."""
    exit_status = end.exit_status
    if exit_status >= 0:
        reason = f"exit {exit_status}" if exit_status else ""
        verdict = table.get(exit_status, Verdict.FAILED)
    else:
        reason = "signal " + _signal_name(-exit_status)
        verdict = Verdict.FAILED
    if end.by_us == "timeout":
        return Verdict.FAILED, "timeout"
    if end.by_us == "room":
        return Verdict.UNABLE, NO_ROOM_IN_TMPDIR
    if end.by_us == "abort":
        return Verdict.ABORTED, "lease lost"
    if end.by_us == "stop" and (
        verdict is not Verdict.DONE or (end.rest is not None and end.rest.cut)
    ):
        return Verdict.ABORTED, "stopped"
    if end.no_room and verdict in (Verdict.DONE, Verdict.FAILED):
        # A program that noticed failed for that, and one that did not has cut output.
        return Verdict.UNABLE, NO_ROOM
    killed = exit_status in (-signal.SIGKILL, 128 + signal.SIGKILL)
    if end.stood_still and (killed or end.rest is not None):
        return Verdict.ABORTED, "the minion stood still for longer than its lease"
    if verdict is Verdict.DONE:
        return verdict, end.rest.note if end.rest is not None else ""
    return verdict, reason


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)

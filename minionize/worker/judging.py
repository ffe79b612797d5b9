"""What the end of a program means, as far as its exit status tells."""

from __future__ import annotations

import signal
from collections.abc import Mapping

from minionize.contracts.crew import Verdict

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


def judge(
    exit_status: int, table: Mapping[int, Verdict], end: str, stood_still: bool
) -> tuple[Verdict, str]:
    """Verdict and reason. `end` is what we did to the run: `timeout`, `abort`, `stop` or nothing;
    `stood_still`: the guard took us for hung since it began."""
    if exit_status >= 0:
        reason = f"exit {exit_status}" if exit_status else ""
        verdict = table.get(exit_status, Verdict.FAILED)
    else:
        reason = "signal " + _signal_name(-exit_status)
        verdict = Verdict.FAILED
    if end == "timeout":
        return Verdict.FAILED, "timeout"
    if end == "abort":
        return Verdict.ABORTED, "lease lost"
    if end == "stop" and verdict is not Verdict.DONE:
        return Verdict.ABORTED, "stopped"
    if stood_still and exit_status in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return Verdict.ABORTED, "the minion stood still for longer than its lease"
    return verdict, reason


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)

"""Lines for a person: a line per failed attempt, rate-limited, and the last line of all."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from minionize.contracts.crew import Flaw
from minionize.values import Clock, Lease, Stats
from minionize.worker.decisions import GAVE_WAY, Settlement
from minionize.worker.summary import Summary

_BURST = 10
"""So many lines at once; after that one a second."""
_SHOWN = 160
_STOPPED = (75, 130)
"""Exit statuses of a minion that was told to stop while params remained."""

_FLAWS = {
    Flaw.REST: "with processes that went on for too long",
    Flaw.REPLACED: "took the place of another param's file",
}


def printable(text: str, most: int = _SHOWN) -> str:
    """`text` on one line, fit for a terminal: control characters and the like are escaped."""
    shown = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode()
        for char in text[:most]
    )
    return shown + "..." if len(text) > most else shown


def last_line(detail: str) -> str:
    """The last line of a stderr tail or traceback that says something."""
    if detail.startswith("Fatal Python error: "):
        return detail.split("\n", 1)[0]  # what follows is the stack, innermost call first
    return next((line.strip() for line in reversed(detail.splitlines()) if line.strip()), "")


def duration(seconds: float) -> str:
    """`3 s`, `4 min`, `2 h 5 min`."""
    if seconds < 1:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


class FailureLines:
    """One line per failed attempt, until there are too many: then their number."""

    def __init__(self, say: Callable[[str], None], clock: Clock, max_attempts: int) -> None:
        self._say = say
        self._clock = clock
        self._max_attempts = max_attempts
        self._allowed = float(_BURST)
        self._at = clock.monotonic()
        self._unsaid = 0

    def failed(self, lease: Lease, reason: str, detail: str, settlement: Settlement) -> None:
        """An attempt failed, and this is what becomes of its param."""
        now = self._clock.monotonic()
        self._allowed = min(_BURST, self._allowed + now - self._at)
        self._at = now
        if self._allowed < 1:
            self._unsaid += 1
            return
        self._allowed -= 1
        self.say_unsaid()
        why = printable(reason)
        last = last_line(detail)
        if last:
            why += f" ({printable(last)})"
        if settlement.kind == "bury":
            end = "it is dead now"
        else:
            end = f"attempt {lease.attempt} of {self._max_attempts}"
            end += f", again in {settlement.delay_s:.0f} s"
        self._say(f"{printable(lease.id)}: {why}: {end}")

    def say_unsaid(self) -> None:
        """How many attempts failed without a line."""
        if self._unsaid:
            self._say(f"and {self._unsaid} more failed attempts")
            self._unsaid = 0


def last_words(summary: Summary, stats: Stats | None, dead_ids: Sequence[str] | None) -> str:
    """`998 done, 2 dead (1 new) in 3 min: see minion failures`. Where the queue is gone with the
    minion, `dead_ids` tells which (some of them), instead of where to look."""
    dead = summary.dead if stats is None or stats.dead is None else stats.dead
    text = f"{summary.done} done"
    if summary.flaws:
        text += f" ({', '.join(f'{n} {_FLAWS[flaw]}' for flaw, n in summary.flaws.items())})"
    if dead:
        text += f", {dead} dead ({summary.dead} new)"
    if summary.given_back:
        text += f", {summary.given_back} given back"
    if summary.lost:
        text += f", {summary.lost} lost to other minions"
    if stats is not None and stats.lost:
        text += f", {stats.lost} lost by the queue (see minion doctor)"
    text += f" in {duration(summary.seconds)}"
    if summary.exit_status in _STOPPED:
        text += f", stopped ({summary.why})"
        if stats is not None and stats.put is not None:
            left = (stats.waiting or 0) + (stats.delayed or 0) + (stats.running or 0)
            text += f", {left} left"
    elif summary.why == GAVE_WAY:
        text += f", {summary.why}"
    if dead and dead_ids is None:
        text += ": see minion failures"
    elif dead and dead_ids:
        some = ", ".join(printable(one) for one in dead_ids)
        more = ", ..." if summary.dead > len(dead_ids) else ""
        text += f": {some}{more} (see above why)"
    return text

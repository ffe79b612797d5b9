"""The live line on a terminal: done, rate, time left; while idle, what it waits for."""

from __future__ import annotations

from typing import TextIO

from minionize.values import Stats
from minionize.worker.lines import duration

EVERY_S = 0.5
IDLE = "idle: "
STATS_EVERY_S = 2.0


class Live:
    """One line at the bottom of a terminal that is written over and over."""

    def __init__(self, stream: TextIO, width: int = 79) -> None:
        self._stream = stream
        self._width = width
        self._shown = ""

    def show(self, text: str) -> None:
        """Put `text` in place of what is there."""
        text = text[: self._width]
        if text != self._shown:
            self._stream.write("\r\x1b[K" + text)
            self._stream.flush()
            self._shown = text

    def clear(self) -> None:
        """Make room for other output."""
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._shown = ""


class Progress:
    """Makes the text of the live line from what the queue holds, as seen now and before."""

    def __init__(self) -> None:
        self._seen: tuple[float, int] | None = None
        self._per_s: float | None = None

    def see(self, stats: Stats, now: float) -> None:
        """What the queue holds at `now` (monotonic seconds)."""
        ended = (stats.done or 0) + (stats.dead or 0)
        if self._seen is not None and now > self._seen[0]:
            per_s = (ended - self._seen[1]) / (now - self._seen[0])
            old = per_s if self._per_s is None else self._per_s
            self._per_s = max(0.0, old + 0.3 * (per_s - old))
        self._seen = (now, ended)

    def text(self, done: int, stats: Stats | None, running: int, *, loading: bool = False) -> str:
        """The line. `done` by this minion, `running` in this minion, which is `loading` what it
        runs."""
        if loading:
            return "loading the function"
        if stats is None:
            return f"{done} done here, {running} running"
        if not running and (stats.paused or not stats.waiting):
            return IDLE + waits_for(stats)
        parts = [f"{stats.done if stats.done is not None else done} done"]
        if stats.dead:
            parts.append(f"{stats.dead} dead")
        left = [stats.waiting, stats.delayed, stats.running]
        if None not in left:
            count = sum(number or 0 for number in left)
            parts.append(f"{count} left")
            if self._per_s:
                parts.append(f"{self._per_s:.3g}/s")
                parts.append(f"{duration(count / self._per_s)} to go")
        return ", ".join(parts)


def waits_for(stats: Stats) -> str:
    """Why nothing can be taken now: `2 running elsewhere, 1 due in 4 s`."""
    if stats.paused:
        return "the queue is paused: minion resume"
    parts = []
    if stats.running:
        parts.append(f"{stats.running} running elsewhere")
    if stats.delayed:
        due = "later" if stats.due_in_s is None else f"in {duration(max(0.0, stats.due_in_s))}"
        parts.append(f"{stats.delayed} due {due}")
    if stats.feeders:
        parts.append(f"{stats.feeders} feeding")
    return ", ".join(parts) or "nothing to take now"

"""Keeping all CPUs busy with programs that take milliseconds.

Whoever starts thousands of programs a second has to be woken at once when one ends (see `prompt`),
and each program has to get a CPU at once. Linux gives a new process the CPU that was least used
within the last tenth of a second. A minion's start keeps one CPU busy for longer than that, so
programs are put on another one, behind the program that runs there, while the minion waits beside
an idle CPU: posix_spawn returns when the program begins. The idle CPU pulls some of them over, and
counts their work as its own; so this may go on to the end, and costs up to a third of the speed.
So a minion rests for a moment before its first programs. Should it come to this later, it ends when
the minion's CPU has less to do for a tenth of a second: one slot stays empty.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Sequence

from minionize.worker.prompt import ask_for_short_slices

JUDGED = 32
"""After each so many runs it is judged whether the programs are short."""
SHORT_S = 0.02
"""If they take less than this, it is worth to look after how they are started."""
LONG_S = 0.01
"""No slot stays empty beside a run that takes longer."""
WINDOW = 16
"""After each so many starts beside busy CPUs it is judged whether these take too long:"""
TOO_LONG = 1.6
"""so many times what a start takes while there is a CPU for it."""
RELIEF_S = 0.08
"""For so long one slot stays empty then."""
REST_S = 0.02
"""For so long a minion rests at most before its first programs, and for a fifth of the CPU seconds
that its start took: the CPU is then less used than one where a program runs."""
AGAIN_S = 0.25
"""So much later at the earliest it may be again; twice as much each time that it did not help,"""
AGAIN_MOST_S = 8.0
"""up to this."""
_FEW = 3
"""With fewer starts beside an idle CPU it is unknown what one takes."""


class ShortRuns:
    """Learns from starts and ends of programs. Times are monotonic seconds."""

    def __init__(self, slots: int, now: float, cpu_s: float) -> None:
        """`cpu_s`: the CPU seconds that the minion took to start."""
        self.tight = slots == _cpus() > 1
        """Whether starts matter: with fewer slots each finds a free CPU, with more none does."""
        self._crowded_from = slots - 1
        """With so many running a start finds no idle CPU but the minion's own."""
        self.rest_until = now + min(REST_S, cpu_s / 5) if self.tight else 0.0
        """Until then nothing is to start; 0 where there is no rest, or it is over."""
        self.empty_until = 0.0
        """Until then one slot stays empty; 0 if none does."""
        self._again_at = 0.0
        self._again_s = AGAIN_S
        self.are_short = False
        """Once `JUDGED` runs in a row told so, it stays."""
        self._runs = 0
        self._run_s = 0.0
        """Runs that ended, and their seconds together, since they were judged the last time."""
        self._roomy: deque[float] = deque(maxlen=WINDOW)
        self._crowded: list[float] = []
        """Seconds that starts took, with an idle CPU for each and without."""

    def rest(self) -> None:
        """Wait until `rest_until`; there is no rest after it."""
        time.sleep(max(0.0, self.rest_until - time.monotonic()))
        self.rest_until = 0.0

    def ended(self, seconds: float) -> None:
        """A run ended that took so long; of no use any more once they `are_short`."""
        self._runs += 1
        self._run_s += seconds
        if self._runs >= JUDGED:
            if not self.are_short and self._run_s < SHORT_S * self._runs:
                self.are_short = True
                ask_for_short_slices()
            self._runs, self._run_s = 0, 0.0

    def started(self, running: int, seconds: float, now: float) -> None:
        """A start took so long, while `running` others ran. Only of use where it is `tight`."""
        if running < self._crowded_from:
            self._roomy.append(seconds)
        else:
            self._crowded.append(seconds)
            if len(self._crowded) >= WINDOW:
                self._judge_starts(now)

    def empty_slots(self, now: float, began: Iterable[float]) -> int:
        """How many of the slots are to stay empty, beside runs that began then."""
        if now < self.empty_until and all(now - then < LONG_S for then in began):
            return 1
        self.empty_until = 0.0
        return 0

    def _judge_starts(self, now: float) -> None:
        crowded_s = _median(self._crowded)
        self._crowded.clear()
        if not self.are_short:
            return
        if len(self._roomy) >= _FEW and crowded_s < TOO_LONG * _median(self._roomy):
            self._again_s = AGAIN_S
        elif now >= self._again_at:
            self.empty_until = now + RELIEF_S
            self._again_at = self.empty_until + self._again_s
            self._again_s = min(AGAIN_MOST_S, 2 * self._again_s)


def _median(seconds: Sequence[float]) -> float:
    return sorted(seconds)[len(seconds) // 2]


def _cpus() -> int:
    """Where programs may be put: a quota, as `settings.machine` knows, takes no CPU away."""
    return len(os.sched_getaffinity(0))

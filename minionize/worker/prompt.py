"""Being woken at once when a program ended, though all CPUs are busy with programs.

A minion of short programs works for a tenth of a millisecond at a time: it reaps one and starts
the next. Linux (6.6 and later) lets whoever runs go on for a slice of up to 3 ms before one that
woke up gets its CPU. With a program on each CPU the minion waits about a millisecond for each
start, and a third of the CPU time is lost. A process may ask for shorter slices (6.12 and later):
it gets no more CPU time than before, but sooner.
"""

from __future__ import annotations

import contextlib
import os

SLICE_S = 0.0001
"""The shortest that Linux takes."""
_SYSCALL = {"x86_64": 314, "aarch64": 274}
"""Numbers of sched_setattr(2); few C libraries have it as a function."""
_RESET_ON_FORK = 1


def ask_for_short_slices() -> bool:
    """Ask for them, for this process alone: the programs that it starts are scheduled as ever.
    Whether that was granted.

    Nothing is asked for where somebody chose how this process is scheduled (nice below 0, another
    policy): what it starts shall be scheduled like that, too.
    """
    number = _SYSCALL.get(os.uname().machine)
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    if number is None or nice < 0 or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return False
    # Slow to import: only who starts many short programs asks.
    import ctypes
    import struct

    with contextlib.suppress(OSError, AttributeError):
        # struct sched_attr: size, policy, flags, nice, priority, then runtime (the slice, in ns),
        # deadline and period of 64 bits each.
        asked = struct.pack(
            "=IIQiIQQQ", 48, os.SCHED_OTHER, _RESET_ON_FORK, nice, 0, int(SLICE_S * 1e9), 0, 0
        )
        return int(ctypes.CDLL(None).syscall(number, 0, asked, 0)) == 0
    return False

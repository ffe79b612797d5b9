"""What minions report: one event for everything that happens to a param or a minion."""

from __future__ import annotations

import enum
from typing import NamedTuple


class Kind(str, enum.Enum):
    """What happened."""

    BEGIN = "begin"
    """A minion began to work."""
    END = "end"
    """A minion ended; `reason` says why."""
    ACK = "ack"
    """A param is done."""
    GIVE_BACK = "give_back"
    """A param went back to the queue; `charged` tells a failed attempt from an innocent one."""
    DEAD = "dead"
    """A param became a dead letter."""
    LOST = "lost"
    """A lease was lost while the param ran: the run was killed, the param is another's now."""


class Event(NamedTuple):
    """One event. Fields that do not apply keep their defaults.

    Durations are wall-clock seconds, CPU time is user + system of the run's process and
    the children it waited for, `peak_kib` the largest resident set of one of its processes.
    """

    kind: Kind
    at_s: float
    """Unix time."""
    id: str = ""
    attempt: int = 0
    slot: int = -1
    seconds: float | None = None
    exit_status: int | None = None
    """Of the program: 0 to 255, or minus the signal that ended it. None for functions."""
    cpu_s: float | None = None
    peak_kib: int | None = None
    peak_below: bool = False
    """`peak_kib` is only an upper bound: wait4 gives a spawned program its parent's peak."""
    reason: str = ""
    """Short and fit for grouping, as in values.Failure."""
    detail: str = ""
    """Tail of stderr or a traceback."""
    charged: bool = False
    delay_s: float = 0.0
    result: str | None = None
    """JSON text of what the function returned."""
    stdout: str | None = None
    stderr: str | None = None
    """Output of the run where it is captured; None where it is not."""
    param: str | None = None
    """JSON text of the param, where the queue can't give it back once it is settled."""
    command: str = ""
    """BEGIN only: what this minion runs, quoted for a shell."""
    result_file: str = ""
    """Where the result is, if it is too large for `result`: the path of a file of its own until
    the event is reported, then its name in the report."""

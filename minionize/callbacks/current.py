"""What a function may ask about the run that it is in."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Run(NamedTuple):
    """The run that is going on in this process."""

    id: str
    """The param's id in its queue."""
    attempt: int
    """1 + the runs of the param that failed by themselves."""
    slot: int
    minion_id: str
    deadline: float | None
    """Unix time at which the scheduler ends the minion, where there is one."""
    checkpoint_dir: str | None
    """A folder of this param's own (not made yet), the same at its next attempt, gone when it is
    done; None where the queue has no folder."""


tell: Callable[[], tuple[str, int]] | None = None
"""Id and attempt of the run that is going on; set by what runs functions."""
slot: int = 0
minion_id: str = ""
deadline: float | None = None
checkpoints: str | None = None


def current_run() -> Run | None:
    """The run that this function is called for; None outside of a minion."""
    if tell is None:
        return None
    run_id, attempt = tell()
    folder = f"{checkpoints}/{run_id}" if checkpoints else None
    return Run(run_id, attempt, slot, minion_id, deadline, folder)

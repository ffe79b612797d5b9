"""Crews of real programs, and what tests ask of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from minionize.contracts.callback import Invocation
from minionize.contracts.crew import Outcome
from minionize.values import Lease, Param, to_text
from minionize.worker.programs import ProgramCrew

# Of this process alone: what carries it is killed with a run that ran out of time.
ME = f"m-{os.getpid()}"


class Runs:
    """A callback that gives the invocation it was told to."""

    def __init__(self, *argv: str, append: bool = False, **more: Any) -> None:
        self.argv = list(argv)
        self.append = append
        self.more = more

    def invocation(self, lease: Lease, slot: int) -> Invocation:
        argv = [*self.argv, str(lease.param)] if self.append else self.argv
        return Invocation(argv, **self.more)


def sh(script: str, **more: Any) -> Runs:
    return Runs("/bin/sh", "-c", script, **more)


Make = Callable[..., ProgramCrew]


@contextmanager
def made_crews(tmp_path: Path) -> Iterator[Make]:
    """What makes crews, which are closed in the end."""
    crews: list[ProgramCrew] = []
    wake, other = os.pipe()

    def make(callback: Any, *, slots: int = 1, **more: Any) -> ProgramCrew:
        more.setdefault("env", {**os.environ, "TMPDIR": str(tmp_path)})
        more.setdefault("capture", True)
        crew = ProgramCrew(callback, slots=slots, minion_id=ME, wake_fd=wake, **more)
        crews.append(crew)
        return crew

    yield make
    for crew in crews:
        crew.close()
    os.close(wake)
    os.close(other)


def lease(param: Param = 1, id_: str = "7", attempt: int = 1) -> Lease:
    return Lease(id_, to_text(param), attempt)


def ends(crew: ProgramCrew, count: int = 1) -> list[Outcome]:
    outcomes: list[Outcome] = []
    deadline = time.monotonic() + 180
    while len(outcomes) < count:
        assert time.monotonic() < deadline
        outcomes += crew.wait(1.0)
    return outcomes


def end_of(crew: ProgramCrew, *leases: Lease) -> Outcome:
    crew.start(leases or [lease()])
    return ends(crew)[0]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

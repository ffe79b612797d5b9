"""The crew contract: what runs params in the slots of one minion.

The worker decides what to lease and what becomes of it; a crew starts runs, waits for them,
ends them, and says how each ended. `worker/programs` and `worker/functions` are the two.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from minionize.values import Lease


class Verdict(enum.Enum):
    """How a run ended."""

    DONE = "done"
    LATER = "later"
    """The program asked for it to be given back (exit 75, RetryLater)."""
    FAILED = "failed"
    """By itself: a failed attempt (exit status, signal, time-out, exception, crash of a child)."""
    REJECTED = "rejected"
    """A dead letter at once (exit 65, Reject, a param that can't be an argument)."""
    ABORTED = "aborted"
    """We ended it, or it never began (stopped, lease lost, revoked): no param is charged."""
    CROWDED = "crowded"
    """The machine had no room for one more process: no charge. The crew runs fewer."""
    UNABLE = "unable"
    """Something of the machine is broken, full or gone, so that it could not begin, or what it
    made could not be kept: no charge. A minion to which only this happens ends."""


class Flaw(enum.Enum):
    """What a person should know of a run that is done."""

    REST = "rest"
    """Processes of it went on for longer than the grace after its end."""
    REPLACED = "replaced"
    """A file of its output took the place of another param's."""


class Outcome(NamedTuple):
    """One lease's end. Units as in events.Event."""

    lease: Lease
    verdict: Verdict
    slot: int = -1
    seconds: float = 0.0
    """0.0 with ABORTED: it never began."""
    exit_status: int | None = None
    cpu_s: float | None = None
    peak_kib: int | None = None
    peak_below: bool = False
    reason: str = ""
    detail: str = ""
    delay_s: float | None = None
    """What RetryLater asked for."""
    result: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    flaws: tuple[Flaw, ...] = ()
    """Of a run that is done; `reason` has the words."""
    result_file: str | None = None
    """The file with the result instead, where that is large. Who gets the outcome owns it."""


class Crew(Protocol):
    """The slots of one minion."""

    slots: int

    def room(self, seconds_each: float | None) -> int:
        """How many leases `start` would take now, with runs of about `seconds_each` (None: not
        known yet, then one for each idle slot). Programs: the idle slots; functions: batches."""

    def start(self, leases: Sequence[Lease]) -> None:
        """Run these, at most `room()` of them. Never blocks, never raises for one bad param:
        that is an Outcome of the next `wait`. A suspect gets a batch of its own."""

    def running(self) -> Sequence[tuple[Lease, float]]:
        """The leases that are executing now, and for how many seconds. Not those that wait in a
        batch behind another."""

    def wait(self, timeout_s: float) -> list[Outcome]:
        """Outcomes since the last call; waits at most `timeout_s` for the first. Returns early
        when a signal arrived or `wake_fd` (given at construction) became readable. Enforces the
        time-out of runs and passes their output on."""

    def revoke(self, older_than_s: float) -> list[Lease]:
        """Leases that wait in a batch for longer than this and now will never be started."""

    def abort(self, ids: Collection[str]) -> None:
        """Kill these runs now (their leases were lost); they come back as ABORTED."""

    def terminate(self) -> None:
        """TERM to every run's process group; what waits in batches comes back as ABORTED."""

    def kill(self) -> None:
        """KILL to every run's process group."""

    def close(self) -> None:
        """End everything that was started, and release files and processes."""


@runtime_checkable
class Inline(Protocol):
    """A crew that runs functions in this very thread, and then can't let it beat."""

    def on_long_run(self, beat: Callable[[], None]) -> None:
        """Call `beat` now and then from another thread while a run takes long."""

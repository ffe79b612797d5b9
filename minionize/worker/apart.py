"""Runs whose programs are no children of the crew's: containers. They are ended by commands."""

from __future__ import annotations

from collections.abc import Sequence

from minionize.contracts.callback import Apart
from minionize.contracts.crew import Outcome, Verdict
from minionize.errors import MinionizeError
from minionize.values import Lease
from minionize.worker.guard import Guard
from minionize.worker.hooks import Hooked

REMOVAL_S = 10.0
"""A removal that takes longer is not waited for: the beat must go on."""
_ENDED = (0, 75)
"""After TERM these are the program's own: it has ended, and its container went with it."""


class ApartRuns:
    """Stands where the hooks of a callback do, before and after each run, and calls them too."""

    def __init__(self, apart: Apart, hooked: Hooked | None, guard: Guard | None) -> None:
        """`apart` knows whose runs these are. `guard` is told how to end them."""
        self._apart = apart
        self._hooked = hooked
        self._fault: MinionizeError | None = None
        self._slow = False
        """A removal did not end in time: no other is waited for."""
        self._doubt = False
        """Something may be left, or come up late."""
        self._open = 0
        """Runs that were begun, and whose end was not seen."""
        if guard is not None:
            guard.arm("", sweeper=apart.sweeper)

    def before(self, lease: Lease) -> None:
        """Raises what a run before has shown to be wrong with the minion itself."""
        if self._fault is not None:
            raise self._fault
        if self._hooked is not None:
            self._hooked.before(lease)
        self._open += 1

    def after(self, outcome: Outcome) -> Outcome:
        """Remove what a killed run left, and judge the rest."""
        self._open -= 1
        try:
            outcome = self._apart.judge(outcome)
        except MinionizeError as fault:
            self._fault = fault
            outcome = outcome._replace(verdict=Verdict.ABORTED, reason=str(fault))
        status = outcome.exit_status
        by_us = outcome.verdict is Verdict.ABORTED or outcome.reason == "timeout"
        if status is None or status < 0 or status == 125 or (by_us and status not in _ENDED):
            self._remove(outcome.slot)
        return outcome if self._hooked is None else self._hooked.after(outcome)

    def _remove(self, slot: int) -> None:
        self._doubt = True
        argv = self._apart.remover(slot)
        if argv and not _done(argv, 0.0 if self._slow else REMOVAL_S):
            self._slow = True

    def close(self) -> None:
        """Remove what is left of all runs. May be repeated."""
        if (self._open or self._doubt) and self._apart.sweeper:
            self._open, self._doubt = 0, False
            _done(self._apart.sweeper, REMOVAL_S)


def _done(argv: Sequence[str], patience_s: float) -> bool:
    """Run a command; whether it ended in time. One that doesn't goes on."""
    import subprocess  # slow, and most minions have no container

    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return False
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.returncode = 0  # nobody waits for it any more
        return False
    return True

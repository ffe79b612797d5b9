"""The hooks of a FuncCallback, which run in the minion, around the run in its child."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minionize.callbacks.func import FuncCallback, overrides_hooks
from minionize.contracts.crew import Outcome, Verdict
from minionize.values import Lease
from minionize.worker.decisions import NEVER_BEGAN
from minionize.worker.functions.results import lost_line, traced


class RunFailed(Exception):
    """What `teardown_ko` gets for a run that failed in another process: reason and detail."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}\n{detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


def before(callback: FuncCallback, lease: Lease, engine: Any) -> Outcome | None:
    """Call `setup`; the outcome if it raised."""
    try:
        callback.setup(lease.param, engine)
    except Exception as error:
        return _failed_by(callback, Outcome(lease, Verdict.FAILED), engine, error)
    return None


def after(
    callback: FuncCallback, outcome: Outcome, engine: Any, error: BaseException | None = None
) -> Outcome:
    """Call the teardown; the outcome, which it may turn into a failure. `error`: what the
    function raised, where it did so in this process."""
    if outcome.verdict is Verdict.DONE:
        try:
            callback.teardown_ok(outcome.lease.param, engine)
        except Exception as second:
            return _failed_by(callback, outcome, engine, second)
        return outcome
    error = error or RunFailed(outcome.reason, outcome.detail)
    return _torn_down(callback, outcome, engine, error)


def _failed_by(callback: FuncCallback, outcome: Outcome, engine: Any, error: Exception) -> Outcome:
    failed = outcome._replace(
        verdict=Verdict.FAILED, reason=type(error).__name__, detail=traced(error), result=None
    )
    return _torn_down(callback, failed, engine, error)


def _torn_down(
    callback: FuncCallback, outcome: Outcome, engine: Any, error: BaseException
) -> Outcome:
    try:
        callback.teardown_ko(outcome.lease.param, engine, error)
    except Exception as second:  # the run failed already: only say so
        return outcome._replace(detail=f"{outcome.detail}\n\nteardown_ko: {traced(second)}")
    return outcome


class Around:
    """What happens in the minion around runs in other processes: hooks, and a word on results
    that are lost."""

    def __init__(self, callback: FuncCallback, engine: Any, lines: Callable[[str], None]) -> None:
        self.hooked = overrides_hooks(callback)
        self._callback = callback
        self._engine = engine
        self._lines = lines
        self._told_lost = False
        self._refused: list[Outcome] = []

    def before(self, lease: Lease) -> bool:
        """Whether it may run; if not, `after` has its outcome."""
        failed = before(self._callback, lease, self._engine) if self.hooked else None
        if failed is not None:
            self._refused.append(failed)
        return failed is None

    def after(self, outcomes: list[Outcome]) -> list[Outcome]:
        """These, as the hooks leave them, and those that were refused."""
        if self.hooked:
            outcomes = [
                outcome
                if outcome.verdict in NEVER_BEGAN
                else after(self._callback, outcome, self._engine)
                for outcome in outcomes
            ]
            outcomes += self._refused
            self._refused = []
        if not self._told_lost:
            for outcome in outcomes:
                if outcome.detail and outcome.verdict is Verdict.DONE:
                    self._told_lost = True
                    self._lines(lost_line(outcome.lease.id, outcome.detail))
                    break
        return outcomes

    @property
    def waiting(self) -> bool:
        """Whether `after` has something to tell of those that were refused."""
        return bool(self._refused)

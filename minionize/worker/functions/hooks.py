"""The hooks of a FuncCallback, which run in the minion, around the run in its child."""

from __future__ import annotations

from typing import Any

from minionize.callbacks.func import FuncCallback
from minionize.contracts.crew import Outcome, Verdict
from minionize.values import Lease
from minionize.worker.functions.results import traced


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

"""The hooks of 0.2.1's callbacks, called around a run in the minion itself."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from minionize.contracts.crew import Outcome, Verdict
from minionize.values import Lease


class Hooked:
    """A callback that overrides some of `setup`, `teardown_ok` and `teardown_ko`."""

    def __init__(self, callback: Any, engine: Any, hooks: Collection[str]) -> None:
        self._callback = callback
        self._engine = engine
        self._hooks = hooks

    def before(self, lease: Lease) -> None:
        """`setup`. What it raises fails the attempt."""
        if "setup" in self._hooks:
            self._callback.setup(lease.param, self._engine)

    def close(self) -> None:
        """Nothing is kept open."""

    def after(self, outcome: Outcome) -> Outcome:
        """`teardown_ok` or `teardown_ko`; what the former raises fails the attempt."""
        if outcome.verdict is Verdict.DONE:
            if "teardown_ok" not in self._hooks:
                return outcome
            try:
                self._callback.teardown_ok(outcome.lease.param, self._engine)
            except Exception as error:
                return _failed(outcome, error)
        elif outcome.verdict is Verdict.FAILED and "teardown_ko" in self._hooks:
            import subprocess

            status = 1 if outcome.exit_status is None else outcome.exit_status
            raised = subprocess.CalledProcessError(status, outcome.reason, stderr=outcome.detail)
            try:
                self._callback.teardown_ko(outcome.lease.param, self._engine, raised)
            except Exception as second:
                return _failed(outcome, second)
        return outcome


def _failed(outcome: Outcome, error: Exception) -> Outcome:
    import traceback

    detail = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return outcome._replace(
        verdict=Verdict.FAILED, reason=type(error).__name__, detail=detail[-4096:]
    )

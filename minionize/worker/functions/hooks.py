"""The hooks of a FuncCallback, which run in the minion, around the run in its child."""

from __future__ import annotations

from typing import Any

from minionize.callbacks.func import FuncCallback, overrides_hooks
from minionize.callbacks.process import HOOKS
from minionize.contracts.crew import Outcome, Verdict
from minionize.values import Lease
from minionize.worker.hooks import Hooked, meant_by


class RunFailed(Exception):
    """What `teardown_ko` gets for a run that failed in another process: reason and detail."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}\n{detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


def _run_failed(outcome: Outcome) -> BaseException:
    return RunFailed(outcome.reason or outcome.verdict.value, outcome.detail)


class Around:
    """What happens in the minion around runs of functions."""

    def __init__(self, callback: FuncCallback, engine: Any) -> None:
        self.hooked = overrides_hooks(callback)
        self._hooks = Hooked(callback, engine, HOOKS, _run_failed)
        self._refused: list[Outcome] = []

    def before(self, lease: Lease) -> bool:
        """Whether it may run; if not, `after` has its outcome."""
        if self.hooked:
            try:
                self._hooks.before(lease)
            except Exception as error:
                self._refused.append(meant_by(error, Outcome(lease, Verdict.FAILED)))
                return False
        return True

    def after(self, outcomes: list[Outcome], error: BaseException | None = None) -> list[Outcome]:
        """These, as the hooks leave them, and those that were refused. `error`: what the one run
        raised, where that was in this process."""
        if self.hooked:
            outcomes = [self._hooks.after(outcome, error) for outcome in outcomes]
            outcomes += self._refused
            self._refused = []
        return outcomes

    @property
    def waiting(self) -> bool:
        """Whether `after` has something to tell of those that were refused."""
        return bool(self._refused)

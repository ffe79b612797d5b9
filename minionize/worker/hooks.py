"""The hooks of 0.2.1's callbacks, called around a run in the minion itself.

One rule, whatever runs: `setup` comes first, and each run that came to an end of its own has one
teardown. `teardown_ok` if it is done; `teardown_ko` if it failed, was rejected, asked for later,
was not started after all, or if `setup` or `teardown_ok` raised, and then it gets what they raised.
A run without a charge (it was stopped, it lost the lease, the machine has no room) has
none: the param is another's now.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from minionize.contracts.crew import Outcome, Verdict
from minionize.errors import Reject, RetryLater
from minionize.values import Lease
from minionize.worker.decisions import NEVER_BEGAN

_MOST_DETAIL = 4096


def process_error(outcome: Outcome) -> BaseException:
    """What `teardown_ko` gets for a program that did not end well."""
    import subprocess

    status = 1 if outcome.exit_status is None else outcome.exit_status
    return subprocess.CalledProcessError(status, outcome.reason, stderr=outcome.detail)


class Hooked:
    """A callback that overrides some of `setup`, `teardown_ok` and `teardown_ko`."""

    def __init__(
        self,
        callback: Any,
        engine: Any,
        hooks: Collection[str],
        raised: Callable[[Outcome], BaseException] = process_error,
    ) -> None:
        """`raised`: what `teardown_ko` gets for a run that was elsewhere."""
        self._callback = callback
        self._engine = engine
        self._hooks = hooks
        self._raised = raised
        self._refused: Lease | None = None
        """The last one whose `setup` raised: it had its teardown."""

    def before(self, lease: Lease) -> None:
        """`setup`. What it raises leaves here, after its teardown."""
        if "setup" not in self._hooks:
            return
        try:
            self._callback.setup(lease.param, self._engine)
        except Exception as error:
            self._refused = lease
            second = self._tear_down(lease, error)
            if second is not None:
                raise error from second
            raise

    def close(self) -> None:
        """Nothing is kept open."""

    def after(self, outcome: Outcome, error: BaseException | None = None) -> Outcome:
        """The teardown; the outcome, which it may turn into another. `error`: what a function
        raised in this process."""
        if outcome.verdict in NEVER_BEGAN or outcome.lease is self._refused:
            return outcome
        if outcome.verdict is Verdict.DONE:
            if "teardown_ok" not in self._hooks:
                return outcome
            try:
                self._callback.teardown_ok(outcome.lease.param, self._engine)
                return outcome
            except Exception as second:
                error = second
                outcome = meant_by(second, outcome)
        if "teardown_ko" in self._hooks:
            third = self._tear_down(outcome.lease, error or self._raised(outcome))
            if third is not None:  # it did not end well already: only say so
                said = f"{outcome.detail}\n\nteardown_ko: {traced(third)}"
                return outcome._replace(detail=said)
        return outcome

    def _tear_down(self, lease: Lease, error: BaseException) -> Exception | None:
        """`teardown_ko`; what it raised."""
        if "teardown_ko" in self._hooks:
            try:
                self._callback.teardown_ko(lease.param, self._engine, error)
            except Exception as second:
                return second
        return None


def meant_by(error: Exception, outcome: Outcome) -> Outcome:
    """The outcome of a run whose hook raised this."""
    verdict, reason, detail = Verdict.FAILED, type(error).__name__, traced(error)
    delay_s = None
    if isinstance(error, Reject):
        verdict, reason, detail = Verdict.REJECTED, str(error.reason)[:1000], ""
    elif isinstance(error, RetryLater):
        verdict, reason, detail, delay_s = Verdict.LATER, "RetryLater", "", error.delay_s
    return outcome._replace(
        verdict=verdict, reason=reason, detail=detail, delay_s=delay_s, result=None
    )


def traced(error: BaseException) -> str:
    """The traceback without our own frame; its end, if it is long."""
    import traceback

    frames = error.__traceback__.tb_next if error.__traceback__ is not None else None
    text = "".join(traceback.format_exception(type(error), error, frames)).rstrip()
    return text if len(text) <= _MOST_DETAIL else "…" + text[-_MOST_DETAIL:]

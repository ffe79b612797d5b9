"""ProcessCallback: a program is started for each param."""

from __future__ import annotations

from typing import Any

from minionize.contracts.callback import Invocation
from minionize.values import Lease, Param, to_text


class ProcessCallback:
    """Starts a program for each param. Override `to_cmd`; the hooks do nothing unless overridden.

    Exit status 0 acks the param, 75 gives it back uncharged, 65 makes a dead letter of it, and
    any other is a failed attempt.
    """

    def to_cmd(self, param: Param) -> str | list[str]:
        """What to start for `param`: a list is an argument vector and meets no shell; a str is
        run by `/bin/sh -c`, so quote what you put into it.

        Raise `Reject` for a param that can never be run; any other exception fails the attempt.
        """
        import shlex  # slow, and most callbacks make a command of their own

        text = param if isinstance(param, str) else to_text(param)
        return f"echo {shlex.quote(text)}"

    def invocation(self, lease: Lease, slot: int) -> Invocation:
        """How the program is started for this lease."""
        command = self.to_cmd(lease.param)
        if isinstance(command, str):
            return Invocation(["/bin/sh", "-c", command])
        argv = [word if isinstance(word, str) else str(word) for word in command]
        if not argv:
            raise ValueError(f"{type(self).__name__}.to_cmd returned no command")
        return Invocation(argv)

    def setup(self, param: Param, engine: Any) -> None:
        """Before the run, in the minion; an exception means what it means in `to_cmd`."""

    def teardown_ok(self, param: Param, engine: Any) -> None:
        """After a run that is done, before its ack; an exception as in `setup`."""

    def teardown_ko(self, param: Param, engine: Any, exception: BaseException) -> None:
        """After any other end of its own: it failed, was rejected, asked for later, or a hook
        raised. Not after a run that the minion stopped."""


HOOKS = ("setup", "teardown_ok", "teardown_ko")


def overridden_hooks(callback: Any) -> frozenset[str]:
    """Which of the hooks this callback brings itself."""
    return frozenset(
        hook
        for hook in HOOKS
        if getattr(type(callback), hook, None) not in (None, getattr(ProcessCallback, hook))
        or hook in getattr(callback, "__dict__", {})
    )

"""The callback contract: what is done with a param.

A callback is a ProcessCallback (a program is started for each param) or a FuncCallback
(a Python function is called in a child process). `minionize.callbacks` has both.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from minionize.contracts.crew import Outcome
from minionize.values import Lease, Param


class Hooks(Protocol):
    """What minionize 0.2.1 called around a run, in the minion itself. Only overridden ones run."""

    def setup(self, param: Param, engine: Any) -> None:
        """Before the run. An exception fails the attempt (Reject, RetryLater: as they say)."""

    def teardown_ok(self, param: Param, engine: Any) -> None:
        """After a run that is done, before its ack. An exception as in `setup`."""

    def teardown_ko(self, param: Param, engine: Any, exception: BaseException) -> None:
        """After any other end of its own, or after what a hook raised."""


_NOTHING: Mapping[str, str] = MappingProxyType({})


class Invocation(NamedTuple):
    """How a program is started for one param."""

    argv: list[str]
    """The argument vector; argv[0] is a path with a slash, or looked up on PATH."""
    chdir: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    """Files for the run's output; they appear whole, at a good end. None: the minion's own."""
    stdin: bytes | None = None
    env: Mapping[str, str] = _NOTHING
    """On top of the minion's own environment and the MINION_ variables."""


class ProgramCallback(Protocol):
    """What the worker needs of a callback that starts programs."""

    def invocation(self, lease: Lease, slot: int) -> Invocation:
        """What to start. Raises Reject for a param that can never be an argument, any other
        exception fails the attempt."""


class Apart(Protocol):
    """What a ProgramCallback has as `apart` if its programs are no children of what the crew
    starts: a container's belong to its runtime. To kill the run's process group is not enough
    then, and its use of CPU and memory tells nothing."""

    sweeper: list[str]
    """Once `joins` was called: a command that ends and removes everything of this minion."""

    def joins(self, minion_id: str, *, scratch: str, checkpoints: str | None) -> None:
        """Before the first run: whose runs these are. `scratch`: the folder that the file with
        a large param is in; `checkpoints`: that of all params' checkpoint folders."""

    def remover(self, slot: int) -> list[str]:
        """A command that ends and removes what the last run of this slot has left."""

    def judge(self, outcome: Outcome) -> Outcome:
        """The outcome with what the runtime itself has to do with it; without `exit_status` if
        the program never ran. MinionizeError where the minion is at fault: then no param is
        charged, and the minion ends."""

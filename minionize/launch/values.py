"""What is launched, what was submitted, and what became of it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True)
class Launch:
    """N minions that run one command on one queue. None: the scheduler's own default.

    Everything is known when it is made: two equal launches render to equal texts.
    """

    minions: int = 1
    """How many at a time; nothing to do with the number of params."""
    queue: str = "file:minion-queue"
    """Its URL as the minions see it; a folder is absolute."""
    command: tuple[str, ...] = ()
    """CMD and its arguments; empty where `minionize_options` has --call."""
    minionize: tuple[str, ...] = ("minionize",)
    """How minionize is started where the minions are."""
    minionize_options: tuple[str, ...] = ()
    """Options of minionize, as on its command line, without the queue."""
    name: str = "minions"
    wall_time_s: float | None = None
    cpus: int | None = None
    """Of each minion, as the next two."""
    memory_mib: int | None = None
    gpus: int | None = None
    workdir: str | None = None
    """Absolute; where minions start, and what relative paths of theirs are relative to. None
    where they don't see this machine's files."""
    folder: str | None = None
    """Absolute; where script and logs go, as far as the scheduler wants files."""
    grace_s: float = 10.0
    """From TERM to KILL when a minion stops (`--grace`)."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Set for the minions, in plain text."""
    secret_env: Mapping[str, str] = field(default_factory=dict)
    """Variable to a reference, never the secret itself: the path of a file that holds it, or
    what the scheduler calls a secret (Kubernetes: `name:key`)."""
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What only one scheduler has: `-O key=value`, each key with all its values in order."""

    @property
    def minionize_argv(self) -> tuple[str, ...]:
        """The whole command line of one minion."""
        end = ("--", *self.command) if self.command else ()
        return (*self.minionize, "--queue", self.queue, *self.minionize_options, *end)


class JobState(str, enum.Enum):
    """Where a minion's job is. The values are the words that people read."""

    PENDING = "pending"
    """Waits for a place (again, if it was requeued)."""
    RUNNING = "running"
    ENDED = "ended"
    """Ended by itself with status 0, or with one that means that it may (75, 99)."""
    FAILED = "failed"
    """Ended with another status, or killed."""
    CANCELLED = "cancelled"
    """By a person or the scheduler, before or while it ran."""
    UNKNOWN = "unknown"
    """Its scheduler can't be asked, does not show it, or has another job under its number; or
    forgot it some time after its end (`Job.gone`)."""

    @property
    def alive(self) -> bool:
        """Whether it is, or will be, at work."""
        return self in (JobState.PENDING, JobState.RUNNING)


FINE = frozenset({0, 75, 99})
"""Exit statuses of minions that ended as they should: nothing left, told to stop, to be started
again."""


class Job(NamedTuple):
    """One minion's job, as its scheduler sees it."""

    id: str
    """As the scheduler's own commands take it."""
    state: JobState
    where: str = ""
    """Its host, node or pod's node, where known."""
    detail: str = ""
    """A word for people: the scheduler's own state, exit status, why it waits."""
    gone: bool = False
    """Of an unknown one: the scheduler that had it was asked, and has it no more. So it ended."""

    @property
    def over(self) -> bool:
        """Whether it has surely ended. One that is only unknown may be at work."""
        return self.gone or not (self.state.alive or self.state is JobState.UNKNOWN)


class LogLine(NamedTuple):
    """A line that a minion wrote."""

    job: str
    """The id of its job."""
    text: str
    """Without its line break; as it was written, so escape it before it is shown."""
    unread: bool = False
    """Not the job's own: the text says which of the job's output can't be read, why, and the
    remedy."""


@dataclass(frozen=True)
class Submitted:
    """What a scheduler was given: enough for any user to find it again."""

    scheduler: str
    job_ids: tuple[str, ...]
    """As the scheduler's commands take them: jobs, arrays, names, process ids."""
    name: str
    queue: str
    minions: int
    """How many jobs were asked for."""
    at: float = 0.0
    """Unix time."""
    user: str = ""
    host: str = ""
    """Where it was submitted."""
    logs: tuple[str, ...] = ()
    """Patterns (as of the shell, absolute) of the files with the minions' output."""
    details: Mapping[str, str] = field(default_factory=dict)
    """What this scheduler's module needs to know again: cluster, namespace."""

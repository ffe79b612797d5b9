"""The launcher contract: what `minion launch` asks of a scheduler's module."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from minionize.launch.values import Job, Launch, LogLine, Submitted
from minionize.settings.parsing import Parse


class Key(NamedTuple):
    """What `-O key=value` understands."""

    help: str
    many: bool = False
    """May be given several times; else the last one counts."""
    parse: Parse = str
    """Reads a value; its ValueError completes "KEY=VALUE: ...". What it returns is not used."""


class Launcher(Protocol):
    """One scheduler. A module with these names is one.

    Errors that escape are MinionizeErrors: UsageError for what can't be asked of it (an unknown
    key, no such command here), LaunchRefused with the scheduler's own words for the rest.
    """

    SHARES_FILES: bool
    """Whether minions see the files of the machine that submits: then queue, working folder and
    minionize itself are named by their absolute paths."""

    KEYS: Mapping[str, Key]
    """The keys of `Launch.options`. Others are refused before any method here is called."""

    def render(self, launch: Launch) -> str:
        """Exactly what would be submitted, as text (a script, a manifest), but for a mark of the
        one launch (in a name, an argument). Deterministic: no time, no random name, no look at
        the machine. UsageError for what can't be said there."""

    def submit(self, launch: Launch) -> Submitted:
        """Submit what `render` shows. All or nothing: what was submitted before a refusal is
        cancelled again. Where no answer comes, a job with our mark is looked for first."""

    def states(self, submitted: Sequence[Submitted]) -> Sequence[Job]:
        """A job for each minion of these launches, asked for in one go as far as possible, since
        it is called every few seconds. Only jobs that are surely of these launches are told of.
        Those that can't be asked for, or may be another's, are UNKNOWN; and `gone` where the
        scheduler that had them has them no more."""

    def states_of_each(self, submitted: Sequence[Submitted]) -> Sequence[Sequence[Job]]:
        """The same, for each of these launches by itself."""

    def logs(self, submitted: Submitted, *, follow: bool) -> Iterator[LogLine]:
        """What the minions wrote, job by job; with `follow` as it comes, until no job is alive.
        What can't be read is a line of its own (`LogLine.unread`), once, and the others go on."""

    def cancel(self, submitted: Submitted) -> int:
        """End all its jobs, with the scheduler's warning where there is one, so that minions give
        back what they hold. Returns how many jobs were told, when the scheduler was asked whether
        that took; LaunchRefused if it did not, and where jobs are left alone since they may be
        another's. May be repeated."""

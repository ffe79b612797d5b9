"""Reporters: where a minion's events go. Each is imported when it is opened."""

from __future__ import annotations

import os.path
from collections.abc import Callable

from minionize.contracts.reporter import Reporter
from minionize.errors import UsageError
from minionize.values import Clock

NAMES = ("null", "json", "stdout")
DEFAULT_FOLDER = "minion-report"


def report_folder(report_dir: str | None, queue_folder: str | None) -> str:
    """Where the report of a queue is: where the settings say, else in the queue's own folder,
    else in `minion-report` in the current folder."""
    if report_dir:
        return os.path.expanduser(report_dir)
    if queue_folder:
        return os.path.join(queue_folder, "report")
    return DEFAULT_FOLDER


def open_reporter(
    name: str,
    *,
    directory: str,
    minion_id: str,
    host: str,
    pid: int,
    slots: int,
    command: str,
    clock: Clock,
    warn: Callable[[str], None],
    write: Callable[[str], None],
) -> Reporter:
    """The reporter of that name.

    `directory`: the report folder (`json` only; made with its first events). `command`: what
    the minion runs, quoted for a shell. `warn` takes a line when events can't be written;
    `write` takes the text of the `stdout` reporter. UsageError for a name that is none.
    """
    if name == "null":
        from minionize.reporters.null import NullReporter

        return NullReporter()
    if name == "json":
        from minionize.reporters.json_lines import JsonReporter
        from minionize.reporters.record import Source

        source = Source(minion_id, host, pid, slots, command, clock.time())
        return JsonReporter(_absolute(directory), source, clock=clock, warn=warn)
    if name == "stdout":
        from minionize.reporters.stdout import StdoutReporter

        return StdoutReporter(minion_id, write, warn)
    raise UsageError(f"unknown reporter '{name}': use one of {', '.join(NAMES)}")


def _absolute(folder: str) -> str:
    """`folder` as it is meant now: what a minion calls may change its current folder."""
    try:
        return os.path.abspath(folder)
    except FileNotFoundError:
        # The current folder was removed: the first write will tell.
        return folder

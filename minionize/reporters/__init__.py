"""Reporters: where a minion's events go. Each is imported when it is opened."""

from __future__ import annotations

import os.path
from collections.abc import Callable
from typing import TYPE_CHECKING

from minionize.contracts.reporter import Reporter
from minionize.errors import UsageError
from minionize.values import Clock

if TYPE_CHECKING:
    from minionize.reporters.remote import Server

NAMES = ("null", "json", "stdout", "redis")
_REMOTE = ("redis://", "rediss://", "unix://")
DEFAULT_FOLDER = "minion-report"


def report_folder(report_dir: str | None, queue_folder: str | None) -> str:
    """Where the report of a queue is: where the settings say, else in the queue's own folder,
    else in `minion-report` in the current folder."""
    if report_dir:
        return os.path.expanduser(report_dir)
    if queue_folder:
        return os.path.join(queue_folder, "report")
    return DEFAULT_FOLDER


def is_remote(name: str) -> bool:
    """Whether the reporter of that name writes to a server: `redis`, or a URL."""
    name = name.strip().lower()
    return name == "redis" or name.startswith(_REMOTE)


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
    server: Callable[[], Server] | None = None,
    scratch: str | None = None,
) -> Reporter:
    """The reporter of that name.

    `directory`: the report folder (`json` only; made with its first events). `command`: what
    the minion runs, quoted for a shell. `warn` takes a line when events can't be written;
    `write` takes the text of the `stdout` reporter. `server` gives that of a reporter that
    `is_remote`. `scratch`: a folder for large results on their way, made when there is one.
    UsageError for a name that is none.
    """
    if name == "null":
        from minionize.reporters.null import NullReporter

        return NullReporter()
    if name == "json":
        from minionize.reporters.json_lines import JsonReporter
        from minionize.reporters.record import Source

        source = Source(minion_id, host, pid, slots, command, clock.time())
        return JsonReporter(_absolute(directory), source, clock=clock, warn=warn)
    if is_remote(name) and server is not None:
        from minionize.reporters.json_lines import LineReporter
        from minionize.reporters.record import Source, header_line
        from minionize.reporters.remote import RemoteStore

        source = Source(minion_id, host, pid, slots, command, clock.time())
        store = RemoteStore(server(), minion_id, header_line(source), clock=clock, scratch=scratch)
        return LineReporter(store, source, clock=clock, warn=warn)
    if name == "stdout":
        from minionize.reporters.stdout import StdoutReporter

        return StdoutReporter(minion_id, write, warn, scratch)
    raise UsageError(
        f"unknown reporter {name.partition('://')[0]!r}: use one of {', '.join(NAMES)}, "
        "or redis://HOST/0?stream=NAME"
    )


def _absolute(folder: str) -> str:
    """`folder` as it is meant now: what a minion calls may change its current folder."""
    try:
        return os.path.abspath(folder)
    except FileNotFoundError:
        # The current folder was removed: the first write will tell.
        return folder

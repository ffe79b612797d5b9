"""Being a minion, whichever parser read the command line: what contradicts itself is told first."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from minionize import settings
from minionize.cli.ending import die_of, one_line, say
from minionize.cli.secrets import warnings
from minionize.errors import UsageError
from minionize.settings import Loaded, Settings
from minionize.worker.collecting import SeldomCollecting

NAME = "minionize"
_SEPARATORS = frozenset({":::", ":::+", "::::", "::::+"})
"""What stands between a command and its arguments in GNU parallel."""


def be_minion(cmd: Sequence[str], given: Mapping[str, Any]) -> int:
    """Run `cmd` on params until it is over; returns the exit status. `given`: settings."""
    loaded = settings.load(given)
    seldom = SeldomCollecting()
    if loaded.settings.inline:
        seldom.restore()
    if cmd and loaded.settings.call and loaded.origins["call"] != "--call":
        # A CMD that is typed counts more than a function that all minions are told of.
        loaded = loaded._replace(settings=loaded.settings._replace(call=None))
    if not cmd and not loaded.settings.call:
        cmd = loaded.command
    try:
        _check(loaded, cmd)
    except UsageError:
        for note in loaded.notes:  # a file that was left out may be why
            _line(note)
        raise
    notes = [*loaded.notes, *warnings(loaded)]
    if not _SEPARATORS.isdisjoint(cmd):
        notes.append(
            "::: of GNU parallel is no syntax here, and goes to CMD as it stands: params come from "
            "a queue or from --from, as in: printf '%s\\n' A B | minionize --from - CMD"
        )
    if settings.shell_between(loaded.settings.env):
        notes.append(
            "a shell stands between the scheduler and this minion, and may keep its signals "
            "to itself: write `exec minionize` in the job's script"
        )
    if not loaded.settings.quiet:
        for note in notes:
            _line(note)
    if loaded.settings.dry_run:
        from minionize.cli.dry_run import dry_run

        return dry_run(loaded.settings, cmd)
    from minionize.assembly import make_minion

    callback = _callback(loaded.settings, cmd)
    summary = make_minion(loaded.settings, callback, lines=_line, terminal=sys.stderr).run()
    if summary.died_of is not None:
        die_of(summary.died_of)
    return summary.exit_status


def _callback(settings: Settings, cmd: Sequence[str]) -> Any:
    if settings.call:
        from minionize.callbacks.func import FuncCallback

        return FuncCallback.from_spec(settings.call)
    from minionize import engines
    from minionize.callbacks.command import CommandCallback

    engines.alone = True
    return CommandCallback(settings, cmd)


def _check(loaded: Loaded, cmd: Sequence[str]) -> None:
    """UsageError for options that contradict each other."""
    told, origins = loaded.settings, loaded.origins
    if told.call and cmd:
        raise UsageError("--call MODULE:FUNCTION takes the place of CMD: give one of them")
    if not told.call and not cmd:
        raise UsageError(
            "there is no CMD to run (nor --call MODULE:FUNCTION, nor `command: CMD` in "
            f"{settings.YAML}): see --help"
        )
    if told.call and loaded.command and origins["call"].startswith(settings.YAML):
        raise UsageError(f"{settings.YAML} sets both call and command: keep one of them")
    if told.from_file and origins["queue"] == "--queue":
        raise UsageError("--from takes the place of a queue: give -q or --from")
    if not told.from_file:
        for field in ("null", "format", "sep", "header", "typed", "skip_bad"):
            if origins[field].startswith("--"):
                raise UsageError(f"{origins[field]} tells how --from is read: give --from FILE")
    if told.image is None:
        for field in ("runtime", "container_options"):
            if origins[field].startswith("--"):
                raise UsageError(f"{origins[field]} tells how containers are run: give --image")
    if told.tty and (told.slots > 1 or told.capture or told.stdout or told.stderr):
        raise UsageError("--tty hands over the one terminal: no -j, --capture, --stdout, --stderr")
    if told.inline and not told.call:
        raise UsageError("--inline is for functions: give --call MODULE:FUNCTION")


def _line(line: str) -> None:
    say(f"{NAME}: {one_line(line)}")

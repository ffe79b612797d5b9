"""The `minionize` command: be a minion."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn

from minionize import settings
from minionize.cli.ending import die_of, finish, one_line, say
from minionize.cli.plain import read
from minionize.errors import UsageError
from minionize.settings import Loaded, Settings
from minionize.worker.collecting import SeldomCollecting

NAME = "minionize"


def main(args: Sequence[str] | None = None) -> NoReturn:
    """The console script."""
    finish(lambda: run(sys.argv[1:] if args is None else args), NAME)


def run(args: Sequence[str]) -> int:
    """Parse `args` and be a minion; returns the exit status. Errors escape."""
    plain = read(args)
    if plain is not None:
        return be_minion(*plain)
    from minionize.cli.usage import command

    status = command.main(list(args), prog_name=NAME, standalone_mode=False)
    return int(status or 0)


def be_minion(cmd: Sequence[str], given: Mapping[str, Any]) -> int:
    """Run `cmd` on params until it is over; returns the exit status. `given`: settings."""
    loaded = settings.load(given)
    seldom = SeldomCollecting()
    if loaded.settings.inline:
        seldom.restore()
    if cmd and loaded.settings.call and loaded.origins["call"] != "--call":
        # A CMD that is typed counts more than a function that all minions are told of.
        loaded = loaded._replace(settings=replace(loaded.settings, call=None))
    _check(loaded, cmd)
    notes = list(loaded.notes)
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
    from minionize.callbacks.command import CommandCallback

    return CommandCallback(settings, cmd)


def _check(loaded: Loaded, cmd: Sequence[str]) -> None:
    """UsageError for options that contradict each other."""
    told, origins = loaded.settings, loaded.origins
    if told.call and cmd:
        raise UsageError("--call MODULE:FUNCTION takes the place of CMD: give one of them")
    if not told.call and not cmd:
        raise UsageError("there is no CMD to run (nor --call MODULE:FUNCTION): see --help")
    if told.from_file and origins["queue"] == "--queue":
        raise UsageError("--from takes the place of a queue: give -q or --from")
    if not told.from_file:
        for field in ("format", "sep", "header", "typed", "skip_bad"):
            if origins[field].startswith("--"):
                raise UsageError(f"{origins[field]} tells how --from is read: give --from FILE")
    if told.tty and (told.slots > 1 or told.capture or told.stdout or told.stderr):
        raise UsageError("--tty hands over the one terminal: no -j, --capture, --stdout, --stderr")
    if told.inline and not told.call:
        raise UsageError("--inline is for functions: give --call MODULE:FUNCTION")


def _line(line: str) -> None:
    say(f"{NAME}: {one_line(line)}")


if __name__ == "__main__":
    main()

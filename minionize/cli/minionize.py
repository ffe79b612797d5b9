"""The `minionize` command: be a minion."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

import click

from minionize import settings
from minionize.cli.ending import die_of, finish, one_line, say
from minionize.cli.options import SettingsCommand, click_options
from minionize.errors import UsageError
from minionize.settings import Loaded, Settings

NAME = "minionize"

BEFORE = """
Run CMD on each param of a queue, until all of them are done or dead.

  seq 10 | minionize --from - echo hello      these params, no queue
  minion feed params.csv                      fill the queue minion-queue, then
  minionize ./a.out --lr {lr} {seed}          run this here and elsewhere

A param is appended to CMD, or takes the place of the names in it: {} {name}
{name.sub} {name[0]} {[0]} {id} {attempt} {slot}, and for strings {.} {/} {//}
{/.} as in GNU parallel; {{name}} prints {name}. No shell is involved. Options
of minionize stand before CMD. TIME is 90, 10m, 2h or 1:30:00.
"""

AFTER = """
Settings come from the command line, the environment [VARIABLE], .env and
.minionize.yml in the current folder; `minion config` shows which.

CMD says by its exit status what becomes of the param: 0 done, 75 give it
back, 65 dead; others are failed attempts.

Exit status: 0 reached what it waited for; 1 drained, with dead params; 2 usage
or no such queue; 69 queue not reachable; 70 too many failures in a row; 75 told
to stop while params remained; 126, 127 CMD can't be executed, is not found.
"""


def main(args: Sequence[str] | None = None) -> NoReturn:
    """The console script."""
    finish(lambda: run(sys.argv[1:] if args is None else args), NAME)


def run(args: Sequence[str]) -> int:
    """Parse `args` and be a minion; returns the exit status. Errors escape."""
    status = command.main(list(args), prog_name=NAME, standalone_mode=False)
    return int(status or 0)


def _minionize(cmd: tuple[str, ...], **given: Any) -> int:
    loaded = settings.load(given)
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


def _version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"{NAME} {version('minionize')}")
        ctx.exit()


def make_command(name: str = NAME) -> click.Command:
    """The command, also for `minion run`."""
    return SettingsCommand(
        name,
        callback=_minionize,
        params=[
            *click_options(),
            click.Option(
                ["--version"],
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=_version,
                help="Show the version.",
            ),
            click.Argument(["cmd"], nargs=-1, type=click.UNPROCESSED, metavar="CMD [ARGS]..."),
        ],
        short_help="Be a minion: run CMD on each param of the queue.",
        before=BEFORE,
        after=AFTER,
        # What follows CMD is CMD's own.
        context_settings={"allow_interspersed_args": False, "help_option_names": ["-h", "--help"]},
    )


command = make_command()

if __name__ == "__main__":
    main()

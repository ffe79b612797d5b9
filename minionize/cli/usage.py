"""The `minionize` command as click knows it: what it understands, and what --help says."""

from __future__ import annotations

from typing import Any

import click

from minionize.cli.being import NAME, be_minion
from minionize.cli.options import SettingsCommand, click_options
from minionize.cli.version import version_option

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


def _minionize(cmd: tuple[str, ...], **given: Any) -> int:
    return be_minion(cmd, given)


def make_command(name: str = NAME) -> click.Command:
    """The command, also for `minion run`."""
    return SettingsCommand(
        name,
        callback=_minionize,
        params=[
            *click_options(),
            version_option(NAME),
            click.Argument(["cmd"], nargs=-1, type=click.UNPROCESSED, metavar="CMD [ARGS]..."),
        ],
        short_help="Be a minion: run CMD on each param of the queue.",
        before=BEFORE,
        after=AFTER,
        # What follows CMD is CMD's own.
        context_settings={"allow_interspersed_args": False, "help_option_names": ["-h", "--help"]},
    )


command = make_command()

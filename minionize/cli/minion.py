"""The `minion` command: what people do with a queue. Each part is imported when it is used."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple, NoReturn, cast

import click

from minionize import engines
from minionize.cli import clicked
from minionize.cli.ending import finish
from minionize.cli.version import version_option
from minionize.nearest import nearest

NAME = "minion"
STATUS_NAME = "minion-status"


class Part(NamedTuple):
    """Where a command lives, and what the overview says of it."""

    module: str
    attribute: str
    help: str


PARTS = {
    "feed": Part("feed", "feed", "Put params into the queue: files, pipes, grids."),
    "run": Part("usage", "command", "Be a minion (the same as minionize)."),
    "status": Part("status", "status", "What waits, runs, is done and dead; rate, minions."),
    "list": Part("look", "list_", "The params, by state."),
    "show": Part("look", "show", "One param: its attempts, hosts, output."),
    "results": Part("look", "results", "A row for each param that is done: csv or jsonl."),
    "failures": Part("look", "failures", "What failed, grouped by reason."),
    "retry": Part("steer", "retry", "Put dead letters back to work."),
    "pause": Part("steer", "pause", "No minion takes params until resume."),
    "resume": Part("steer", "resume", "End a pause."),
    "stop": Part("steer", "stop", "Tell the minions at work to stop."),
    "wait": Part("steer", "wait", "Wait until the queue is drained."),
    "purge": Part("steer", "purge", "Drop params."),
    "cp": Part("cp", "cp", "Copy what waits from one queue to another."),
    "config": Part("config", "config", "Each setting, and where it came from."),
    "launch": Part("launch", "launch", "Start minions here, or with OAR, Slurm, Kubernetes."),
    "jobs": Part("jobs", "jobs", "The launches on this queue, and their minions."),
    "logs": Part("jobs", "logs", "What launched minions wrote."),
    "cancel": Part("jobs", "cancel", "End launched minions."),
    "doctor": Part("doctor", "doctor", "Can this folder serve as a queue, from here?"),
}

HELP = """Fill, watch and steer a queue of params. `minionize CMD` works on it.

\b
  minion feed params.csv
  minionize ./a.out --lr {lr} {seed}
  minion status
"""


class LazyGroup(click.Group):
    """A group that imports a command's module only when that command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the overview."""
        return list(PARTS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        return _command(cmd_name) if cmd_name in PARTS else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, and names the nearest command for a misspelt one."""
        if args and args[0] not in PARTS and not args[0].startswith("-"):
            near = nearest(args[0], PARTS)
            ctx.fail(f"no command {args[0]!r}" + (f", did you mean {near!r}?" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The overview, without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, part.help) for name, part in PARTS.items()])


def main(args: Sequence[str] | None = None) -> NoReturn:
    """The console script `minion`."""
    given = list(sys.argv[1:] if args is None else args)
    name = f"{NAME} {given[0]}" if given and given[0] in PARTS else NAME
    finish(lambda: _run(group, given, NAME), name)


def status_main(args: Sequence[str] | None = None) -> NoReturn:
    """The console script `minion-status`, the same as `minion status`."""
    given = list(sys.argv[1:] if args is None else args)
    finish(lambda: _run(_command("status"), given, STATUS_NAME), STATUS_NAME)


def _run(command: click.Command, args: list[str], name: str) -> int:
    if not args and command is group:
        args = ["--help"]
    return clicked.run(command, args, name)


def _command(name: str) -> click.Command:
    part = PARTS[name]
    engines.alone = name != "run"  # which finds out what it runs
    module = import_module(f"minionize.cli.{part.module}")
    return cast(click.Command, getattr(module, part.attribute))


group = LazyGroup(
    NAME,
    help=HELP,
    params=[version_option(NAME)],
    context_settings={"help_option_names": ["-h", "--help"]},
)

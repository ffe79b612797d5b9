"""`minion launch SCHEDULER`: start minions where the machines are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from minionize.cli import launch_section
from minionize.cli.ending import one_line, say
from minionize.cli.options import click_options, write_options
from minionize.cli.scheduler import scheduler_for
from minionize.errors import UsageError
from minionize.launch.contract import Launcher
from minionize.launch.registry import SCHEDULERS, launcher
from minionize.settings import load_launch
from minionize.settings.table import OPTIONS, Option

NAME = "minion launch"
_HELP = frozenset({"-h", "--help"})

HELP = """Start minions with the scheduler that is there; all options of minionize are passed on.

\b
  minion launch local -n 8 -- ./a.out --lr {lr}
  minion launch slurm -n 50 --wall-time 2h --cpus 4 -j auto -- ./a.out --lr {lr}
  minion launch oar -n 50 --wall-time 2h --resubmit -- ./a.out --lr {lr}
  minion launch kubernetes -n 50 -O image=me/a -q redis://redis -- ./a.out --lr {lr}

`minion jobs` shows what became of them, `minion logs` what they print, `minion cancel` ends them.
"""

BEFORE = {
    "local": "Start N minions on this machine. Ctrl-C stops them gently, a second one at once.",
}

NOT_PASSED_ON = frozenset(
    {"wait", "dry_run", "tty", "from_file", "null", "format", "sep", "header", "typed", "skip_bad"}
)
"""Settings of a minion that is started by hand: launch has its own --wait and --dry-run, and
minions that are launched share a queue."""

OURS: list[click.Parameter] = [
    click.Option(["-n", "--minions"], default="1", metavar="N",
                 help="So many minions at a time; nothing to do with how many params. [1]"),
    click.Option(["--wall-time"], metavar="TIME",
                 help="What each asks for at most (90, 10m, 2h, 1:30:00)."),
    click.Option(["--cpus"], metavar="N", help="CPUs of each."),
    click.Option(["--memory"], metavar="SIZE", help="Memory of each: 500M, 4G."),
    click.Option(["--gpus"], metavar="N", help="GPUs of each."),
    click.Option(["--name"], default="minions", metavar="NAME", help="Of the jobs. [minions]"),
    click.Option(["-O", "options"], multiple=True, metavar="KEY=VALUE",
                 help="What only this scheduler has, see below."),
    click.Option(["--env"], multiple=True, metavar="NAME[=VALUE]",
                 help="Set this variable for the minions; without a value as it is here."),
    click.Option(["--secret-env"], multiple=True, metavar="NAME=REF",
                 help="The same, from a secret: a file that minions can read (Kubernetes: "
                 "NAME:KEY). The script has only the reference."),
    click.Option(["--minion-queue"], metavar="URL",
                 help="The queue's address as the minions see it, where that is another one."),
    click.Option(["--minionize"], metavar="CMD",
                 help="How minionize is started there. [as here]"),
    click.Option(["--dry-run"], is_flag=True, help="Print exactly what would be submitted."),
    click.Option(["--wait"], is_flag=True,
                 help="Stay and show how it goes until the queue is drained; exit status as of "
                 "minion wait."),
    click.Option(["--resubmit"], is_flag=True,
                 help="Stay as with --wait, and keep N minions alive while work remains."),
]  # fmt: skip

_TAKEN = {flag for param in OURS for flag in param.opts}
PASSED_ON: tuple[Option, ...] = tuple(
    option for option in OPTIONS
    if option.field not in NOT_PASSED_ON and option.flag not in _TAKEN
)  # fmt: skip


def params() -> list[click.Parameter]:
    """The options of `minion launch SCHEDULER`, for whichever."""
    return [*OURS, *click_options(PASSED_ON)]


def check_sections(schedulers: Iterable[str]) -> None:
    """UsageError for what stands in a launch section of `.minionize.yml`, and can't be launched."""
    for name in schedulers:
        launch_section.defaults(name, params(), launcher(name).KEYS)


class LaunchCommand(click.Command):
    """`minion launch SCHEDULER`, with the scheduler's own keys in its help."""

    scheduler: Launcher

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Ours, the scheduler's, and those of minionize by section."""
        rows = [record for param in OURS if (record := param.get_help_record(ctx))]
        with formatter.section("Launch"):
            formatter.write_dl(rows, col_max=26)
        keys = [(f"-O {key}=", text.help) for key, text in self.scheduler.KEYS.items()]
        if keys:
            with formatter.section(f"Only {self.name}"):
                formatter.write_dl(keys, col_max=26)
        write_options(formatter, PASSED_ON)

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """What the launch section of `.minionize.yml` says stands where nothing is given."""
        try:
            extra["default_map"] = launch_section.defaults(
                str(self.name), self.params, self.scheduler.KEYS
            )
        except UsageError:
            # Where --help is asked for, this prints it and ends.
            super().make_context(info_name, [*args], parent, **extra)
            raise
        return super().make_context(info_name, args, parent, **extra)


class LaunchGroup(click.Group):
    """A command for each scheduler, made when it is used."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Without a scheduler, that of `.minionize.yml`."""
        if (not args or args[0].startswith("-")) and not _HELP & set(args[:1]):
            try:
                section = load_launch()
            except UsageError:
                if not _HELP & set(args):
                    raise
                return super().parse_args(ctx, ["--help"])
            assert section is not None
            args = [section.scheduler, *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The schedulers."""
        return list(SCHEDULERS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of one."""
        module = launcher(cmd_name)  # UsageError, with the nearest name
        command = LaunchCommand(
            cmd_name,
            callback=lambda cmd, **given: _launch(cmd_name, cmd, given),
            params=[
                *params(),
                click.Argument(["cmd"], nargs=-1, type=click.UNPROCESSED, metavar="CMD [ARGS]..."),
            ],
            help=BEFORE.get(cmd_name, f"Start minions: {SCHEDULERS[cmd_name]}."),
            context_settings={
                "allow_interspersed_args": False,
                "help_option_names": ["-h", "--help"],
            },
        )
        command.scheduler = module
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The schedulers, without importing any of them."""
        with formatter.section("Schedulers"):
            formatter.write_dl(list(SCHEDULERS.items()))


def _launch(scheduler: str, cmd: tuple[str, ...], given: dict[str, Any]) -> int:
    from minionize.cli import launch_plan

    ours = {name: given.pop(name) for name in [str(param.name) for param in OURS]}
    module = scheduler_for(NAME, scheduler)
    plan = launch_plan.plan(scheduler, module, cmd, given, ours)
    for note in plan.notes:
        say(f"{NAME}: {one_line(note)}")
    if ours["dry_run"]:
        click.echo(module.render(plan.launch), nl=False)
        return 0
    if scheduler == "local":
        from minionize.cli.launch_local import run_here

        return run_here(plan, resubmit=ours["resubmit"])
    from minionize.cli.launch_follow import follow, submit

    records = submit(plan, module)
    if ours["wait"] or ours["resubmit"]:
        return follow(plan, module, records, resubmit=ours["resubmit"])
    return 0


launch = LaunchGroup(
    "launch",
    help=HELP,
    short_help="Start minions: local, oar, slurm, kubernetes.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

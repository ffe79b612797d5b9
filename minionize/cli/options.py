"""click options from the table of settings, and a --help that groups them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from minionize.cli.plain import GATHERED, LISTED
from minionize.settings.table import OPTIONS, SECTIONS, Option


def click_options(options: Iterable[Option] = OPTIONS) -> list[click.Parameter]:
    """An option for each setting. Their values stay text (None: not given): what they mean is
    decided by `settings.load`, for every source alike."""
    return [_option(option) for option in options]


def _option(option: Option) -> click.Option:
    if not option.metavar:
        # Both ways round, so that a variable can be overruled.
        names = [f"--{option.key}/--no-{option.key}", option.field]
        return click.Option([option.short, *names] if option.short else names, default=None)
    names = [option.flag, option.field]
    if option.short:
        names.insert(0, option.short)
    if option.field in GATHERED:
        return click.Option(names, multiple=True, metavar=option.metavar, callback=_joined)
    if option.field in LISTED:
        return click.Option(names, multiple=True, metavar=option.metavar, callback=_listed)
    return click.Option(names, default=None, metavar=option.metavar)


def _joined(_ctx: click.Context, _param: click.Parameter, given: tuple[str, ...]) -> str | None:
    return ",".join(given) or None


def _listed(
    _ctx: click.Context, _param: click.Parameter, given: tuple[str, ...]
) -> list[str] | None:
    return list(given) or None


def write_options(formatter: click.HelpFormatter, options: Iterable[Option] = OPTIONS) -> None:
    """The options by section, each with its variable, as --help shows them."""
    options = list(options)
    for section in SECTIONS:
        rows = [(_usage(option), _help(option)) for option in options if option.section == section]
        if rows:
            with formatter.section(section):
                formatter.write_dl(rows, col_max=24)


def _usage(option: Option) -> str:
    names = f"{option.short}, {option.flag}" if option.short else option.flag
    return f"{names} {option.metavar}".rstrip()


def _help(option: Option) -> str:
    variable = option.variable
    if option.flag.startswith("--no-"):
        variable += "=0"
    elif not option.metavar:
        variable += "=1"
    default = f"; default {option.default}" if option.default else ""
    return f"{option.help} [{variable}{default}]"


class SettingsCommand(click.Command):
    """A command whose options are settings, with text before and after them in its help."""

    def __init__(self, *args: Any, before: str = "", after: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.before = before
        self.after = after

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Usage, text, options by section, text."""
        self.format_usage(ctx, formatter)
        formatter.write_paragraph()
        _write_block(formatter, self.before)
        write_options(formatter)
        with formatter.section("Other"):
            formatter.write_dl([("--version", "Show the version"), ("-h, --help", "Show this")])
        formatter.write_paragraph()
        _write_block(formatter, self.after)


def _write_block(formatter: click.HelpFormatter, text: str) -> None:
    formatter.write("".join(f"{line}\n" for line in text.strip("\n").splitlines()))

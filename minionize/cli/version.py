"""The --version option of the commands."""

from __future__ import annotations

import click


def version_option(name: str) -> click.Option:
    """Prints `NAME VERSION` and ends."""

    def show(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
        if wanted and not ctx.resilient_parsing:
            from importlib.metadata import version  # slow to import, and rarely asked for

            click.echo(f"{name} {version('minionize')}")
            ctx.exit()

    return click.Option(
        ["--version"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=show,
        help="Show the version.",
    )

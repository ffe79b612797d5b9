"""Runs a command of click, and leaves its errors to us.

click's own `main` makes an exit with status 1 of a pipe that nobody reads, which for us means
something else.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import click


def run(command: click.Command, args: Sequence[str], name: str) -> int:
    """Run `command`, called `name`, with `args`; returns its exit status. Errors escape."""
    variable = f"_{name.replace('-', '_').upper()}_COMPLETE"
    asked = os.environ.get(variable)
    if asked:
        from click.shell_completion import shell_complete

        return shell_complete(command, {}, name, variable, asked)
    try:
        with command.make_context(name, list(args)) as context:
            status = command.invoke(context)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except EOFError:
        raise click.Abort from None
    return status if isinstance(status, int) else 0

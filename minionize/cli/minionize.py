"""The `minionize` command: be a minion."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

from minionize.cli.being import NAME, be_minion
from minionize.cli.ending import finish
from minionize.cli.plain import read


def main(args: Sequence[str] | None = None) -> NoReturn:
    """The console script."""
    typed = args is None
    finish(
        lambda: run(sys.argv[1:] if args is None else args),
        NAME,
        quickly=lambda: typed and _is_alone(),
    )


def _is_alone() -> bool:
    """Whether no function of a user's ran in this process: what such libraries left open is
    only written when the interpreter ends in order."""
    return "minionize.worker.functions.inline" not in sys.modules


def run(args: Sequence[str]) -> int:
    """Parse `args` and be a minion; returns the exit status. Errors escape."""
    plain = read(args)
    if plain is not None:
        return be_minion(*plain)
    from minionize.cli import clicked
    from minionize.cli.usage import command

    return clicked.run(command, args, NAME)


if __name__ == "__main__":
    main()

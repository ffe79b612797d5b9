"""Reads a command line as click would, without click, whose import takes a fifth of a start.

Only what is plainly right is read here. Everything else (--help, an unknown option, a missing
value) is left to click, which has the words for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minionize.settings.table import OPTIONS

GATHERED = frozenset({"on_exit"})
"""Settings that may be given several times; each adds to the others."""
LISTED = frozenset({"container_options"})
"""The same, where each stays whole: any character may be in it."""


def read(args: Sequence[str]) -> tuple[tuple[str, ...], dict[str, Any]] | None:
    """CMD with its arguments, and the settings that were given; None: ask click."""
    if not args:
        return None
    switches: dict[str, tuple[str, bool]] = {}
    valued: dict[str, str] = {}
    for option in OPTIONS:
        if option.metavar:
            valued[option.flag] = option.field
            if option.short:
                valued[option.short] = option.field
        else:
            switches["--" + option.key] = (option.field, True)
            switches["--no-" + option.key] = (option.field, False)
            if option.short:
                switches[option.short] = (option.field, True)
    given: dict[str, Any] = {}
    at = 0
    while at < len(args):
        arg = args[at]
        if not arg.startswith("-") or arg == "-":
            break
        at += 1
        if arg == "--":
            break
        if arg in switches:
            field, yes = switches[arg]
            given[field] = yes
            continue
        if arg.startswith("--"):
            name, attached, value = arg.partition("=")
        else:
            name, value = arg[:2], arg[2:]
            attached = value
        if name not in valued:
            return None
        if not attached:
            if at == len(args):
                return None
            value = args[at]
            at += 1
        field = valued[name]
        if field in LISTED:
            given[field] = [*given.get(field, ()), value]
        elif field in GATHERED and field in given:
            given[field] = f"{given[field]},{value}"
        else:
            given[field] = value
    return tuple(args[at:]), given

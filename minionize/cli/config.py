"""`minion config`: each setting, and where it came from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from minionize import settings
from minionize.callbacks.quoting import command_line
from minionize.cli import secrets
from minionize.cli.ending import one_line, say
from minionize.cli.options import click_options
from minionize.settings.table import BY_FIELD


def rows(loaded: settings.Loaded) -> dict[str, dict[str, Any]]:
    """Each setting by name, with its value, where that came from, and its variable."""
    names = {**{field: option.key for field, option in BY_FIELD.items()}, "deadline": "deadline"}
    variables = {field: option.variable for field, option in BY_FIELD.items()}
    found = {
        name: {
            "value": _open(getattr(loaded.settings, field)),
            "origin": loaded.origins.get(field, "default"),
            "variable": variables.get(field, "MINION_DEADLINE"),
        }
        for field, name in names.items()
    }
    return {**found, **_of_the_project(loaded)}


def _of_the_project(loaded: settings.Loaded) -> dict[str, dict[str, Any]]:
    """What only `.minionize.yml` can say: the command, and how minions are launched."""
    found: dict[str, tuple[Any, str]] = {
        "command": (list(loaded.command), loaded.origins.get("command", "default"))
    }
    for scheduler, section in loaded.project.launch.items():
        for key, value in section.items():
            name = f"launch.{scheduler}.{key}"
            found[name] = (value, f"{settings.YAML}: {name}")
    return {
        name: {"value": value, "origin": origin, "variable": None}
        for name, (value, origin) in found.items()
    }


def _open(value: Any) -> Any:
    """`value` for all to see, and for JSON."""
    if isinstance(value, Mapping):
        return dict(value)
    return secrets.shown(value) if isinstance(value, str) else value


def _config(as_json: bool, **given: Any) -> int:
    loaded = settings.load(given, exporting=False)
    for note in (*loaded.notes, *secrets.warnings(loaded)):
        say(f"minion config: {one_line(note)}")
    if loaded.project.launch:
        from minionize.cli.launch import check_sections

        check_sections(loaded.project.launch)
    found = rows(loaded)
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return 0
    shown = {name: _shown(row["value"]) for name, row in found.items()}
    wide = max(map(len, shown)), max(map(len, shown.values()))
    for name, row in found.items():
        click.echo(f"{name:<{wide[0]}}  {shown[name]:<{wide[1]}}  {row['origin']}")
    return 0


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return command_line(value) or "-"
    if isinstance(value, dict):
        return ",".join(f"{key}={end}" for key, end in sorted(value.items()))
    if isinstance(value, float):
        return f"{value:.15g}"
    return one_line(str(value))


config = click.Command(
    "config",
    callback=_config,
    params=[
        click.Option(["--json", "as_json"], is_flag=True, help="Print it as JSON."),
        *click_options(),
    ],
    short_help="Each setting and where it came from.",
    help="Each setting of a minion started here, and where it came from: an option given to "
    "this command as it would be to minionize, the environment, .env, .minionize.yml, or the "
    "default. Times are in seconds.",
)

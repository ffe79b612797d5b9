"""Gathers settings: what was given, the environment, `.env`, `.minionize.yml`, defaults."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from minionize.errors import UsageError
from minionize.nearest import nearest
from minionize.settings import machine, parsing
from minionize.settings.project import DOTENV, YAML, Project, meant, read_project
from minionize.settings.table import BY_FIELD, BY_KEY, BY_VARIABLE, OPTIONS, OTHER_VARIABLES, Option
from minionize.settings.value import Settings

_PREFIX = "MINION_"
_RETRIES = "retries"
"""In `.minionize.yml`: one less than `max-attempts`."""


class Loaded(NamedTuple):
    """Settings, and what is worth telling about them."""

    settings: Settings
    origins: dict[str, str]
    """Field of Settings to who said so: `--slots`, `MINION_SLOTS`, `.env: MINION_SLOTS`,
    `.minionize.yml: slots`, `default`."""
    notes: tuple[str, ...]
    """Lines for the person: misspelt variables, a queue that was found."""
    command: tuple[str, ...] = ()
    """CMD with its arguments, as `command` in `.minionize.yml` has it; empty where it has none.
    A CMD that is typed, or a function, counts more."""
    project: Project = Project()
    """`.minionize.yml`, for those who launch minions."""


def load(
    given: Mapping[str, Any] | None = None, *, feeding: bool = False, exporting: bool = True
) -> Loaded:
    """The settings of this process. UsageError names the setting that can't be used.

    `given` maps fields of Settings (or option names as `timeout`, `max-time`) to text or
    values; None means not given. `.env` of the current folder goes into `os.environ`, where
    it never replaces anything; what can't be used of it is left out, and a note says so.
    `feeding`: the default queue is one to be filled, so no sweep that happens to stand here takes
    its place. `exporting`: what `.env` sets is for the programs that this process starts, too;
    otherwise only what minionize itself understands is taken, and only by it.
    """
    from_dotenv: Mapping[str, int] = {}
    left_out: tuple[str, ...] = ()
    kept: Mapping[str, str] = {}
    if os.path.lexists(DOTENV):
        # Not needed where there is no file, as for most minions: they start sooner.
        from minionize.settings.dotenv_file import load_dotenv

        from_dotenv, left_out, kept = load_dotenv(exporting=exporting)
    env = {**environment(), **kept}
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    notes = list(left_out)
    for name, note in misspelt(env):
        line = from_dotenv.get(name)
        notes.append(note if line is None else f"{DOTENV}, line {line}: {note}")

    for name, value in (given or {}).items():
        if value is not None:
            option = BY_FIELD.get(name) or BY_KEY.get(name.replace("_", "-"))
            if option is None:
                near = meant(name, BY_FIELD, "minionize --help has those that there are")
                raise UsageError(f"no setting is called {name!r}: {near}")
            values[option.field] = _parsed(option, value, option.flag)
            origins[option.field] = option.flag
    for variable, option in BY_VARIABLE.items():
        text = env.get(variable)
        if text and option.field not in values:
            origin = f"{DOTENV}: {variable}" if variable in from_dotenv else variable
            values[option.field] = _parsed(option, text, origin)
            origins[option.field] = origin
    engine = env.get("MINION_ENGINE")
    if engine and "queue" not in values:
        origin = f"{DOTENV}: MINION_ENGINE" if "MINION_ENGINE" in from_dotenv else "MINION_ENGINE"
        values["queue"], origins["queue"] = queue_of_engine(engine, env), origin
    project = read_project()
    notes += project.notes
    for field, (value, origin) in _of_project(project).items():
        if field not in values:
            values[field], origins[field] = value, origin

    if origins.get("queue") == "--queue" and origins.get("from_file") != "--from":
        # What is said here counts more than what is said to all minions.
        values.pop("from_file", None)
        origins.pop("from_file", None)
    if "queue" not in values and not feeding and (sweep := _sweep_here(env)):
        values["queue"], origins["queue"] = f"execo:{sweep}", "found here"
        if "from_file" not in values:
            notes.append(
                f"there is no minion-queue here, but a sweep in {sweep}: "
                f"using it, as -q execo:{sweep} would"
            )
    if values.get("slots") == "auto":
        values["slots"] = machine.cpus(env)
        origins["slots"] += " (auto)"
    if found := machine.deadline(env, time.time()):
        values["deadline"], origins["deadline"] = found
    for option in OPTIONS:
        origins.setdefault(option.field, "default")
    settings = Settings(**values, env=env)
    command = project.words(settings.shell)
    if command:
        origins["command"] = f"{YAML}: command"
    return Loaded(settings, origins, tuple(notes), command, project)


def queue_of_engine(engine: str, env: Mapping[str, str]) -> str:
    """The queue that MINION_ENGINE stands for, with the engine's own variables."""
    name = engine.strip().lower()
    if name == "execo":
        return f"execo:{_sweeps_folder(env)}"
    if name == "file":
        return Settings().queue
    from minionize.settings import brokers  # a queue in a folder starts without it

    if name == "redis":
        return brokers.redis_queue(env)
    if name == "pulsar":
        return brokers.pulsar_queue(env)
    if name in ("google", "pubsub"):
        return brokers.google_queue(env)
    raise UsageError(
        f"MINION_ENGINE={engine} is none of {', '.join(brokers.ENGINES)}: "
        "set MINION_QUEUE to the queue's URL"
    )


def environment() -> dict[str, str]:
    """The environment of this process, as far as another can be started with it: a shell's `env`
    passes variables on that have no name, and Python refuses to."""
    return {name: value for name, value in os.environ.items() if name}


def left_out() -> str:
    """A line for what `environment` left out; empty for nothing."""
    if "" not in os.environ:
        return ""
    return (
        "a variable without a name is in the environment, and programs do not get it: mend what "
        "sets it (a line =VALUE lacks the name)"
    )


def misspelt(names: Iterable[str]) -> Iterable[tuple[str, str]]:
    """Each MINION_ variable that means nothing, and a line with one that is near and does."""
    known = {*BY_VARIABLE, *OTHER_VARIABLES}
    for name in sorted(names):
        if not name.startswith(_PREFIX) or name in known:
            continue
        # What all of them have in common makes none of them near.
        ends = {each.removeprefix(_PREFIX): each for each in sorted(known)}
        end = nearest(name.removeprefix(_PREFIX), ends)
        remedy = f"did you mean {ends[end]}?" if end else "minionize --help has those that do"
        yield name, f"{name} means nothing: {remedy}"


def _parsed(option: Option, value: Any, origin: str) -> Any:
    try:
        return option.parse(value)
    except ValueError as error:
        raise UsageError(f"{origin}: {error}") from None


def _sweeps_folder(env: Mapping[str, str]) -> str:
    return env.get("EXECO_PERSISTENCE_DIR") or "sweeps"


def _sweep_here(env: Mapping[str, str]) -> str | None:
    """The folder of an execo sweep that stands here where a queue of our own doesn't."""
    folder = _sweeps_folder(env)
    if os.path.exists("minion-queue") or not os.path.isfile(os.path.join(folder, "sweeps")):
        return None
    return folder


def _of_project(project: Project) -> dict[str, tuple[Any, str]]:
    """Field of Settings to the value that the project's file gives it, and its origin."""
    found: dict[str, tuple[Any, str]] = {}
    for key, told in project.settings.items():
        name = key if isinstance(key, str) else type(key).__name__
        retries = name == _RETRIES
        option = BY_FIELD["max_attempts"] if retries else BY_KEY.get(name.replace("_", "-"))
        option = option or BY_FIELD.get(name)
        if option is None:
            known = [*BY_KEY, _RETRIES, "command", "launch"]
            near = meant(name, known, "minionize --help has those that there are")
            raise UsageError(f"{YAML} sets {name!r}, no setting: {near}")
        if told is None:
            continue
        origin = f"{YAML}: {name}"
        if option.field in found:
            raise UsageError(f"{origin} says the same as {found[option.field][1]}: keep one")
        flat = [*told, *told.values()] if isinstance(told, dict) else [told]
        if not all(isinstance(each, str) for each in flat) or (
            isinstance(told, dict) and option.field != "on_exit"
        ):
            raise UsageError(f"{origin} holds more than one value: write one")
        found[option.field] = (_retries(told) if retries else _parsed(option, told, origin)), origin
    return found


def _retries(told: str) -> int:
    """As people count them: the first attempt is no retry."""
    try:
        return int(parsing.whole_from(0)(told)) + 1
    except ValueError as error:
        raise UsageError(f"{YAML}: {_RETRIES}: {error}") from None

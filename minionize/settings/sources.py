"""Gathers settings: what was given, the environment, `.env`, `.minionize.yml`, defaults."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from minionize.errors import UsageError
from minionize.settings import machine
from minionize.settings.table import BY_FIELD, BY_KEY, BY_VARIABLE, OPTIONS, OTHER_VARIABLES, Option
from minionize.settings.value import Settings

DOTENV = ".env"
YAML = ".minionize.yml"


class Loaded(NamedTuple):
    """Settings, and what is worth telling about them."""

    settings: Settings
    origins: dict[str, str]
    """Field of Settings to who said so: `--slots`, `MINION_SLOTS`, `.env: MINION_SLOTS`,
    `.minionize.yml: slots`, `default`."""
    notes: tuple[str, ...]
    """Lines for the person: misspelt variables, a queue that was found."""


def load(given: Mapping[str, Any] | None = None, *, feeding: bool = False) -> Loaded:
    """The settings of this process. UsageError names the setting that can't be used.

    `given` maps fields of Settings (or option names as `timeout`, `max-time`) to text or
    values; None means not given. `.env` of the current folder goes into `os.environ`, where
    it never replaces anything. `feeding`: the default queue is one to be filled, so no sweep
    that happens to stand here takes its place.
    """
    from_dotenv = _load_dotenv()
    env = dict(os.environ)
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    notes = list(misspelt(env))

    for name, value in (given or {}).items():
        if value is not None:
            option = BY_FIELD.get(name) or BY_KEY.get(name.replace("_", "-"))
            if option is None:
                raise UsageError(f"no setting is called {name!r}: {_nearest(name, BY_FIELD)}")
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
    for key, value in _load_yaml().items():
        option = BY_KEY.get(str(key).replace("_", "-")) or BY_FIELD.get(str(key))
        if option is None:
            raise UsageError(f"{YAML} sets {str(key)!r}, no setting: {_nearest(str(key), BY_KEY)}")
        if value is not None and option.field not in values:
            values[option.field] = _parsed(option, value, f"{YAML}: {key}")
            origins[option.field] = f"{YAML}: {key}"

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
    return Loaded(Settings(**values, env=env), origins, tuple(notes))


def queue_of_engine(engine: str, env: Mapping[str, str]) -> str:
    """The queue that MINION_ENGINE stands for, with the engine's own variables."""
    name = engine.strip().lower()
    if name == "execo":
        return f"execo:{_sweeps_folder(env)}"
    if name == "file":
        return Settings.queue
    raise UsageError(
        f"MINION_ENGINE={engine} does not say which queue: "
        "set MINION_QUEUE to its URL (or MINION_ENGINE to execo or file)"
    )


def misspelt(names: Iterable[str]) -> Iterable[str]:
    """A line for each MINION_ variable that means nothing, with the nearest that does."""
    for name in sorted(names):
        if name.startswith("MINION_") and name not in BY_VARIABLE and name not in OTHER_VARIABLES:
            yield f"{name} means nothing: {_nearest(name, [*BY_VARIABLE, *OTHER_VARIABLES])}"


def _nearest(name: str, known: Iterable[str]) -> str:
    import difflib  # only where something is misspelt

    (best,) = difflib.get_close_matches(name, list(known), n=1, cutoff=0.0)
    return f"did you mean {best}?"


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


def _load_dotenv() -> frozenset[str]:
    """Take `.env` into the environment; the names that came from it."""
    if not os.path.isfile(DOTENV):
        if os.path.lexists(DOTENV):
            raise UsageError(f"{DOTENV} is no file that can be read: mend or remove it")
        return frozenset()
    import dotenv

    before = set(os.environ)
    try:
        dotenv.load_dotenv(DOTENV, override=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"{DOTENV} can't be read: {error}; mend or remove it") from error
    return frozenset(set(os.environ) - before)


def _load_yaml() -> dict[Any, Any]:
    """What `.minionize.yml` says, as YAML sees it."""
    if not os.path.isfile(YAML):
        return {}
    import yaml

    try:
        with open(YAML, encoding="utf-8") as file:
            content = yaml.safe_load(file)
    except (OSError, ValueError, yaml.YAMLError) as error:
        why = " ".join(str(error).split())
        raise UsageError(f"{YAML} can't be read: {why}; mend or remove it") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{YAML} is no table: write lines such as `slots: 4`")
    return content

"""The launch section of `.minionize.yml` as values for `minion launch`'s options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

from minionize.cli.launch_words import check_key, command_words, name_and_value, read_option
from minionize.cli.plain import GATHERED
from minionize.errors import UsageError
from minionize.launch.contract import Key
from minionize.settings import load_launch, parsing
from minionize.settings.project import Told, check_value
from minionize.settings.table import BY_FIELD

Value = str | bool | list[str]


def defaults(
    scheduler: str, params: Sequence[click.Parameter], keys: Mapping[str, Key]
) -> dict[str, Value]:
    """Parameter to what the section of `scheduler` says; empty where there is none. `keys`: what
    only this scheduler has (`partition: low` is `-O partition=low`); in its section a word means
    what it means to the scheduler (`queue` for OAR, `requeue` for Slurm).

    UsageError, which names the key, for an unknown one, with the nearest, and for what an option
    or a key can't be.
    """
    by_key: dict[str, click.Option] = {}
    for param in params:
        if isinstance(param, click.Option):
            for word in param.opts:
                by_key[word.lstrip("-")] = param
    section = load_launch(scheduler, [*by_key, *keys])
    if section is None:
        return {}
    found: dict[str, Value] = {}
    words: list[str] = []
    said: dict[str, str] = {}
    for key, told in section.values.items():
        origin = section.origins[key]
        if key in keys:
            words += _words_of_key(key, keys[key], told, origin)
            continue
        name = str(by_key[key].name)
        if name in found:
            raise UsageError(f"{origin} says the same as {said[name]}: keep one of them")
        found[name], said[name] = _value(by_key[key], told, origin), origin
        for word in _several(found[name]):
            _check_word(scheduler, keys, name, word, origin)
    options = by_key.get("O")
    if words and options is not None:
        # -O on the command line takes the place of all of them, as of any option's.
        found[str(options.name)] = [*words, *_several(found.get(str(options.name), []))]
    return found


def _words_of_key(key: str, meant: Key, told: Told, origin: str) -> list[str]:
    """As -O takes them."""
    if isinstance(told, dict):
        raise UsageError(f"{origin} is a table: write a value, or a list")
    values = _several(told)
    if len(values) > 1 and not meant.many:
        raise UsageError(f"{origin} holds several values, and takes one: keep one of them")
    for value in values:
        check_key(meant, value, origin)
    return [f"{key}={value}" for value in values]


def _check_word(scheduler: str, keys: Mapping[str, Key], name: str, word: str, origin: str) -> None:
    """UsageError for one of an option's values that says nothing."""
    if name == "options":
        read_option(scheduler, keys, word, origin)
    elif name == "secret_env":
        name_and_value("--secret-env", word, origin)
    elif name == "minionize":
        command_words(word, origin)


def _value(param: click.Option, told: Told, origin: str) -> Value:
    setting = BY_FIELD.get(str(param.name))
    if param.is_flag:
        check_value(origin, told, parsing.flag)
        return bool(parsing.flag(told))
    if setting is not None and not param.multiple:
        check_value(origin, told, setting.parse)
    if isinstance(told, dict):
        # `O: {partition: low}` is `-O partition=low`.
        told = [f"{key}={value}" for key, value in told.items()]
    if param.multiple:
        values = _several(told)
        if setting is not None:
            given = ",".join(values) if setting.field in GATHERED else values
            try:
                setting.parse(given)
            except ValueError as error:
                raise UsageError(f"{origin}: {error}") from None
        return values
    if isinstance(told, list):
        raise UsageError(f"{origin} holds several values, and takes one: keep one of them")
    return told


def _several(value: Value | Told) -> list[str]:
    if isinstance(value, list):
        return value
    return [value] if isinstance(value, str) else []

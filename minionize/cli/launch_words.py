"""Words that `minion launch` is told, on its command line or in `.minionize.yml`, taken apart.

`origin`: where a word stands, for what is said about it; empty: it was typed.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from minionize.errors import UsageError
from minionize.launch.contract import Key
from minionize.nearest import nearest


def read_option(
    scheduler: str, keys: Mapping[str, Key], word: str, origin: str = ""
) -> tuple[str, str]:
    """Key and value of `-O KEY=VALUE`. UsageError for a key that the scheduler doesn't have, and
    a value that the key can't have."""
    key, given, value = word.partition("=")
    if not given:
        raise UsageError(f"{origin or '-O'} {word}: write {'' if origin else '-O '}KEY=VALUE")
    if key not in keys:
        near = nearest(key, keys)
        meant = f", did you mean {near}?" if near else ""
        raise UsageError(
            f"{origin or '-O'} {key}: {scheduler} has no such key{meant}; it has "
            f"{', '.join(keys) or 'none'}"
        )
    check_key(keys[key], value, f"{origin}: {key}={value}" if origin else f"-O {key}={value}")
    return key, value


def check_key(key: Key, value: str, what: str) -> None:
    """UsageError, which begins with `what`, if the key can't have this value."""
    try:
        key.parse(value)
    except ValueError as error:
        raise UsageError(f"{what}: {error}") from None


def name_and_value(flag: str, word: str, origin: str = "") -> tuple[str, str]:
    """Both of NAME=VALUE, neither empty. UsageError for anything else."""
    name, given, value = word.partition("=")
    if not (name and given and value):
        raise UsageError(f"{origin or flag} {word}: write {'' if origin else flag + ' '}NAME=VALUE")
    return name, value


def command_words(text: str, origin: str = "") -> tuple[str, ...]:
    """The words of `--minionize`. UsageError where there are none, or a quote stays open."""
    what = origin or "--minionize"
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise UsageError(f"{what} {text}: {error}; mend the quotes") from None
    if not words:
        raise UsageError(f"{what} names no command: give one, or leave it out")
    return words

"""Text to value, for each kind of setting. A ValueError's message completes "NAME: ..."."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

Parse = Callable[[Any], Any]
"""Takes text, or the value itself where Python or YAML gives one; raises ValueError."""

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
# Compiled when they are first used: most minions are told no time at all.
_PIECE = r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(ms|s|m|h|d)"
_CLOCK = r"(?:([0-9]+):)?([0-9]+):([0-9][0-9](?:\.[0-9]*)?)"
_NUMBER = r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+"
_DIGITS = r"[0-9]+"
_MOST = 10**18 - 1
_SIZE = r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)(?:i?b)?"
_SIZES_MIB = {"": 1.0, "k": 1 / 1024, "m": 1.0, "g": 1024.0, "t": 1024.0 * 1024}
MOST_MINIONS = 100_000
"""Of one launch: no more pods fit into one Job of Kubernetes, and other schedulers take fewer."""
_YES = {"1", "true", "yes", "on"}
_NO = {"0", "false", "no", "off"}
_ENDS = ("done", "later", "dead", "failed")


def text(value: Any) -> str:
    """A string as it is; numbers as they are written; paths as strings."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"{value!r} is no text")


def seconds(value: Any) -> float:
    """A time: `90`, `1.5h`, `10m`, `1h30m`, `1:30:00`, `5:00`; never negative."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if math.isfinite(value) and value >= 0:
            return float(value)
    elif isinstance(value, str):
        word = value.strip().lower()
        if re.fullmatch(_NUMBER, word):
            return float(word)
        if clock := re.fullmatch(_CLOCK, word):
            hours, minutes, rest = clock.groups()
            return int(hours or 0) * 3600 + int(minutes) * 60 + float(rest)
        pieces = re.findall(_PIECE, word)
        if pieces and not re.sub(_PIECE, "", word).strip():
            return float(sum(float(number) * _UNITS_S[unit] for number, unit in pieces))
    raise ValueError(f"{value!r} is no time: write 90, 10m, 2h, 7d or 1:30:00")


def seconds_above_0(value: Any) -> float:
    """A time that can't be nothing."""
    parsed = seconds(value)
    if parsed > 0:
        return parsed
    raise ValueError(f"{value!r} is too short: write a time above 0, as 90, 10m, 2h, 7d or 1:30:00")


def seconds_or_never(value: Any) -> float | None:
    """A time; 0 means none, as for timeout(1)."""
    return seconds(value) or None


def whole_from(least: int, most: int = _MOST) -> Parse:
    """A whole number, `least` or more, and at most `most`."""

    def whole(value: Any) -> int:
        if isinstance(value, str) and re.fullmatch(_DIGITS, value.strip()):
            digits = value.strip().lstrip("0") or "0"
            if len(digits) > len(str(_MOST)):  # Python itself refuses to read thousands of them
                raise ValueError(f"{digits:.40} is too large: write {most:,} or less")
            value = int(digits)
        if isinstance(value, int) and not isinstance(value, bool) and value >= least:
            if value <= most:
                return value
            raise ValueError(f"{value} is too large: write {most:,} or less")
        raise ValueError(f"{value!r} is not a whole number from {least} on: write one")

    return whole


def minions(value: Any) -> int:
    """How many minions to launch at a time."""
    return int(whole_from(1, MOST_MINIONS)(value))


def slots(value: Any) -> int | str:
    """A number of slots, or `auto`."""
    if isinstance(value, str) and value.strip().lower() == "auto":
        return "auto"
    try:
        return int(whole_from(1)(value))
    except ValueError as error:
        raise ValueError(f"{error}, or `auto`") from None


def size_mib(value: Any) -> int:
    """`500M`, `4G`, `4GiB`, `1.5T`; without a unit MiB. Rounded up, at least 1."""
    match = re.fullmatch(_SIZE, str(value).strip().lower())
    if match is None or float(match[1]) <= 0:
        raise ValueError(f"{value!r} is no size: write 500M or 4G")
    return max(1, -int(-float(match[1]) * _SIZES_MIB[match[2]] // 1))


def job_name(value: Any) -> str:
    """The name of a launch."""
    name = text(value)
    if not name.strip() or not name.isprintable():
        raise ValueError(f"{name!r} is no name: write one with letters, as scan")
    return name


def flag(value: Any) -> bool:
    """Yes or no."""
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in _YES:
        return True
    if word in _NO:
        return False
    raise ValueError(f"{value!r} is neither yes nor no: write 1 or 0")


def one_of(*words: str) -> Parse:
    """One of these words."""

    def choice(value: Any) -> str:
        word = str(value).strip().lower()
        if word in words:
            return word
        raise ValueError(f"{value!r} is none of {', '.join(words)}")

    return choice


def container_options(value: Any) -> tuple[str, ...]:
    """`memory=2g volume=/data:/data`, as a shell would split it; or a list of them, each whole;
    or a table. Dashes before a name are left out."""
    if isinstance(value, str):
        import shlex

        words = shlex.split(value)
    elif isinstance(value, Mapping):
        words = [name if told is True else f"{name}={told}" for name, told in value.items()]
    else:
        words = [str(word) for word in value]
    words = [word.lstrip("-") for word in words]
    for word in words:
        if not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9-]*(=.*)?", word, re.DOTALL):
            raise ValueError(f"{word!r} is no option: write KEY=VALUE, as memory=2g")
    return tuple(words)


def on_exit(value: Any) -> dict[int, str]:
    """`75=later,65=dead,3=done`: what each exit status means, on top of the usual table."""
    table = {0: "done", 65: "dead", 75: "later"}
    pairs: list[tuple[Any, Any]]
    if isinstance(value, Mapping):
        pairs = list(value.items())
    else:
        words = [word.strip() for word in str(value).split(",") if word.strip()]
        pairs = [tuple(word.partition("=")[::2]) for word in words]  # type: ignore[misc]
    for status, end in pairs:
        number, word = str(status).strip(), str(end).strip().lower()
        if not re.fullmatch(r"[0-9]{1,9}", number) or int(number) > 255 or word not in _ENDS:
            raise ValueError(
                f"{number}={word} maps no exit status: write STATUS=END with commas between, "
                f"a status from 0 to 255 and an end of {', '.join(_ENDS)}"
            )
        table[int(number)] = word
    return table

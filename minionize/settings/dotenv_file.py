"""Takes `.env` of the current folder into the environment, line by line.

Other programs use the name as well, for files of their own and for folders. So what can't be used
there ends nothing: it is left out, and a line says so. No line shows what stands in the file,
which may be a secret.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from minionize.settings.own_files import MOST_BYTES, LeftOut, read_own_file

if TYPE_CHECKING:
    from dotenv.parser import Original

DOTENV = ".env"
_WIDE = (b"\xff\xfe", b"\xfe\xff")


class Dotenv(NamedTuple):
    """What was taken."""

    lines: Mapping[str, int]
    """Names that came from the file, with the number of their line."""
    notes: tuple[str, ...] = ()
    """Lines for the person: what was left out."""


def load_dotenv() -> Dotenv:
    """Put what `.env` sets into `os.environ`, where it never replaces anything."""
    try:
        read = read_own_file(DOTENV)
    except LeftOut as left_out:
        return Dotenv({}, (str(left_out),))
    if read is None:
        return Dotenv({})
    if len(read) > MOST_BYTES:
        return Dotenv({}, (f"{DOTENV} is left out: it is larger than 1 MiB, no file of settings",))
    if read.startswith(_WIDE):
        return Dotenv(
            {},
            (
                f"{DOTENV} is left out: it is UTF-16: turn it into UTF-8, "
                f"iconv -f UTF-16 -t UTF-8 {DOTENV}",
            ),
        )
    return _taken(read.decode("utf-8-sig", "surrogateescape"))


def _taken(text: str) -> Dotenv:
    # dotenv is slow to import: only where there is a file.
    import dotenv
    from dotenv.parser import parse_stream

    good: list[str] = []
    lines: dict[str, int] = {}
    bad: list[tuple[int, str]] = []
    for binding in parse_stream(io.StringIO(text, newline=None)):
        why = "no NAME=VALUE" if binding.error else _unfit(binding.key, binding.value)
        if why:
            bad.append((_line_of(binding.original), why))
            continue
        good.append(binding.original.string)
        if binding.key is not None and binding.value is not None:
            lines[binding.key] = _line_of(binding.original)
    before = set(os.environ)
    # By the library once more: it knows what `${NAME}` in a value stands for.
    dotenv.load_dotenv(stream=io.StringIO("".join(good)), override=False)
    came = set(os.environ) - before
    return Dotenv({name: line for name, line in lines.items() if name in came}, _notes(bad))


def _line_of(original: Original) -> int:
    """The line in which it begins: the library counts blank lines before it in."""
    blanks = len(original.string) - len(original.string.lstrip())
    return original.line + original.string[:blanks].count("\n")


def _unfit(name: str | None, value: str | None) -> str:
    """Why no environment can hold it; empty if one can."""
    both = (name or "") + (value or "")
    if "\0" in both:
        return "a NUL character, as in UTF-16"
    if any("\ud800" <= char <= "\udfff" for char in both):
        return "not UTF-8"
    return ""


def _notes(bad: list[tuple[int, str]]) -> tuple[str, ...]:
    if not bad:
        return ()
    line, why = bad[0]
    more = len(bad) - 1
    rest = f", and {more} more below" if more else ""
    return (f"{DOTENV}, line {line} is left out ({why}){rest}: mend or remove it",)

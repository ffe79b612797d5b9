"""Takes `.env` of the current folder into the environment, line by line.

Other programs use the name as well, for files of their own and for folders. So what can't be used
there ends nothing: it is left out, and a line says so. No line shows what stands in the file,
which may be a secret.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from minionize.settings.own_files import MOST_BYTES, LeftOut, read_own_file
from minionize.settings.project import DOTENV

if TYPE_CHECKING:
    from dotenv.parser import Original

KNOWN = ("MINION_", "REPORTER_", "EXECO_", "REDIS_", "PULSAR_", "GOOGLE_", "PUBSUB_")
"""How the variables begin that mean something to minionize itself."""
_OF_LIBRARIES = ("GOOGLE_", "PUBSUB_", "KUBECONFIG")
"""Those that a client library looks up by itself."""
_WIDE = (b"\xff\xfe", b"\xfe\xff")


class Dotenv(NamedTuple):
    """What was taken."""

    lines: Mapping[str, int]
    """Names that came from the file, with the number of their line."""
    notes: tuple[str, ...] = ()
    """Lines for the person: what was left out."""
    values: Mapping[str, str] = MappingProxyType({})
    """What it sets that is not in the environment."""


def load_dotenv(*, exporting: bool = True) -> Dotenv:
    """Put what `.env` sets into `os.environ`, where it never replaces anything.

    Without `exporting`, as for a command that runs nothing of the person's, what means nothing to
    minionize is left out, and so no library or program that it starts is told anything; `values`
    has the rest.
    """
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
    return _taken(read.decode("utf-8-sig", "surrogateescape"), exporting)


def _taken(text: str, exporting: bool) -> Dotenv:
    # dotenv is slow to import: only where there is a file.
    from dotenv.main import DotEnv
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
    # By the library once more: it knows what `${NAME}` in a value stands for.
    stream = io.StringIO("".join(good))
    said = DotEnv(dotenv_path=None, stream=stream, override=False).dict()
    came = {
        name: value
        for name, value in said.items()
        if value is not None and name not in os.environ and (exporting or _is_known(name))
    }
    exported = {
        name: value for name, value in came.items() if exporting or name.startswith(_OF_LIBRARIES)
    }
    os.environ.update(exported)
    taken = {name: line for name, line in lines.items() if name in came}
    return Dotenv(taken, _notes(bad), {name: came[name] for name in came if name not in exported})


def _is_known(name: str) -> bool:
    return name.startswith((*KNOWN, *_OF_LIBRARIES))


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

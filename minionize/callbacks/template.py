"""Turns a param into arguments: names in braces are replaced, or the param is appended.

No shell ever sees a value, except under `--shell`, where each one is quoted. A template is
compiled once and expanded for every param: the usual case costs no parsing of JSON at all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from math import isfinite

from minionize.errors import Reject
from minionize.values import Param, to_text

_KEY = r"[^\W\d][\w-]*"
_NAME = rf"(?:(?:{_KEY}|\[\d+\])(?:\.{_KEY}|\[\d+\])*|//|/\.|/|\.|)"
_TOKEN = (
    r"\$\{+"  # a shell's own variable, never ours
    # Doubled braces print single ones; with a third pair around them the value is between.
    rf"|\{{\{{\{{(?P<wrapped>{_NAME})\}}\}}\}}"
    rf"|\{{\{{(?P<doubled>{_NAME})\}}\}}"
    rf"|\{{(?P<name>{_NAME})\}}"
)
# Patterns are compiled when they are first used: most minions need none of them.
_STEP = rf"({_KEY})|\[(\d+)\]"
_EXTENSION = r"\.[^/.]*\Z"

MAX_ARGUMENT = 131_071
"""Bytes that Linux takes in a single argument (32 pages with the NUL at its end)."""
MAX_ARGUMENTS = 1_048_576
"""Bytes for all arguments together that fit beside a usual environment."""

Getter = Callable[[Param], Param]


class LacksName(LookupError):
    """The param has nothing of the name that a template asks for."""


class Part:
    """One name in braces."""

    __slots__ = ("get", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        """As typed between the braces; `` for the whole param."""
        self.get: Getter | None = None
        """Takes what the name stands for out of a parsed param; None for what needs no
        parsing: the whole param, `id`, `attempt` and `slot`."""
        if name in _OF_STRINGS:
            self.get = _of_string(name)
        elif name and name not in ("id", "attempt", "slot"):
            self.get = _at(name)


Word = str | tuple[str | Part, ...]


class Template:
    """Words with names in braces, or one such text. Immutable once made.

    `appends`: without any name in the words the param's own arguments follow them.
    """

    def __init__(
        self,
        words: Sequence[str],
        *,
        braces: bool = True,
        appends: bool = True,
        max_bytes: int = MAX_ARGUMENTS,
    ) -> None:
        self.words: tuple[Word, ...] = tuple(
            compile_word(word) if braces else word for word in words
        )
        parts = [part for word in self.words if not isinstance(word, str) for part in word]
        self.names = tuple(part.name for part in parts if isinstance(part, Part))
        self.appends = appends and not self.names
        self._max_bytes = max_bytes
        self._parses = any(isinstance(part, Part) and part.get for part in parts)
        self._fixed = [word for word in self.words if isinstance(word, str)]
        # Bytes that an expansion can't exceed: a character of JSON becomes 12 at most, an
        # emoji as two \u escapes. Below the limit nothing needs to be measured.
        self._weight = 12 * max(1, len(self.names))
        self._own = 4 * sum(len(part) for part in [*self._fixed, *parts] if isinstance(part, str))

    def expand(
        self,
        text: str,
        id: str,
        attempt: int,
        slot: int,
        *,
        quote: Callable[[str], str] | None = None,
    ) -> list[str]:
        """The words with the param's values in them, or behind them.

        `quote` is applied to each value. LacksName for a name that the param hasn't, Reject
        for a value that can't be an argument.
        """
        if self.appends:
            values = values_of(text)
            if quote is not None:
                values = [quote(value) for value in values]
            words = [*self._fixed, *values]
        elif not self.names:
            words = list(self._fixed)
        else:
            words = []
            param = json.loads(text) if self._parses else None
            for word in self.words:
                if isinstance(word, str):
                    words.append(word)
                    continue
                pieces = []
                for part in word:
                    if isinstance(part, str):
                        pieces.append(part)
                        continue
                    if part.get is not None:
                        value = value_text(part.get(param))
                    elif part.name == "":
                        value = whole_text(text)
                    elif part.name == "id":
                        value = id
                    else:
                        value = str(attempt if part.name == "attempt" else slot)
                    pieces.append(value if quote is None else quote(value))
                words.append("".join(pieces))
        if len(text) * self._weight + self._own > MAX_ARGUMENT:
            check_sizes(words, self._max_bytes)
        return words


def compile_word(word: str) -> Word:
    """The word as it is where no name of ours is in it, else its pieces."""
    if "{" not in word:
        return word
    pieces: list[str | Part] = []
    fixed = ""
    end = 0
    for token in re.finditer(_TOKEN, word):
        fixed += word[end : token.start()]
        end = token.end()
        name = token["name"] if token["name"] is not None else token["wrapped"]
        if token["doubled"] is not None:
            fixed += token[0][1:-1]
        elif name is None:
            fixed += token[0]
        else:
            brace = token["wrapped"] is not None
            pieces += [fixed + "{" * brace, Part(name)]
            fixed = "}" * brace
    fixed += word[end:]
    if not pieces:
        return fixed
    return tuple(piece for piece in [*pieces, fixed] if piece != "")


def values_of(text: str) -> list[str]:
    """The arguments that a param (as JSON text) becomes where it is appended: one for a
    scalar or an object, several for a list. Reject for what can't be an argument."""
    first = text[:1]
    if first == "[" or first.isspace():
        param = json.loads(text)
        if isinstance(param, list):
            return [value_text(value) for value in param]
        return [whole_text(text.strip())]
    return [whole_text(text)]


def whole_text(text: str) -> str:
    """A whole param as one argument: a string's own text, else its JSON as it stands."""
    if text[:1] != '"':
        if text[:1].isspace():
            return whole_text(text.strip())
        return text if text.isascii() else sound(text)
    if "\\" in text:
        value: str = json.loads(text)
        return sound(value)
    value = text.rstrip()[1:-1]
    return value if value.isascii() and "\0" not in value else sound(value)


def value_text(value: Param) -> str:
    """A value as one argument: a string as it is, everything else as JSON."""
    kind = type(value)
    if kind is str:
        return sound(value)
    if kind is int or (kind is float and isfinite(value)):
        return repr(value)
    return to_text(value)


def sound(value: str) -> str:
    """The same text, or Reject where it can't be an argument."""
    if "\0" in value:
        raise Reject("a NUL can't be in an argument: take the param by --stdin, as JSON")
    if not value.isascii():
        try:
            # U+DC80 to U+DCFF stand for bytes that are no UTF-8, in Python's way.
            value.encode(errors="surrogateescape")
        except UnicodeEncodeError:
            raise Reject(
                "a lone surrogate can't be in an argument: take the param by --stdin, as JSON"
            ) from None
    return value


def check_sizes(words: Sequence[str], max_bytes: int = MAX_ARGUMENTS) -> None:
    """Reject where one of the words, or all together, are longer than Linux takes."""
    total = 0
    for word in words:
        size = len(word.encode(errors="surrogateescape"))
        total += size + 9  # its NUL, and the pointer to it
        if size > MAX_ARGUMENT:
            raise Reject("too long for an argument (128 KiB at most): take the param by --stdin")
    if total > max_bytes:
        raise Reject("too long for a command line: take the param by --stdin")


def _at(name: str) -> Getter:
    """Follows `a.b[0]` into objects and lists."""
    steps: list[str | int] = [key if key else int(index) for key, index in re.findall(_STEP, name)]

    def get(param: Param) -> Param:
        value = param
        for step in steps:
            if isinstance(step, str):
                found = isinstance(value, dict) and step in value
            else:
                found = isinstance(value, list) and step < len(value)
            if not found:
                raise LacksName(f"the param has no {{{name}}}")
            value = value[step]
        return value

    return get


def _of_string(name: str) -> Getter:
    def get(param: Param) -> str:
        if not isinstance(param, str):
            raise LacksName(f"{{{name}}} is for params that are strings")
        return _OF_STRINGS[name](param)

    return get


def _without_extension(path: str) -> str:
    return re.sub(_EXTENSION, "", path)


def _base(path: str) -> str:
    return path.rpartition("/")[2]


def _folder(path: str) -> str:
    head, slash, _ = path.rstrip("/").rpartition("/")
    if not slash:
        return "/" if path.startswith("/") else "."
    return head.rstrip("/") or "/"


_OF_STRINGS: dict[str, Callable[[str], str]] = {
    ".": _without_extension,
    "/": _base,
    "//": _folder,
    "/.": lambda path: _without_extension(_base(path)),
}

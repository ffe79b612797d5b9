"""From what people write to JSON texts on one line, in ASCII, as queues keep them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from json.encoder import encode_basestring_ascii
from typing import Any

to_string = encode_basestring_ascii
"""A str as the JSON text of a string; in C, a tenth of a microsecond for a short one."""

MAY_BEGIN_JSON = frozenset('-0123456789"[{tfn')

_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
_BREAKS = re.compile(r"[\r\n]\s*")
_INFINITY = float("inf")


def _constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


def _float(text: str) -> float:
    value = float(text)
    if value in (_INFINITY, -_INFINITY):
        raise ValueError(f"no number that fits: {text[:40]} is infinity to most programs")
    return value


decoder = json.JSONDecoder(parse_constant=_constant, parse_float=_float)
scan_once: Callable[[str, int], tuple[Any, int]] = vars(decoder)["scan_once"]
"""(text, begin) → (value, end); StopIteration or ValueError for what is no JSON."""


def flat(text: str) -> str:
    """Valid JSON `text` on one line, in ASCII; the same value, numbers as they were written.

    Line breaks and characters beyond ASCII can only stand between tokens and in strings
    respectively, so no parsing is needed.
    """
    if "\n" in text or "\r" in text:
        text = _BREAKS.sub("", text)
    if not text.isascii():
        # Quotes off: only what is in between is wanted.
        text = _NOT_ASCII.sub(lambda match: encode_basestring_ascii(match[0])[1:-1], text)
    return text


def why_not_json(text: str) -> str:
    """Why `text` is no JSON value; the empty string if it is one."""
    try:
        _value, end = scan_once(text, 0)
    except StopIteration as stop:
        return f"no JSON at column {stop.value + 1}"
    except json.JSONDecodeError as error:
        return f"no JSON: {error.msg} at column {error.colno}"
    except RecursionError:
        return "no JSON that can be read: nested too deeply"
    except ValueError as error:
        return str(error)
    if end != len(text):
        return f"no JSON: more text after the value at column {end + 1}"
    return ""


def typed(text: str) -> str:
    """JSON text of `text`: what it says if it is a JSON value, else a string.

    So `3`, `0.1`, `true`, `null`, `[1, 2]` are values; `007`, `.5`, `NaN`, `yes` strings.
    """
    bare = text.strip(" \t\r\n")
    if bare and bare[0] in MAY_BEGIN_JSON and not why_not_json(bare):
        return flat(bare)
    return encode_basestring_ascii(text)

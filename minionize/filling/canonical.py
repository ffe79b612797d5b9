"""When two params are the same: a hash of their canonical JSON."""

from __future__ import annotations

import json
from hashlib import blake2b

_EXACT = 2**53
"""Floats below it that are whole are these integers exactly."""


def _number(text: str) -> float | int:
    value = float(text)
    if value.is_integer() and abs(value) < _EXACT:
        return int(value)
    return value


_decode = json.JSONDecoder(parse_float=_number).decode


def canonical(text: str) -> str:
    """The canonical form of JSON `text`: keys sorted, no blanks, characters beyond ASCII
    escaped, and one way to write each number (so 1, 1.0 and 1e0 are the same). Unicode is
    compared by code points: é as one character and as e with an accent are two.
    """
    if text[:1] == '"' and text.isascii() and "\\" not in text:
        return text
    try:
        value = _decode(text)
        return json.dumps(value, sort_keys=True, separators=(",", ":"))
    except (ValueError, RecursionError):
        # Integers of thousands of digits, or no JSON at all: compared as they are written.
        return text


def content_hash(text: str) -> bytes:
    """16 bytes, equal for equal params; for others the chance of that is nil."""
    return blake2b(canonical(text).encode(), digest_size=16).digest()

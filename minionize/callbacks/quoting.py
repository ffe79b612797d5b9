"""Quoting for a shell, and command lines that are safe to show and to paste."""

from __future__ import annotations

from collections.abc import Iterable

_BARE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_@%+=:,./-")
"""What is no syntax of any shell; but `=` first is, in zsh."""
_ESCAPES = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def quoted(value: str) -> str:
    """`value` in single quotes, whatever it is: bare, `2` before `>` and `if` are syntax."""
    return "'" + value.replace("'", "'\"'\"'") + "'"


def pasteable(value: str) -> str:
    """`value` as a shell takes it, readable, and without a character that a terminal obeys.

    Those are written as bash, zsh and ksh read them: `$'\\x1b'`.
    """
    if value and value[0] != "=" and _BARE.issuperset(value):
        return value
    if value.isprintable():
        return quoted(value)
    return "$'" + "".join(map(_escaped, value)) + "'"


def command_line(words: Iterable[str]) -> str:
    """An argument vector as a line to show, or to paste into a shell."""
    return " ".join(map(pasteable, words))


def _escaped(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    # Byte by byte, so that it holds in any locale; never followed by a digit it could eat.
    octets = char.encode("utf-8", errors="surrogateescape" if char >= "\udc80" else "strict")
    return "".join(f"\\{octet:03o}" for octet in octets)

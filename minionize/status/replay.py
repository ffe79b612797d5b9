"""The line that runs one param here, from what a minion said it runs."""

from __future__ import annotations

import os
import re

from minionize.callbacks.quoting import command_line, pasteable
from minionize.errors import MinionizeError, Reject
from minionize.settings import Settings
from minionize.values import Lease

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_PIECE = re.compile(
    r"""(?P<blank>\s+)
    |'(?P<single>[^']*)'
    |"(?P<double>[^"]*)"
    |\$'(?P<escaped>(?:[^'\\]|\\.)*)'
    |(?P<bare>[^\s'"$\\]+)
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\([0-7]{1,3}|.)", re.DOTALL)
_LETTERS = {"n": "\n", "t": "\t", "r": "\r"}


def run_here(settings: Settings, command: str, id: str, text: str, attempt: int) -> str | None:
    """A line for a shell that runs the param with JSON `text` as the minion did whose command
    was `command` (quoted for a shell); None where it is not known how.

    Never raises for a command or param that can't be one line: a minion can always run it.
    """
    if not command:
        return None
    words = split_words(command)
    if _FUNCTION.fullmatch(command):
        return _by_minionize(text, f"--call {command}")
    if not words:
        return None
    from minionize.callbacks.command import CommandCallback, find_program

    # One word with blanks is no program: it was given with --shell.
    shell = settings.shell or (len(words) == 1 and len(words[0].split()) > 1)
    said_in_python = not shell and (len(words) == 1 or command.startswith("<"))
    if said_in_python and not find_program(words[0], settings.env.get("PATH", os.defpath)):
        # The name of a class or function: there is no such program.
        return None
    try:
        callback = CommandCallback(settings._replace(shell=shell), words)
        return callback.shown(Lease(id, text, attempt))
    except (MinionizeError, Reject, LookupError, ValueError):
        options = "--shell " if shell else ""
        return _by_minionize(text, f"{options}{command_line(words)}")


def split_words(command: str) -> list[str] | None:
    """The words of a line that `command_line` made; None for what it never makes."""
    words: list[str] = []
    word: str | None = None
    place = 0
    while place < len(command):
        piece = _PIECE.match(command, place)
        if piece is None:
            return None
        place = piece.end()
        if piece["blank"] is not None:
            if word is not None:
                words.append(word)
            word = None
            continue
        escaped = piece["escaped"]
        if escaped is not None:
            part = _unescaped(escaped)
        else:
            part = next(
                piece[name] for name in ("single", "double", "bare") if piece[name] is not None
            )
        word = part if word is None else word + part
    return words if word is None else [*words, word]


def _unescaped(text: str) -> str:
    """What `$'text'` stands for."""
    octets = b""
    place = 0
    for escape in _ESCAPE.finditer(text):
        octets += text[place : escape.start()].encode("utf-8", "surrogateescape")
        place = escape.end()
        code = escape[1]
        if code[0] in "01234567":
            octets += bytes([int(code, 8) & 255])
        else:
            octets += _LETTERS.get(code, code).encode()
    octets += text[place:].encode("utf-8", "surrogateescape")
    return octets.decode("utf-8", "surrogateescape")


def _by_minionize(text: str, rest: str) -> str:
    return f"printf '%s\\n' {pasteable(text)} | minionize --from - --format jsonl {rest}"

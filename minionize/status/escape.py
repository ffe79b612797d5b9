"""Text of params, programs and files, made safe for a terminal.

What is not printable (control characters, escape sequences, marks that turn the direction of
text) is shown as Python writes it, `\\x1b`, and never sent.
"""

from __future__ import annotations


def safe(text: str) -> str:
    """`text` on one line, with nothing in it that a terminal obeys."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _shown(char) for char in text)


def safe_lines(text: str) -> list[str]:
    """The lines of `text`, each safe; a tab stays one."""
    return [
        "".join(char if char == "\t" or char.isprintable() else _shown(char) for char in line)
        for line in text.split("\n")
    ]


def short(text: str, width: int) -> str:
    """`text`, safe, cut to `width` characters with an ellipsis where it is longer."""
    # Cut first: a param may be a MiB.
    shown = safe(text[: width + 1])
    return shown if len(shown) <= width else shown[: max(0, width - 1)] + "…"


def _shown(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")

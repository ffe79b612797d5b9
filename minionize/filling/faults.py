"""Bad lines: named with file and line, and either the end of it or counted and left out."""

from __future__ import annotations

from minionize.errors import BadParam

MOST_BYTES = 16 << 20
"""The longest param that is read. A file without line ends is a mistake long before."""


def shown(text: str, most: int = 200) -> str:
    """`text` fit for a terminal: what is not printable is escaped, what is long is cut."""
    if len(text) > most:
        text = text[:most] + "…"
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode()
        for char in text
    )


class Faults:
    """What becomes of lines that are no params."""

    def __init__(self, *, skip: bool = False) -> None:
        self.skip = skip
        self.count = 0
        self.first = ""
        """The message of the first one that was left out."""

    def bad(self, name: str, line: int, why: str) -> None:
        """Line `line` (from 1) of `name` is no param. Raises BadParam, or counts it."""
        message = f"{shown(name)}, line {line}: {why}"
        if not self.skip:
            raise BadParam(f"{message} (--skip-bad leaves such lines out)")
        self.count += 1
        self.first = self.first or message

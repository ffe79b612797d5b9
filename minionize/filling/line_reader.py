"""Lines, and JSON lines: a param each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from minionize.errors import BadParam
from minionize.filling import texts
from minionize.filling.faults import Faults
from minionize.filling.numbered import numbered, why_unclean


def read_lines(
    name: str, blocks: Iterable[bytes], faults: Faults, *, typed: bool = False
) -> Iterator[list[str]]:
    """Each line is a string, as it is, blanks at its ends too. Lines of nothing but blanks are
    skipped. `typed`: lines that are JSON values are those values."""
    to_text = texts.typed if typed else texts.to_string
    for first, lines, clean in numbered(name, blocks):
        if not clean:
            yield from _checked_lines(name, first, lines, faults, to_text)
            continue
        # One pass in C for each step: a million lines take a third of a second.
        yield list(map(to_text, filter(str.strip, lines)))


def _checked_lines(
    name: str, first: int, lines: list[str], faults: Faults, to_text: Callable[[str], str]
) -> Iterator[list[str]]:
    good: list[str] = []
    try:
        for number, line in enumerate(lines, first):
            if not line.strip():
                continue
            why = why_unclean(line)
            if why:
                faults.bad(name, number, why)
            else:
                good.append(to_text(line))
    except BadParam:
        # Of a pipe, what came before the bad line is fed.
        yield good
        raise
    yield good


def read_json_lines(name: str, blocks: Iterable[bytes], faults: Faults) -> Iterator[list[str]]:
    """Each line is a JSON value, kept as it is written. Blank lines are skipped."""
    scan_once = texts.scan_once
    for first, lines, clean in numbered(name, blocks):
        good: list[str] = []
        number = first - 1
        try:
            for line in lines:
                number += 1
                text = line.strip(" \t\r")
                if not text:
                    continue
                try:
                    if clean and scan_once(text, 0)[1] == len(text):
                        one_line = text.isascii() and "\r" not in text
                        good.append(text if one_line else texts.flat(text))
                        continue
                except (StopIteration, ValueError, RecursionError):
                    pass  # Explained below.
                why = ("" if clean else why_unclean(text)) or texts.why_not_json(text)
                if why:
                    faults.bad(name, number, why + _hint(text, why))
                else:
                    good.append(texts.flat(text))
        except BadParam:
            yield good
            raise
        yield good


def _hint(text: str, why: str) -> str:
    if not why.startswith("no JSON"):
        return ""
    if text[0] not in texts.MAY_BEGIN_JSON:
        return "; lines of plain text are --format lines"
    if text[0] == "[":
        return "; an array over several lines is --format json"
    return ""

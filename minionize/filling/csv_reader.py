"""CSV: each row is an object with the header's names, or a list."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator

from minionize.errors import BadParam, UsageError
from minionize.filling import texts
from minionize.filling.faults import MOST_BYTES, Faults, shown
from minionize.filling.numbered import NUL_STAND_IN, numbered, why_unclean


class _LinesOfBlocks:
    """The lines that csv.reader asks for; knows when a block is used up."""

    def __init__(self, name: str, blocks: Iterable[bytes]) -> None:
        self._numbered = numbered(name, blocks, keep_cr=True)
        self.clean = True
        self.used_up = True
        self._line = ""

    def __iter__(self) -> Iterator[str]:
        for _first, lines, clean in self._numbered:
            # A cell may go over blocks: once unclean, all rows are looked at.
            self.clean = self.clean and clean
            last = len(lines) - 1
            for place, line in enumerate(lines):
                self.used_up = place == last
                # Older csv modules refuse NULs with less to say: they go through as a
                # surrogate that makes the row a bad one.
                self._line = line
                yield line.replace("\0", NUL_STAND_IN) + "\n"

    def ends_in_quote(self, *, begun_before: bool) -> bool:
        """Whether the row goes on behind the last line. `begun_before`: this line began inside a
        quote."""
        return (self._line.count('"') + begun_before) % 2 == 1


def read_csv(
    name: str,
    blocks: Iterable[bytes],
    faults: Faults,
    *,
    sep: str | None = None,
    header: bool = True,
    typed: bool = False,
) -> Iterator[list[str]]:
    """The first row names the cells, unless `header` is False: then rows are lists.

    `sep` is one character (None: a comma). Cells are strings as they stand, blanks too; names
    lose the blanks at their ends. `typed`: cells that are JSON values are those values. Empty
    lines are skipped.
    """
    separator = separator_of(sep)
    csv.field_size_limit(MOST_BYTES)
    lines = _LinesOfBlocks(name, blocks)
    # Strict, or a quote that is never closed would swallow the rest of the file silently.
    rows = csv.reader(iter(lines), delimiter=separator, strict=True)
    to_text: Callable[[str], str] = texts.typed if typed else texts.to_string
    form = ""
    width = 0
    good: list[str] = []
    begin = 0
    try:
        while True:
            begin = rows.line_num + 1
            row: list[str] | None
            try:
                row = next(rows, None)
            except csv.Error as error:
                why, rest_lost = _why(error)
                if header and not form:
                    raise BadParam(f"{shown(name)}, line {begin} (the header): {why}") from None
                if rest_lost or lines.ends_in_quote(begun_before=rows.line_num > begin):
                    # Never skipped: the rows behind the quote would go with it, unnoticed.
                    raise BadParam(f"{shown(name)}, line {begin}: {why}") from None
                faults.bad(name, begin, why)
                row = []
            if row is None:
                break
            if row:
                why = "" if lines.clean else why_unclean("".join(row))
                if not form:
                    if why:
                        raise BadParam(f"{shown(name)}, line {begin} (the header): {why}")
                    if header:
                        form, width = _object_form(name, begin, row, sep), len(row)
                        row = []
                    else:
                        form, width = _list_form(len(row)), len(row)
                if row and not why and len(row) != width:
                    why = _ragged(len(row), width, header)
                if why:
                    faults.bad(name, begin, why)
                elif row:
                    good.append(form % tuple(map(to_text, row)))
            if lines.used_up:
                yield good
                good = []
    except BadParam:
        yield good
        raise
    yield good


def separator_of(sep: str | None) -> str:
    """The character that `--sep` names: one character, `tab` or `\\t`. UsageError for others."""
    if sep is None:
        return ","
    if sep in ("tab", "\\t"):
        return "\t"
    if len(sep) != 1 or sep in '"\r\n\0':
        raise UsageError(f"--sep {shown(sep)!r}: give one character, such as ';', or tab")
    return sep


def _object_form(name: str, line: int, row: list[str], sep: str | None) -> str:
    """What a row's cells are filled into: `{"lr":%s,"seed":%s}`."""
    where = f"{shown(name)}, line {line} (the header)"
    names = [cell.strip() for cell in row]
    if sep is None and len(names) == 1:
        for other, called in ((";", "';'"), ("\t", "tab"), ("|", "'|'")):
            if other in names[0]:
                raise BadParam(f"{where}: looks as if separated otherwise: give --sep {called}")
    if "" in names:
        raise BadParam(
            f"{where}: column {names.index('') + 1} has no name: name it, or feed rows as lists "
            "with --no-header"
        )
    twice = next((cell for cell in names if names.count(cell) > 1), None)
    if twice is not None:
        raise BadParam(
            f"{where}: two columns are named {shown(twice)!r}: rename one, or feed rows as lists "
            "with --no-header"
        )
    keys = (texts.to_string(cell).replace("%", "%%") for cell in names)
    return "{" + ",".join(f"{key}:%s" for key in keys) + "}"


def _list_form(width: int) -> str:
    return "[" + ",".join(["%s"] * width) + "]"


def _ragged(cells: int, width: int, header: bool) -> str:
    against = "the header" if header else "the first row"
    plural = "" if cells == 1 else "s"
    return f"{cells} cell{plural} where {against} has {width}"


def _why(error: csv.Error) -> tuple[str, bool]:
    """What is wrong with a row, and whether the rest of the file was taken for a part of it."""
    text = str(error)
    if "unexpected end" in text or "field larger" in text:
        return 'a quote that begins here is never closed: close it, or write it as ""', True
    if "new-line character" in text:
        return "line ends are bare CR: turn them into LF, tr '\\r' '\\n'", True
    if "expected after" in text:
        return 'text after a closing quote: inside quotes, write a quote as ""', False
    return f"no CSV row ({text})", False

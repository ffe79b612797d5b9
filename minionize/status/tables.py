"""Rows as text: CSV (RFC 4180 quoting, UTF-8) and JSON lines."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from minionize.status.escape import safe
from minionize.status.rows import LOST, OURS, OUTPUTS, parsed

Row = Mapping[str, Any]

_SPOOL_BYTES = 16 * 1024 * 1024
_SPECIAL = re.compile(r'[,"\r\n]|^\s|\s\Z')
_OURS_LAST = (*OURS, LOST, *OUTPUTS)


def json_lines(rows: Iterable[Row]) -> Iterator[str]:
    """A line of JSON for each row, in ASCII, without anything that a terminal obeys."""
    for row in rows:
        # JSON need not escape DEL; ASCII that prints is all that is left then.
        yield dumped(row).replace("\x7f", "\\u007f") + "\n"


def dumped(row: Row) -> str:
    """A row as JSON, which has no infinities: a param may hold a number that is too large."""
    try:
        return json.dumps(row, allow_nan=False)
    except ValueError:
        return json.dumps(parsed(json.dumps(row)))


def csv_lines(rows: Iterable[Row], *, for_terminal: bool = False) -> Iterator[str]:
    """A header and a line for each row; nothing for no rows.

    Columns are all keys of all rows, in the order they are first met, ours last: so rows are
    kept (on disk beyond 16 MiB) until the last one is known. A string stands as it is, null
    and what a row lacks as nothing, everything else as JSON. `for_terminal`: control
    characters are escaped, which is no CSV of the same values any more.
    """
    columns: dict[str, None] = {}
    with tempfile.SpooledTemporaryFile(_SPOOL_BYTES, "w+b") as spool:
        for row in rows:
            columns.update(dict.fromkeys(row))
            spool.write(dumped(row).encode() + b"\n")
        ours = [name for name in _OURS_LAST if name in columns]
        names = [name for name in columns if name not in ours] + ours
        if not names:
            return
        show = safe if for_terminal else _as_it_is
        yield ",".join(cell(show(name)) for name in names) + "\n"
        spool.seek(0)
        for line in spool:
            row = json.loads(line.decode())
            yield ",".join([_shown(row.get(name), show) for name in names]) + "\n"


def cell(value: str | None) -> str:
    """A cell as CSV: quoted where it must be; an empty string is `""`, None is nothing."""
    if value is None:
        return ""
    if not value or _SPECIAL.search(value):
        return '"' + value.replace('"', '""') + '"'
    return value


def _shown(value: Any, show: Callable[[str], str]) -> str:
    if value is None:
        return ""
    if type(value) is int:
        return str(value)
    return cell(show(value if type(value) is str else json.dumps(value)))


def _as_it_is(text: str) -> str:
    return text

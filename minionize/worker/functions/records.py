"""What a child notes down about ends of runs that are more than `done`, in a file that outlives it.

One JSON value per line, appended with one write each, in the order of the params:

- `"…"`: the run is done, was short, and returned this (JSON text);
- `[stdout, stderr, {…}]`: any other end, with the sizes of the two output files then.

When it ended is on the board (board.py), where there is nothing else for a run that is done, was
short, and returned None. What each run wrote costs two system calls to find out, so short ones
are asked only where their output is captured, and the last one of a batch, for all of them.
"""

from __future__ import annotations

import json
import os
from json.encoder import encode_basestring_ascii
from typing import Any, NamedTuple

LONG_S = 0.001
"""From here on a run is worth a look at its CPU time and memory (1 us)."""
MOST_RESULT = 64 * 1024
"""Bytes of JSON of a result in a record; a longer one goes into a file of its own."""
MOST_DETAIL = 4 * 1024
"""Characters of a traceback that are kept."""
MOST_TAIL = 2 * 1024
"""Bytes of stderr that are kept of a crash."""
MOST_OUTPUT = 64 * 1024
"""Bytes of captured output of a run that are kept, half from its head and half from its tail."""


class Fields(NamedTuple):
    """What may be in the last part of a record; the names of crew.Outcome."""

    verdict: str = "done"
    reason: str = ""
    detail: str = ""
    exit_status: int | None = None
    delay_s: float | None = None
    result: str | None = None
    cpu_s: float | None = None
    peak_kib: int | None = None
    peak_below: bool = False
    result_file: str | None = None


def encode(out: int, err: int, fields: Fields) -> bytes:
    """The record of an end that is more than `done`."""
    told = {
        name: value
        for name, value, plain in zip(Fields._fields, fields, Fields(), strict=True)
        if value != plain
    }
    return b"%s\n" % json.dumps([out, err, told], separators=(",", ":")).encode()


def encode_result(result: str) -> bytes:
    """The record of a short, silent run that is done and returned something."""
    return b"%s\n" % encode_basestring_ascii(result).encode()


def decode(lines: bytes) -> list[Any]:
    """The records in whole lines."""
    return json.loads(b"[" + lines[:-1].replace(b"\n", b",") + b"]")  # type: ignore[no-any-return]


def ended_by(status: int) -> str:
    """How a child ended, in the words of a failure's reason: `exit 3`, `signal SIGSEGV`."""
    if status >= 0:
        return f"exit {status}"
    import signal

    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"


def tail(fd: int, start: int, end: int) -> str:
    """The last of this part of a file, as text from a full line on where it is cut."""
    text = os.pread(fd, MOST_TAIL, max(start, end - MOST_TAIL)).decode(errors="replace")
    if end - start > MOST_TAIL and "\n" in text[:-1]:
        text = text[text.index("\n") + 1 :]
    return text


def excerpt(fd: int, start: int, end: int) -> str:
    """This part of a file, as text; without its middle where it is long."""
    if end - start <= MOST_OUTPUT:
        return os.pread(fd, end - start, start).decode(errors="replace")
    half = MOST_OUTPUT // 2
    head = os.pread(fd, half, start).decode(errors="replace")
    last = os.pread(fd, half, end - half).decode(errors="replace")
    return f"{head}\n[... {end - start - MOST_OUTPUT} bytes left out ...]\n{last}"

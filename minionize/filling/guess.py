"""Which format a file is in: by its name, else by a look at its beginning."""

from __future__ import annotations

import os.path

from minionize.filling import texts
from minionize.filling.faults import MOST_BYTES
from minionize.filling.sources import BLOCK

FORMATS = ("lines", "csv", "jsonl", "json")

_BY_SUFFIX = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".txt": "lines",
    ".list": "lines",
    ".lst": "lines",
}

_BLANKS = b" \t\r\n"


def format_by_name(name: str) -> str | None:
    """`csv` for jobs.csv and jobs.csv.gz; None where the name says nothing."""
    return _BY_SUFFIX.get(_suffix(name))


def packed_by_name(name: str) -> bool:
    """Whether the name says that it is packed with gzip."""
    return name.lower().endswith((".gz", ".gzip"))


def sep_by_name(name: str) -> str | None:
    """A tab for .tsv; None (a comma) for others."""
    return "\t" if _suffix(name) == ".tsv" else None


def format_by_look(head: bytes, *, all_of_it: bool) -> str | None:
    """The format of what begins with `head`; None: more must be seen first.

    Lines, unless the first line that is not blank is a JSON object by itself (JSON lines), or
    begins with `[`: then an array, unless it is an array by itself and more follows it (JSON
    lines). CSV is never taken from a look: nothing tells its header from a line.

    As much of `head` is looked at as there may be of it in any case, whatever a pipe brings at a
    time: so much that a long JSON object is seen whole, less where it makes no difference.
    """
    limit = MOST_BYTES if head[:BLOCK].lstrip(_BLANKS)[:1] == b"{" else BLOCK
    if len(head) >= limit:
        head, all_of_it = head[:limit], True
    bare = head.lstrip(_BLANKS)
    if not bare:
        return "lines" if all_of_it else None
    if bare[:1] not in (b"{", b"["):
        return "lines"
    line, newline, more = bare.partition(b"\n")
    if not newline and not all_of_it:
        return None
    is_json = not texts.why_not_json(line.decode(errors="replace").strip())
    if bare[:1] == b"{":
        return "jsonl" if is_json else "lines"
    if not is_json:
        # The first line of an array over several lines, or text such as `[draft] one`.
        return "json" if _may_be_array(line) else "lines"
    if more.strip():
        return "jsonl"
    return "json" if all_of_it else None


def _may_be_array(line: bytes) -> bool:
    rest = line[1:].strip()
    return not rest or chr(rest[0]) in texts.MAY_BEGIN_JSON


def _suffix(name: str) -> str:
    stem, suffix = os.path.splitext(name.lower())
    if suffix in (".gz", ".gzip"):
        suffix = os.path.splitext(stem)[1]
    return suffix

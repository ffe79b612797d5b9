"""From blocks of bytes to numbered lines of text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from minionize.errors import BadParam
from minionize.filling.faults import MOST_BYTES, shown

_NOT_UTF8 = re.compile("[\udc80-\udcff]")

NOT_UTF8 = (
    "not UTF-8: names of files go in as they are with find -print0 and --null; turn other text "
    "into it, iconv -f LATIN1 -t UTF-8 FILE | minion feed -"
)
NUL = "holds a NUL character: for names from find -print0 give --null"
NUL_STAND_IN = "\udc00"
"""A surrogate that no undecodable byte becomes."""


class Lines(NamedTuple):
    """Some lines without their `\\n`, in order. There may be none: a block ended in a line."""

    first: int
    """The number of the first of them, from 1."""
    lines: list[str]
    clean: bool
    """False: some may have NULs, or bytes that are not UTF-8 (as surrogates)."""


def numbered(name: str, blocks: Iterable[bytes], *, keep_cr: bool = False) -> Iterator[Lines]:
    """Lines end with `\\n` or `\\r\\n`; the last one may lack it. One item for each block, so
    that a reader can pass on what it has before the next block comes."""
    first = 1
    rest: list[bytes] = []
    held = 0
    for block in blocks:
        cut = block.rfind(b"\n")
        if cut < 0:
            rest.append(block)
            held += len(block)
            if held > MOST_BYTES:
                raise BadParam(
                    f"{shown(name)}, line {first} is longer than {MOST_BYTES >> 20} MiB: "
                    "put large data into files, and their names into params"
                )
            yield Lines(first, [], True)
            continue
        rest.append(block[:cut])
        lines = _lines(first, b"".join(rest), keep_cr)
        yield lines
        first += len(lines.lines)
        rest = [block[cut + 1 :]]
        held = len(rest[0])
    if held:
        yield _lines(first, b"".join(rest), keep_cr)


def _lines(first: int, whole: bytes, keep_cr: bool) -> Lines:
    clean = b"\0" not in whole
    try:
        text = whole.decode()
    except UnicodeDecodeError:
        text = whole.decode(errors="surrogateescape")
        clean = False
    lines = text.split("\n")
    if not keep_cr and "\r" in text:
        lines = [line[:-1] if line.endswith("\r") else line for line in lines]
    return Lines(first, lines, clean)


def why_unclean(text: str) -> str:
    """Why `text`, from Lines that are not clean, can't be a param; empty if it can."""
    if _NOT_UTF8.search(text):
        return NOT_UTF8
    return NUL if "\0" in text or NUL_STAND_IN in text else ""

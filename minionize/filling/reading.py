"""Reading params: one source, its format found, as batches of JSON texts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import chain
from typing import BinaryIO

from minionize.errors import BadParam, UsageError
from minionize.filling.faults import Faults, shown
from minionize.filling.guess import (
    FORMATS,
    format_by_look,
    format_by_name,
    packed_by_name,
    sep_by_name,
)
from minionize.filling.sources import Source, may_begin, open_source

_BOM = b"\xef\xbb\xbf"
_WIDE = (b"\xff\xfe", b"\xfe\xff")


def read_params(
    source: str | os.PathLike[str] | BinaryIO,
    *,
    null: bool = False,
    format: str | None = None,
    typed: bool = False,
    sep: str | None = None,
    header: bool = True,
    faults: Faults | None = None,
) -> Iterator[str]:
    """The params of a path, of `-` (standard input) or of an open binary stream, as JSON texts.

    They come as they are read: a pipe's params as soon as its producer wrote their lines.
    `null`: each ends with a NUL, and may hold any other bytes. The options are those of
    `minion feed`; with `faults=Faults(skip=True)` bad lines are counted there and left out.
    UsageError for a source that can't be opened (at the first
    `next`), BadParam with name and line for what is no param.
    """
    opened = open_source(source)
    try:
        yield from chain.from_iterable(
            read_batches(
                opened,
                faults or Faults(),
                null=null,
                format=format,
                typed=typed,
                sep=sep,
                header=header,
            )
        )
    finally:
        opened.close()


def read_batches(
    source: Source,
    faults: Faults,
    *,
    null: bool = False,
    format: str | None = None,
    typed: bool = False,
    sep: str | None = None,
    header: bool = True,
) -> Iterator[list[str]]:
    """The params of `source` as lists of JSON texts, about one for each block that was read;
    lists may be empty. What was read is passed on before more is waited for."""
    if format is not None and format not in FORMATS:
        raise UsageError(f"format {shown(format)!r}: there are {', '.join(FORMATS)}")
    if null:
        return _nul_ended(source, format, typed=typed, sep=sep, header=header)
    format = format or format_by_name(source.name)
    format, blocks = _begun(source, format)
    if format != "csv" and sep is not None:
        raise UsageError(f"{shown(source.name)} is read as {format}: --sep is for --format csv")
    if format == "csv":
        sep = sep or sep_by_name(source.name)
        from minionize.filling.csv_reader import read_csv

        return read_csv(source.name, blocks, faults, sep=sep, header=header, typed=typed)
    if not header:
        raise UsageError(
            f"{shown(source.name)} is read as {format}: --no-header is for --format csv"
        )
    if format == "json":
        from minionize.filling.array_reader import read_array

        return read_array(source.name, blocks)
    from minionize.filling.line_reader import read_json_lines, read_lines

    if format == "jsonl":
        return read_json_lines(source.name, blocks, faults)
    return read_lines(source.name, blocks, faults, typed=typed)


def _nul_ended(
    source: Source, format: str | None, *, typed: bool, sep: str | None, header: bool
) -> Iterator[list[str]]:
    for given, option in (
        (format not in (None, "lines"), f"--format {format}"),
        (sep is not None, "--sep"),
        (not header, "--no-header"),
    ):
        if given:
            raise UsageError(f"{option} with --null: what ends with a NUL is read as lines are")
    from minionize.filling.null_reader import read_nul_ended

    # The first name may begin with any bytes: they say nothing about all of it.
    packed = packed_by_name(source.name)
    blocks = source.blocks() if packed else source.raw_blocks()
    return read_nul_ended(source.name, blocks, typed=typed)


def _begun(source: Source, format: str | None) -> tuple[str, Iterator[bytes]]:
    """The format, and the blocks without a byte order mark."""
    blocks = source.blocks()
    head = b""
    ended = False
    while True:
        if not may_begin(head, _BOM, *_WIDE):
            bare = head[len(_BOM) :] if head.startswith(_BOM) else head
            found = format or format_by_look(bare, all_of_it=ended)
            if found is not None:
                break
        if ended:
            bare, found = head, format or "lines"
            break
        block = next(blocks, b"")
        ended = not block
        head += block
    if head.startswith(_WIDE):
        raise BadParam(
            f"{shown(source.name)} is UTF-16: turn it into UTF-8, "
            "iconv -f UTF-16 -t UTF-8 FILE | minion feed -"
        )
    return found, chain([bare] if bare else [], blocks)

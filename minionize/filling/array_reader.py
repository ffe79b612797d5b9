"""One JSON array, streamed: each element is a param."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator

from minionize.errors import BadParam
from minionize.filling import texts
from minionize.filling.faults import MOST_BYTES, shown
from minionize.filling.numbered import NOT_UTF8

_BLANKS = re.compile(r"[ \t\r\n]*")
_BEHIND = frozenset(" \t\r\n,]")
"""What may stand behind an element."""
_IN_NUMBERS = frozenset("0123456789+-.eE")
_NOT_CLOSED = "the array is never closed by ]: was the file cut off?"


class _Text:
    """The text around the place where the reader is; never more than an element and a block."""

    def __init__(self, name: str, blocks: Iterable[bytes]) -> None:
        self._name = name
        self._blocks = iter(blocks)
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self.buffer = ""
        self.at = 0
        self.line = 1
        """Of the beginning of `buffer`."""
        self.ended = False
        self._broken = False
        """What follows `buffer` is no UTF-8."""

    def more(self, least: int = 1) -> bool:
        """Read at least `least` characters more, if there are; False at the end."""
        parts: list[str] = []
        got = 0
        while got < least and not self.ended and not self._broken:
            block = next(self._blocks, b"")
            self.ended = not block
            try:
                parts.append(self._decoder.decode(block, final=self.ended))
            except UnicodeDecodeError as error:
                # What stands before it is read first, however the blocks were cut.
                parts.append(error.object[: error.start].decode())
                self._broken, self.ended = True, False
            got += len(parts[-1])
        if self._broken and not got:
            line = self.line + self.buffer.count("\n")
            raise BadParam(f"{shown(self._name)}, line {line}: {NOT_UTF8}")
        if got:
            self.line = self.line_here()
            self.buffer = self.buffer[self.at :] + "".join(parts)
            self.at = 0
        return got > 0

    def line_here(self) -> int:
        """The line of the place where the reader is."""
        return self.line + self.buffer.count("\n", 0, self.at)

    def here(self) -> str:
        """The next character that is no blank, not taken; empty if nothing more was read."""
        match = _BLANKS.match(self.buffer, self.at)
        if match is not None:
            self.at = match.end()
        return self.buffer[self.at : self.at + 1]

    def bad(self, why: str) -> BadParam:
        return BadParam(f"{shown(self._name)}, line {self.line_here()}: {why}")


def read_array(name: str, blocks: Iterable[bytes]) -> Iterator[list[str]]:
    """The elements of a JSON array, in batches; what is there is passed on before more is
    waited for. A bad one ends it, also with --skip-bad: where the next begins can't be known."""
    text = _Text(name, blocks)
    good: list[str] = []
    want = "["
    """What may come next: `[`, then `first` (an element or `]`), then `,` and `element`."""
    try:
        while want != "end":
            here = text.here()
            if not here:
                yield good
                good = []
                if text.more():
                    continue
                if want == "[":
                    return
                if want != "end":
                    raise text.bad(_NOT_CLOSED)
            if want == "[":
                if here != "[":
                    raise text.bad("no JSON array: a JSON value on each line is --format jsonl")
                text.at += 1
                want = "first"
            elif want == ",":
                if here not in (",", "]"):
                    raise text.bad("no comma or ] after an element")
                text.at += 1
                want = "element" if here == "," else "end"
            elif want == "first" and here == "]":
                text.at += 1
                want = "end"
            else:
                element = _element(text)
                while element is None:
                    yield good
                    good = []
                    # Doubling, or a long element would be scanned once for each block.
                    held = len(text.buffer) - text.at
                    text.more(max(1, min(held, MOST_BYTES - held)))
                    element = _element(text)
                good.append(element)
                want = ","
                if len(good) >= 1000:
                    yield good
                    good = []
        yield good
        good = []
        while not text.here():
            if not text.more():
                return
        raise text.bad("more text after the array; one array on each line is --format jsonl")
    except BadParam:
        yield good
        raise


def _element(text: _Text) -> str | None:
    """The JSON text of the element that begins here, and the reader is behind it; None: more
    must be read first."""
    buffer, at = text.buffer, text.at
    try:
        _value, end = texts.scan_once(buffer, at)
    except StopIteration as stop:
        why = "an element is missing" if buffer[at] in ",]" else f"no JSON: {_around(buffer, stop)}"
    except json.JSONDecodeError as error:
        why = f"no JSON: {error.msg}"
    except RecursionError:
        raise text.bad("nested too deeply") from None
    except ValueError as error:
        # A number may go on, and be smaller then: 1111 becomes 1111e-9.
        if text.ended or buffer[-1] not in _IN_NUMBERS or len(buffer) - at > MOST_BYTES:
            raise text.bad(str(error)) from None
        return None
    else:
        # A number may go on: `1.` is read as 1 as long as the 5 is missing.
        if text.ended or not buffer[end - 1].isdigit() or buffer[end : end + 1] in _BEHIND:
            text.at = end
            return texts.flat(buffer[at:end])
        why = f"a number is longer than {MOST_BYTES >> 20} MiB"
    held = len(buffer) - at
    if text.ended:
        raise text.bad(_NOT_CLOSED if why.startswith("no JSON: Unterminated") else why)
    if held > MOST_BYTES or buffer[at] in ",]":
        raise text.bad(why)
    return None


def _around(buffer: str, stop: StopIteration) -> str:
    return f"{shown(buffer[stop.value : stop.value + 20])!r}"

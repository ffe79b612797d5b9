"""What `find -print0` writes: params that end with a NUL each, of any other bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from minionize.errors import BadParam
from minionize.filling import texts
from minionize.filling.faults import MOST_BYTES, shown


def read_nul_ended(
    name: str, blocks: Iterable[bytes], *, typed: bool = False
) -> Iterator[list[str]]:
    """Each is a string, as it is, empty ones and line breaks too; the last may lack its NUL. A byte
    that is no UTF-8 becomes the surrogate that Python has for it (`\\udcff` for 0xff), which
    becomes that byte again in an argument. `typed`: those that are JSON values are those values.
    """
    to_text = texts.typed if typed else texts.to_string
    count = 0
    rest: list[bytes] = []
    held = 0
    for block in blocks:
        cut = block.rfind(b"\0")
        rest.append(block if cut < 0 else block[:cut])
        held += len(rest[-1])
        if held > MOST_BYTES and (cut < 0 or b"\0" not in rest[-1]):
            raise BadParam(
                f"{shown(name)}: param {count + 1} is longer than {MOST_BYTES >> 20} MiB: does "
                "each end with a NUL? without --null each line is one"
            )
        if cut < 0:
            yield []
            continue
        good = _decoded(b"".join(rest), to_text)
        count += len(good)
        yield good
        rest = [block[cut + 1 :]]
        held = len(rest[0])
    if held:
        yield _decoded(b"".join(rest), to_text)


def _decoded(whole: bytes, to_text: Callable[[str], str]) -> list[str]:
    # A NUL is never a part of a longer character: so all of them are decoded at once.
    return [*map(to_text, whole.decode("utf-8", "surrogateescape").split("\0"))]

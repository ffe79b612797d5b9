"""Shuffling more params than fit into memory: at random into buckets, then each bucket."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO

MEMORY_BYTES = 8 << 20
"""JSON texts held at once. Python needs some three times that for short ones."""
_PER_TEXT = 64
"""What a str costs beside its characters."""
_BUCKETS = 64


def shuffled(
    batches: Iterable[Iterable[str]],
    *,
    seed: int | None = None,
    memory_bytes: int = MEMORY_BYTES,
) -> Iterator[list[str]]:
    """All texts in random order, every order equally likely; the same for the same `seed`.

    Reads all batches before it yields. What exceeds `memory_bytes` goes to unnamed files in
    the folder for temporary ones (TMPDIR), once or, from about 64 times that, twice.
    """
    yield from _shuffled(batches, random.Random(seed), memory_bytes)


def _shuffled(
    batches: Iterable[Iterable[str]], chance: random.Random, memory_bytes: int
) -> Iterator[list[str]]:
    held: list[str] = []
    held_bytes = 0
    buckets: list[IO[str]] = []
    try:
        for batch in batches:
            for text in batch:
                held.append(text)
                held_bytes += len(text) + _PER_TEXT
            if held_bytes > memory_bytes and len(held) > 1:
                _spill(held, buckets, chance)
                held_bytes = 0
        if not buckets:
            chance.shuffle(held)
            yield held
            return
        _spill(held, buckets, chance)
        # A text fell into any bucket alike, and each bucket is shuffled: so is the whole.
        while buckets:
            bucket = buckets.pop()
            with bucket:
                bucket.seek(0)
                yield from _shuffled(_lines(bucket), chance, memory_bytes)
    finally:
        for bucket in buckets:
            bucket.close()


def _spill(held: list[str], buckets: list[IO[str]], chance: random.Random) -> None:
    if not buckets:
        for _ in range(_BUCKETS):
            buckets.append(
                tempfile.TemporaryFile("w+", encoding="ascii", newline="\n", buffering=1 << 14)  # noqa: SIM115
            )
    writers = [bucket.write for bucket in buckets]
    pick = chance.randrange
    for text in held:
        writers[pick(_BUCKETS)](f"{text}\n")
    held.clear()


def _lines(bucket: IO[str]) -> Iterator[list[str]]:
    while lines := bucket.readlines(1 << 16):
        yield [line[:-1] for line in lines]

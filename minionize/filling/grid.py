"""Grids: every combination of some values per name, as objects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from fractions import Fraction
from itertools import islice
from math import ceil
from typing import NamedTuple

from minionize.errors import UsageError
from minionize.filling import texts
from minionize.filling.faults import shown

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER}):({_NUMBER})(?::({_NUMBER}))?")
_HALF_RANGE = re.compile(rf":({_NUMBER})(?::{_NUMBER})?|({_NUMBER}):")
_MOST = Decimal("1e18")
_BATCH = 10_000


class Span(NamedTuple):
    """A half-open range, in decimal arithmetic: 0:1:0.1 has ten values, 0.3 among them."""

    begin: Decimal
    step: Decimal
    size: int
    whole: bool
    """All integers."""

    def values(self) -> Iterator[str]:
        """Its numbers as JSON texts."""
        if self.whole:
            begin, step = int(self.begin), int(self.step)
            yield from map(str, range(begin, begin + self.size * step, step))
            return
        for place in range(self.size):
            yield repr(float(self.begin + place * self.step))


class Axis(NamedTuple):
    """One name with its values, as JSON texts; ranges are not written out."""

    name: str
    parts: Sequence[Span | tuple[str, ...]]

    @property
    def size(self) -> int:
        """How many values there are."""
        return sum(part.size if isinstance(part, Span) else len(part) for part in self.parts)

    def values(self) -> Iterator[str]:
        """All of them, in the order in which they were written."""
        for part in self.parts:
            yield from part.values() if isinstance(part, Span) else part


def parse_grid(words: Iterable[str]) -> list[Axis]:
    """Axes of `name=values` words. Values are separated by commas: JSON where they parse,
    `a:b` and `a:b:step` half-open ranges of numbers, else strings. UsageError says what fails.
    """
    axes: list[Axis] = []
    for word in words:
        name, equals, values = word.partition("=")
        if not equals or not name:
            raise UsageError(
                f"--grid: {shown(word)!r} is no name=values: a grid is made of those alone, and a "
                "file is fed by itself"
            )
        if any(axis.name == name for axis in axes):
            raise UsageError(
                f"--grid: {shown(name)!r} is named twice: give all its values at once, "
                f"{shown(name)}=1,2"
            )
        axes.append(Axis(name, tuple(_parts(name, values))))
    if not axes:
        raise UsageError("--grid needs values: minion feed --grid lr=0.1,0.01 seed=0:1000")
    return axes


def grid_size(axes: Sequence[Axis]) -> int:
    """How many combinations there are."""
    size = 1
    for axis in axes:
        size *= axis.size
    return size


def grid_batches(axes: Sequence[Axis]) -> Iterator[list[str]]:
    """Every combination as the JSON text of an object, streamed: the last name changes
    fastest, as in nested loops in the order of the names."""
    objects = _objects(axes, "{")
    while batch := list(islice(objects, _BATCH)):
        yield batch


def _objects(axes: Sequence[Axis], begun: str) -> Iterator[str]:
    axis, rest = axes[0], axes[1:]
    key = f"{begun}{texts.to_string(axis.name)}:"
    if not rest:
        for value in axis.values():
            yield f"{key}{value}}}"
        return
    for value in axis.values():
        yield from _objects(rest, f"{key}{value},")


def _parts(name: str, values: str) -> Iterator[Span | tuple[str, ...]]:
    listed: list[str] = []
    at = 0
    while True:
        end = _value_end(values, at)
        value = values[at:end]
        if not value:
            raise UsageError(
                f"--grid: {shown(name)} has an empty value: give values between commas, "
                f"and '\"\"' for the empty string"
            )
        span = _span(name, value)
        if span is None:
            listed.append(texts.typed(value))
        else:
            if listed:
                yield tuple(listed)
                listed = []
            yield span
        if end == len(values):
            break
        at = end + 1
    if listed:
        yield tuple(listed)


def _value_end(values: str, at: int) -> int:
    """Where the value ends that begins at `at`: commas inside JSON do not end it."""
    try:
        _value, end = texts.scan_once(values, at)
    except (StopIteration, ValueError, RecursionError):
        end = at
    if end > at and (end == len(values) or values[end] == ","):
        return end
    comma = values.find(",", at)
    return len(values) if comma < 0 else comma


def _span(name: str, value: str) -> Span | None:
    match = _RANGE.fullmatch(value)
    if match is None:
        half = _HALF_RANGE.fullmatch(value)
        if half is not None:
            both = f"0{value}" if half[1] else f"{value}100"
            raise UsageError(
                f"--grid: {shown(name)}={value}: a range has both ends, such as {both}; "
                f"a string is '{shown(name)}={json.dumps(value)}'"
            )
        return None
    bounds = [bound for bound in match.groups() if bound is not None]
    begin, end = Decimal(bounds[0]), Decimal(bounds[1])
    step = Decimal(bounds[2]) if len(bounds) > 2 else Decimal(1)
    where = f"--grid: {shown(name)}={shown(value)}"
    if any(abs(bound) > _MOST or 0 < abs(bound) < 1 / _MOST for bound in (begin, end, step)):
        raise UsageError(f"{where}: ranges go from -1e18 to 1e18: give the values in a file")
    if not step:
        raise UsageError(f"{where}: a step of 0 never arrives: give another")
    count = _steps(begin, end, step)
    if count <= 0:
        raise UsageError(
            f"{where}: an empty range: the end is not in it, {bounds[0]}:{bounds[1]} goes "
            f"{'down' if end < begin else 'nowhere'} (a string is "
            f"'{shown(name)}={json.dumps(value)}')"
        )
    whole = all("." not in bound and Decimal(bound) % 1 == 0 for bound in bounds)
    return Span(begin, step, count, whole)


def _steps(begin: Decimal, end: Decimal, step: Decimal) -> int:
    """How many of begin, begin + step, … come before `end`. Exact, as fractions."""
    ratio = (Fraction(end) - Fraction(begin)) / Fraction(step)
    return max(0, ceil(ratio))

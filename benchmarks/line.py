"""A line of the table."""

from __future__ import annotations

from typing import NamedTuple


class Line(NamedTuple):
    """A line of the table."""

    row: str
    name: str
    figure: str
    ratio: str = ""
    goal: str = ""

"""Which of several minions' exit statuses tells most."""

from __future__ import annotations

from collections.abc import Iterable

_HARMLESS = (0, 1, 75)
"""From the best on: drained, drained with dead params, told to stop. All others are worse."""


def worst(statuses: Iterable[int]) -> int:
    """The status that a person must know of; 0 where there is none. A minion that died of a
    signal counts as 128 and the signal."""
    found = 0
    for status in statuses:
        if _rank(status) > _rank(found):
            found = status
    return found


def _rank(status: int) -> tuple[int, int]:
    if status in _HARMLESS:
        return _HARMLESS.index(status), 0
    return len(_HARMLESS), status

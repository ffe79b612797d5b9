"""The name that somebody meant who misspelt it, for the end of a message."""

from __future__ import annotations

from collections.abc import Iterable

_NEAR = 0.75
_NEAR_ENOUGH = 0.66
"""Of difflib's ratio, for names that begin alike: `retry` is near `retries`, `port` is not near
`reporter`."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The one of the `known` names that `name` is nearly equal to, whatever its case; None where
    none is, since a far-fetched one sends its reader astray."""
    import difflib  # only where something is misspelt

    best, best_ratio = None, 0.0
    for other in known:
        one, two = name.lower(), other.lower()
        enough = _NEAR_ENOUGH if one[:1] == two[:1] else _NEAR
        ratio = difflib.SequenceMatcher(None, two, one, autojunk=False).ratio()
        if ratio >= enough and ratio > best_ratio:
            best, best_ratio = other, ratio
    return best

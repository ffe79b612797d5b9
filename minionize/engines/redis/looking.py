"""When an idle minion asks the server again, though nobody woke it."""

from __future__ import annotations

LOOK_S = 0.25
"""A lease of a dead minion ends without anybody who could tell: look again."""
_LOOK_PER_MINION_S = 0.02
_SELDOM_S = 4.0
"""What one finds when it looks wakes another: so of many each looks seldom, up to this."""


def next_look_s(minions: int, due: bytes) -> float:
    """In how many seconds one of so many minions looks again. `due`: in how many ms something
    comes back that was delayed; empty if nothing does."""
    pace_s = min(_SELDOM_S, max(LOOK_S, _LOOK_PER_MINION_S * minions))
    if pace_s > LOOK_S:
        pace_s *= _between(0.75, 1.0)
    if due == b"":
        return pace_s
    # All who idle know the moment; they need not all come at once.
    return min(pace_s, int(due) / 1000 + _between(0.0, min(0.03, 0.001 * (minions - 1))))


def _between(least: float, most: float) -> float:
    # Slow to import, and who finds its queue drained needs none.
    import random

    return random.uniform(least, most)

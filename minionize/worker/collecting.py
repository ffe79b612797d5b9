"""How often Python looks for garbage in cycles while a minion works."""

from __future__ import annotations

import gc

_FIRST = 50_000
"""New objects between two looks. A minion holds thousands of leases, which are no garbage: at
the usual 700 a fifth of the time of short functions goes into looking at them."""


class SeldomCollecting:
    """Fewer looks from construction until `restore`; what Python is told otherwise stays."""

    def __init__(self) -> None:
        self._before = gc.get_threshold()
        if 0 < self._before[0] < _FIRST:
            gc.set_threshold(_FIRST, *self._before[1:])

    def restore(self) -> None:
        """As it was before."""
        gc.set_threshold(*self._before)

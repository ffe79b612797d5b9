"""Outcomes of runs that are done, as a child noted them down."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from itertools import repeat

from minionize.contracts.crew import Outcome, Verdict
from minionize.values import Lease

_new_outcome = tuple.__new__
"""Outcome(...) without the Python frame of a NamedTuple's constructor: half the price."""
_REST = [repeat(Outcome._field_defaults[name]) for name in Outcome._fields[4:]]
_STDOUT, _STDERR = (Outcome._fields.index(name) - 4 for name in ("stdout", "stderr"))
_BETWEEN, _AFTER = _REST[:_STDOUT], _REST[_STDERR + 1 :]
"""What `plain` leaves as it is: all from `exit_status` to `result`, and what comes behind."""


def plain(
    leases: list[Lease], slot: int, began: float, ends: list[float], output: str | None
) -> Iterator[Outcome]:
    """Of runs that returned nothing, one after the other. `output` is what each wrote."""
    seconds = map(operator.sub, ends, [began, *ends])
    fields = zip(
        leases,
        repeat(Verdict.DONE),
        repeat(slot),
        seconds,
        *_BETWEEN,
        repeat(output),
        repeat(output),
        *_AFTER,
    )
    return map(_new_outcome, repeat(Outcome), fields)


def returned(
    lease: Lease, slot: int, seconds: float, result: str | None, output: str | None
) -> Outcome:
    """Of a run that may have returned something."""
    return Outcome(lease, Verdict.DONE, slot, seconds, result=result, stdout=output, stderr=output)

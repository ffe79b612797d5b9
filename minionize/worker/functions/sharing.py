"""How many params a slot is given at once, and which slot gets which."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence

from minionize.values import Lease
from minionize.worker.functions.slot import Slot

BATCH_S = 0.25
"""A slot is given so much work at once."""
BATCH_MOST = 4096


def batch(seconds_each: float) -> int:
    """How many runs of this length a slot is given at once."""
    return max(1, min(BATCH_MOST, int(BATCH_S / max(seconds_each, 1e-7))))


def order(slot: Slot) -> tuple[bool, int, int]:
    """Sorts the slots that start something soonest first."""
    return not slot.idle(), slot.load(), slot.index


def shares(slots: Sequence[Slot], leases: list[Lease]) -> list[tuple[Slot, list[Lease]]]:
    """Who gets which, so that all have about the same load afterwards. Idle ones come first."""
    able = sorted((slot for slot in slots if slot.open()), key=order)
    able = able or sorted(slots, key=order)
    level = _level([slot.load() for slot in able], len(leases))
    shares: list[tuple[Slot, list[Lease]]] = []
    start = 0
    for slot in able:
        count = min(len(leases) - start, max(0, level - slot.load()))
        if count:
            shares.append((slot, leases[start : start + count]))
            start += count
    return shares


def _level(loads: list[int], more: int) -> int:
    """How far the lowest loads must be filled up to take `more`, like water."""
    total = more
    level = 0
    for count, load in enumerate(sorted(loads), 1):
        total += load
        level = -(-total // count)
        if level <= load:
            # This one stands out of the water: it is as high as it was without it.
            return -(-(total - load) // (count - 1)) if count > 1 else load
    return level


def without(pending: deque[tuple[float, list[Lease]]], ids: Collection[str]) -> Sequence[Lease]:
    """Take the leases of these ids out of `pending`; returns them."""
    gone: list[Lease] = []
    kept: list[tuple[float, list[Lease]]] = []
    for since, leases in pending:
        gone += [lease for lease in leases if lease.id in ids]
        left = [lease for lease in leases if lease.id not in ids]
        if left:
            kept.append((since, left))
    pending.clear()
    pending.extend(kept)
    return gone

"""From claims to leases: reading the params of what is claimed and was not handed out yet."""

from __future__ import annotations

from itertools import repeat

from minionize.engines.file.batches import NotVisible, Record, parse_record
from minionize.engines.file.held import Held
from minionize.engines.file.texts import Texts
from minionize.values import Lease

_new_lease = tuple.__new__
"""Lease(...) without the Python frame of a NamedTuple's constructor: half the price of a lease."""


def ready(holding: dict[int, Held], texts: Texts, limit: int) -> list[Lease]:
    """Up to `limit` leases, as far as they can be read now; suspects only with suspects."""
    found: list[Lease] = []
    suspects: bool | None = None
    for held in holding.values():
        while held.todo and len(found) < limit:
            begin, end = held.todo[0]
            try:
                upto, lines = texts.some(held.claim, (begin, min(end, begin + limit - len(found))))
            except NotVisible:
                break  # what the head names and this host does not see yet is waited for
            if held.source == "p":
                if suspects:
                    return found
                suspects = False
                found += _fresh(held.serial, begin, upto, lines)
            else:
                records = [parse_record(line) for line in lines]
                if suspects is None:
                    suspects = records[0].suspect
                same = [record for record in records if record.suspect == suspects]
                if len(same) < len(records):
                    # Only what a minion rewrote for itself is mixed.
                    same = []
                    for record in records:
                        if record.suspect != suspects:
                            break
                        same.append(record)
                    if not same:
                        return found
                    upto = begin + len(same)
                for position, record in enumerate(same, begin):
                    held.ids[position] = record.id
                    found.append(_lease(record, (held.serial, position)))
            if upto < end:
                held.todo[0] = (upto, end)
            else:
                held.todo.pop(0)
        if len(found) >= limit:
            break
    return found


def _fresh(serial: int, begin: int, upto: int, lines: list[str]) -> list[Lease]:
    ids = range(begin, upto)
    fields = zip(
        map(str, ids),
        lines,
        repeat(1),
        repeat(0),
        repeat(0),
        repeat(False),
        zip(repeat(serial), ids),
    )
    return list(map(_new_lease, repeat(Lease), fields))


def _lease(record: Record, token: tuple[int, int]) -> Lease:
    return Lease(
        str(record.id),
        record.text,
        record.attempt,
        record.crashes,
        record.laters,
        record.suspect,
        token,
    )

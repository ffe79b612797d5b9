"""What becomes of params that a minion no longer holds and that are not done: lines for batches."""

from __future__ import annotations

from collections.abc import Sequence

from minionize.engines.file.batches import Record, dead_line, id_pieces
from minionize.engines.file.publishing import Draft
from minionize.engines.file.room import delay_class
from minionize.values import Lease


def given_back(
    leases: Sequence[Lease], *, charge: bool, later: bool, due: float, delay_s: float
) -> list[Draft]:
    """Back to work, suspects apart; see contracts.engine for `charge` and `later`. `due`: Unix time
    before which they are not leased."""
    found = []
    records = [_record(lease, charge, later) for lease in leases]
    for suspect in (False, True):
        lines = [record.line() for record in records if record.suspect == suspect]
        if lines:
            source = str(delay_class(delay_s))
            found.append(Draft(source, lines, due=due, delay_s=delay_s, suspect=suspect))
    return found


def _record(lease: Lease, charge: bool, later: bool) -> Record:
    number, text = int(lease.id), lease.text
    if charge:
        return Record(number, text, lease.attempt + 1, lease.crashes)
    if later:
        return Record(number, text, lease.attempt, lease.crashes, lease.laters + 1)
    return Record(number, text, lease.attempt, lease.crashes, lease.laters, lease.suspect)


def buried(leases: Sequence[Lease], why: Sequence[object]) -> list[Draft]:
    """Dead letters; `why`: reason, detail, Unix time, minion."""
    records = (
        Record(int(one.id), one.text, one.attempt, one.crashes, one.laters) for one in leases
    )
    return [Draft("dead", [dead_line(record, why) for record in records])]


def moved_out(leases: Sequence[Lease]) -> list[Draft]:
    """In another queue now."""
    return [Draft("purged", id_pieces(int(lease.id) for lease in leases))]

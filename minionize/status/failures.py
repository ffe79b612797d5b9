"""Failures by reason: from the report's events, and from what the queue knows is dead."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from minionize.events import Event, Kind
from minionize.status.escape import safe, safe_lines
from minionize.status.read import Faults, Report, parse_line, read_lines
from minionize.values import Entry

UNKNOWN = "(no reason given)"
_LETTERS = (b'["g"', b'["d"')
_ACK = b'["a"'
_TAIL_LINES = 10


@dataclass
class Group:
    """What failed for one reason."""

    reason: str
    attempts: int = 0
    """Failed attempts that the report knows, of params that may be done by now."""
    dead: int = 0
    """Params that are dead of it."""
    ids: dict[str, None] = field(default_factory=dict)
    """Ids in the order in which they were met, the first `keep` of them."""
    last_id: str = ""
    last_host: str = ""
    last_at_s: float = float("-inf")
    tail: str = ""
    """What the last of them left: the tail of its stderr, or a traceback."""

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "reason": self.reason,
            "attempts": self.attempts,
            "dead": self.dead,
            "ids": list(self.ids),
            "last_id": self.last_id,
            "last_host": self.last_host,
            "tail": self.tail,
        }


def failures(
    folder: Report, dead: Iterable[Entry] | None, faults: Faults, *, keep: int | None = 1000
) -> list[Group]:
    """The groups, the deadliest first.

    `dead`: the queue's dead letters; None where it can't list them, then the report's last
    word on an id counts. `keep`: ids that are kept for each group; None: all.
    """
    groups: dict[str, Group] = {}
    reported: dict[str, tuple[float, str]] = {}
    for source, line in read_lines(folder, faults):
        if not line.startswith(_LETTERS):
            continue
        event = parse_line(source, line, faults)
        if event is None or (event.kind is not Kind.DEAD and not event.charged):
            continue
        group = _group(groups, event.reason)
        if event.seconds is not None:
            group.attempts += 1
        _meet(group, event, source.host, keep)
        if event.kind is Kind.DEAD and dead is None:
            reported[event.id] = max(
                reported.get(event.id, (event.at_s, group.reason)), (event.at_s, group.reason)
            )
    if dead is None and reported:
        _drop_done(folder, reported)
    if dead is None:
        for _, reason in reported.values():
            groups[reason].dead += 1
    else:
        for entry in dead:
            _add_dead(groups, entry, keep)
    return sorted(groups.values(), key=lambda group: (-group.dead, -group.attempts, group.reason))


def _drop_done(folder: Report, dead: dict[str, tuple[float, str]]) -> None:
    """Forget those that were retried, and done since."""
    for source, line in read_lines(folder, Faults()):
        pieces = line.split(b'"', 4)
        if not line.startswith(_ACK) or len(pieces) < 5:
            continue
        id_ = pieces[3].decode("ascii", "replace")
        if id_ not in dead:
            continue
        event = parse_line(source, line, Faults())
        if event is not None and event.at_s >= dead[id_][0]:
            del dead[id_]


def failure_lines(groups: Iterable[Group], *, all_ids: bool = False, width: int = 100) -> list[str]:
    """The groups as text for a terminal."""
    lines: list[str] = []
    for group in groups:
        counts = []
        if group.dead:
            counts.append(f"{group.dead:,} dead")
        if group.attempts:
            counts.append(f"{group.attempts:,} failed attempt{'' if group.attempts == 1 else 's'}")
        if lines:
            lines.append("")
        lines.append(f"{safe(group.reason)}: {', '.join(counts) or 'not dead any more'}")
        lines.extend(_id_lines(list(group.ids), all_ids, width))
        tail = [line for line in safe_lines(group.tail.rstrip()) if line.strip()]
        if tail:
            where = f" on {safe(group.last_host)}" if group.last_host else ""
            lines.append(f"  last of param {safe(group.last_id)}{where}:")
            lines.extend(f"    {line}" for line in (tail if all_ids else tail[-_TAIL_LINES:]))
    return lines


def _group(groups: dict[str, Group], reason: str) -> Group:
    reason = reason or UNKNOWN
    if reason not in groups:
        groups[reason] = Group(reason)
    return groups[reason]


def _meet(group: Group, event: Event, host: str, keep: int | None) -> None:
    if keep is None or len(group.ids) < keep:
        group.ids[event.id] = None
    if event.at_s >= group.last_at_s:
        group.last_id, group.last_host, group.last_at_s = event.id, host, event.at_s
        group.tail = event.detail or event.stderr or ""


def _add_dead(groups: dict[str, Group], entry: Entry, keep: int | None) -> None:
    group = _group(groups, entry.failure.reason if entry.failure else "")
    group.dead += 1
    if keep is None or len(group.ids) < keep:
        group.ids[entry.id] = None
    if not group.tail:
        group.last_id = entry.id
        group.tail = entry.failure.detail if entry.failure else ""


def _id_lines(ids: list[str], all_ids: bool, width: int) -> list[str]:
    prefix = "  ids: "
    if not all_ids:
        line = prefix
        for place, id_ in enumerate(ids):
            more = f"{safe(id_)} "
            if place and len(line) + len(more) > width - 12:
                return [f"{line}... (--all)"]
            line += more
        return [line.rstrip()]
    return [prefix + " ".join(map(safe, ids))]

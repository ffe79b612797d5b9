"""The params of a queue by state, as lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain

from minionize.contracts.engine import Queue
from minionize.errors import NotSupported
from minionize.events import Kind
from minionize.status.escape import safe, short
from minionize.status.read import Faults, Report, read_events
from minionize.status.render import seconds
from minionize.values import Entry, State

_BATCH = 1000


def listed(queue: Queue, state: State, folder: Report, faults: Faults) -> Iterator[Entry]:
    """The params in `state`; NotSupported at once where nobody can list them.

    Where the queue does not keep what is done, that comes from the report.
    """
    if state is State.DONE and not queue.traits.keeps_done:
        return _done(queue, folder, faults)
    entries = scanned(queue, state)
    if entries is None:
        raise NotSupported(
            f"{queue.url} can't list its {state.value} params: minion status counts what it can, "
            "minion list --state done and minion failures read the report"
        )
    return entries


def scanned(queue: Queue, state: State) -> Iterator[Entry] | None:
    """The params in `state`; None where the queue can't list them. It may still list those in
    another state, as a broker whose dead letters are a queue of their own."""
    try:
        entries = iter(queue.scan(state))
        # Where `scan` is a generator, it is now that it raises.
        first = next(entries, None)
    except NotSupported:
        return None
    return iter(()) if first is None else chain((first,), entries)


def listed_line(entry: Entry, *, as_json: bool, width: int = 100) -> str:
    """An entry as a line for a terminal of `width` characters, or as JSON with all of it."""
    if as_json:
        try:
            param = json.loads(entry.text)
        except (ValueError, RecursionError):
            param = entry.text
        value = {
            "id": entry.id,
            "state": entry.state.value,
            "attempt": entry.attempt,
            "crashes": entry.crashes,
            "param": param,
            "minion": entry.holder or None,
            "due_in_s": entry.due_in_s,
            "reason": entry.failure.reason if entry.failure else None,
        }
        return json.dumps(value).replace("\x7f", "\\u007f")
    line = f"{safe(entry.id):<9} {entry.state.value:<8} {entry.attempt:>3}  "
    more = _more(entry)
    room = max(20, width - len(line) - len(more))
    return line + short(entry.text, room) + more


def _more(entry: Entry) -> str:
    if entry.failure is not None:
        return f"  {short(entry.failure.reason, 40)}"
    if entry.due_in_s is not None:
        return f"  in {seconds(max(0.0, entry.due_in_s))}"
    if entry.holder:
        return f"  {short(entry.holder, 40)}"
    return ""


def _done(queue: Queue, folder: Report, faults: Faults) -> Iterator[Entry]:
    seen: set[str] = set()
    batch: dict[str, Entry] = {}
    for _, event in read_events(folder, faults):
        if event.kind is not Kind.ACK or event.id in seen:
            continue
        seen.add(event.id)
        batch[event.id] = Entry(event.id, event.param or "", State.DONE, event.attempt)
        if len(batch) >= _BATCH:
            yield from _with_texts(queue, batch)
            batch.clear()
    yield from _with_texts(queue, batch)


def _with_texts(queue: Queue, batch: dict[str, Entry]) -> Iterator[Entry]:
    unknown = [id_ for id_, entry in batch.items() if not entry.text]
    found = queue.look_up(unknown) if unknown else {}
    for id_, entry in batch.items():
        yield entry._replace(text=found[id_].text) if id_ in found else entry

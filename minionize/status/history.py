"""One param: what the report tells of its attempts, and how it is shown."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from minionize.events import Event, Kind
from minionize.reporters.record import Source
from minionize.status.escape import safe, safe_lines, short
from minionize.status.read import Faults, Report, parse_line, read_lines
from minionize.status.render import duration, memory, seconds
from minionize.values import Entry, State


class Told(NamedTuple):
    """An event of the param, and who told it."""

    source: Source
    event: Event


def history(folder: Report, id: str, faults: Faults) -> list[Told]:
    """All that the report tells of the param `id`, by time."""
    told = []
    needle = f',"{id}",'.encode()
    plain_end = f',"{id}"]'.encode()
    for source, line in read_lines(folder, faults):
        # Almost every line is another's: look before parsing.
        if needle not in line and plain_end not in line:
            continue
        event = parse_line(source, line, faults)
        if event is not None and event.id == id:
            told.append(Told(source, event))
    told.sort(key=lambda one: one.event.at_s)
    return told


def param_text(entry: Entry | None, told: Sequence[Told]) -> str | None:
    """The param as JSON, from the queue or else from the report."""
    if entry is not None:
        return entry.text
    return next((event.param for _, event in reversed(told) if event.param is not None), None)


def show_lines(id: str, entry: Entry | None, told: Sequence[Told], here: str | None) -> list[str]:
    """The param as text for a terminal. `here`: the line that runs it here, if there is one."""
    lines = [f"param {safe(id)}: {_state(entry, told)}"]
    text = param_text(entry, told)
    if text is not None:
        lines.append(f"  {short(text, 10_000)}")
    if told:
        lines.append("")
        lines.extend(_table(told))
    elif entry is not None and entry.state is State.RUNNING:
        lines.append(f"attempt {entry.attempt} is running; the report tells of it when it ends")
    elif entry is not None:
        lines.append(f"no report of it; its next attempt is number {entry.attempt}")
    last = _last_run(told)
    if last is not None:
        lines.extend(_outputs(last.event, entry))
    elif entry is not None and entry.failure is not None:
        lines.extend(_block("why it is dead", entry.failure.detail))
    if here is not None:
        lines.extend(["", "to run it here:", f"  {here}"])
    return lines


def show_json(id: str, entry: Entry | None, told: Sequence[Told], here: str | None) -> str:
    """The same for programs, as one JSON object."""
    text = param_text(entry, told)
    value = {
        "id": id,
        "state": None if entry is None else entry.state.value,
        "param": None if text is None else _parsed(text),
        "attempt": None if entry is None else entry.attempt,
        "crashes": None if entry is None else entry.crashes,
        "failure": None if entry is None or entry.failure is None else entry.failure._asdict(),
        "events": [
            {"minion": source.minion, "host": source.host, **dict(_fields(event))}
            for source, event in told
        ],
        "command": here,
    }
    return json.dumps(value)


def _fields(event: Event) -> Iterator[tuple[str, object]]:
    for name, value in event._asdict().items():
        if value != Event._field_defaults.get(name, ...) and name not in ("id", "param"):
            parsed = name == "result" and value is not None
            yield name, _parsed(value) if parsed else value


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _state(entry: Entry | None, told: Sequence[Told]) -> str:
    if entry is None:
        kinds = {Kind.ACK: "done", Kind.DEAD: "dead"}
        last = told[-1].event.kind if told else None
        return f"{kinds[last]}, by the report" if last in kinds else "not in the queue"
    said = entry.state.value
    if entry.holder:
        said += f" at {safe(entry.holder)}"
    if entry.due_in_s is not None:
        said += f", due in {seconds(max(0.0, entry.due_in_s))}"
    if entry.failure is not None:
        said += f" ({safe(entry.failure.reason)})"
    if entry.crashes:
        times = "once" if entry.crashes == 1 else f"{entry.crashes} times"
        said += f"; minions died under it {times}"
    return said


def _table(told: Sequence[Told]) -> list[str]:
    rows = [("attempt", "when", "took", "CPU", "memory", "host", "slot", "")]
    for source, event in told:
        peak = "" if event.peak_kib is None else memory(event.peak_kib)
        rows.append(
            (
                str(event.attempt or ""),
                time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.at_s)),
                "" if event.seconds is None else duration(event.seconds),
                "" if event.cpu_s is None else duration(event.cpu_s),
                f"below {peak}" if peak and event.peak_below else peak,
                short(source.host, 30),
                "" if event.slot < 0 else str(event.slot),
                _end(event),
            )
        )
    shown = [column for column in range(8) if any(row[column] for row in rows[1:])]
    widths = {column: max(len(row[column]) for row in rows) for column in shown}
    return [
        "  ".join(row[column].ljust(widths[column]) for column in shown).rstrip() for row in rows
    ]


def _end(event: Event) -> str:
    why = safe(event.reason)
    if event.kind is Kind.ACK:
        return "done" + (f" ({why})" if why else "")
    if event.kind is Kind.DEAD:
        return f"dead: {why}"
    if event.kind is Kind.LOST:
        return "lease lost" + (f": {why}" if why else "")
    said = f"failed: {why}" if event.charged else f"given back: {why}"
    return said + (f", again after {seconds(event.delay_s)}" if event.delay_s else "")


def _last_run(told: Sequence[Told]) -> Told | None:
    return next((one for one in reversed(told) if one.event.kind is not Kind.LOST), None)


def _outputs(event: Event, entry: Entry | None) -> Iterator[str]:
    if event.result is not None:
        yield from _block("result", event.result)
    if event.stdout:
        yield from _block("stdout", event.stdout)
    if event.stderr:
        yield from _block("stderr", event.stderr)
    detail = event.detail or (entry.failure.detail if entry and entry.failure else "")
    if detail and detail != event.stderr:
        yield from _block("what it left", detail)


def _block(title: str, text: str) -> list[str]:
    if not text.strip():
        return []
    return ["", f"{title}:", *(f"  {line}" for line in safe_lines(text.rstrip("\n")))]

"""Results as rows: a dict for each param that is done, for tables and data frames.

A row has the param's keys as they are, then the result's, then ours: `_id _status _attempt
_seconds _host _reason`. A param or result that is no object stands under `param` or `result`.
Where keys collide the param keeps its name: an equal value stands there once, another one under
`result.KEY`. Our own names are always ours: a param's `_id` becomes `param._id`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from minionize.contracts.engine import ForgetsDone, Queue
from minionize.events import Event, Kind
from minionize.status.large import LargeResults
from minionize.status.listing import scanned
from minionize.status.read import Faults, Report, parse_line, read_lines
from minionize.values import Entry, State

OURS = ("_id", "_status", "_attempt", "_seconds", "_host", "_reason")
OUTPUTS = ("_stdout", "_stderr")
LOST = "_lost"
"""What became of a result that is not there, in rows that had one."""
_LEFT_OUT = re.compile(r"\[\.\.\. (?:about )?\d+ bytes left out \.\.\.\]")
"""What stands in output of which only a part was kept."""
_BATCH = 10_000
"""Runs whose params are looked up together: where they were put in many small portions, each look
opens as many files."""
_BATCH_BYTES = 4 * 1024 * 1024
"""Their events take about so much at most."""
_BITS = 1 << 28
"""Ids that are numbers below this cost one bit each while they are looked over."""


_MAY_BE_DONE = (State.DONE, State.RUNNING)
"""A minion reports an ack some seconds before the queue counts it."""


class Want(NamedTuple):
    """What the rows should hold."""

    dead: bool = False
    """Dead letters too, after the rest."""
    output: bool = False
    """Captured output, as `_stdout` and `_stderr`."""
    parse_output: bool = False
    """Captured standard output is JSON (or its last line is): use it as the result."""
    large: LargeResults | None = None
    """Where results are that are too large for a line."""


class _Run(NamedTuple):
    event: Event
    host: str


JUST_DONE = Want()


def result_rows(
    queue: Queue | None, folder: Report, want: Want = JUST_DONE, faults: Faults | None = None
) -> Iterator[dict[str, Any]]:
    """A row for each param that the report in `folder` knows as done, in the order in which
    each minion did them.

    Where `queue` keeps what is done, what was put back to work since has no row until it runs
    again, and what was dropped then has none. Elsewhere the last ack of an id wins, with
    `want.dead` the last ack or dead letter. Params come from the events, else from `queue`; a
    param that neither has leaves a row without its keys.

    Memory is bounded by the repeated ids and the dead letters, not by the params, as long as
    ids are numbers.
    """
    faults = Faults() if faults is None else faults
    knows_done = queue is not None and queue.traits.keeps_done
    want = want._replace(large=LargeResults(folder, faults))
    repeated = _repeated(folder)
    last: dict[str, _Run] = {}
    dead: dict[str, _Run] = {}
    batch: list[_Run] = []
    size = 0
    letters = (b'["a"', b'["d"') if want.dead else (b'["a"',)
    for source, line in read_lines(folder, faults):
        if not line.startswith(letters):
            continue
        event = parse_line(source, line, faults)
        if event is None:
            continue
        run = _Run(event, source.host)
        if event.kind is Kind.DEAD:
            _keep_later(dead, run)
        elif event.id in repeated:
            _keep_later(last, run)
        else:
            batch.append(run)
            size += len(line)
            if len(batch) >= _BATCH or size >= _BATCH_BYTES:
                yield from _rows(queue, batch, want, faults)
                batch.clear()
                size = 0
    # Who was last by clocks of different hosts is only asked where the queue can't tell.
    batch.extend(
        run for run in last.values() if knows_done or not _after(dead.get(run.event.id), run)
    )
    yield from _rows(queue, batch, want, faults)
    if want.dead:
        yield from _dead_rows(queue, dead, last, want)


def make_row(
    param: str | None,
    result: str | None,
    ours: Mapping[str, Any],
) -> dict[str, Any]:
    """One row from the JSON texts of a param and of its result (None: there is none)."""
    row: dict[str, Any] = {}
    if param is not None:
        for key, value in _columns(param, "param").items():
            row[f"param.{key}" if key in ours else key] = value
    if result is not None:
        for key, value in _columns(result, "result").items():
            if key in row and key not in ours and _same(row[key], value):
                continue
            while key in row or key in ours:
                key = f"result.{key}"
            row[key] = value
    row.update(ours)
    return row


def _columns(text: str, name: str) -> dict[str, Any]:
    try:
        value = parsed(text)
    except (ValueError, RecursionError):
        value = text
    return value if isinstance(value, dict) else {name: value}


def parsed(text: str) -> Any:
    """The value of a JSON text, or of what Python's and JavaScript's libraries take for one: NaN is
    null, and an infinity, or a number that is too large for one, the text `Infinity` or
    `-Infinity`, as in what functions return."""
    if _HUGE.search(text):
        return json.loads(text, parse_constant=_not_finite.get, parse_float=_float)
    return json.loads(text, parse_constant=_not_finite.get)


_HUGE = re.compile(r"\d[eE]\+?\d{3}|\d{300}")
"""In a text with a number that may be too large. To look at each number takes far longer."""
_not_finite: dict[str, str] = {"Infinity": "Infinity", "-Infinity": "-Infinity"}


def _float(digits: str) -> float | str:
    value = float(digits)
    return value if math.isfinite(value) else ("Infinity" if value > 0 else "-Infinity")


def _same(one: Any, other: Any) -> bool:
    # True is equal to 1 in Python, and is another value in JSON.
    return type(one) is type(other) and bool(one == other)


def _rows(
    queue: Queue | None, runs: list[_Run], want: Want, faults: Faults
) -> Iterator[dict[str, Any]]:
    knows_done = queue is not None and queue.traits.keeps_done
    unknown = [run.event.id for run in runs if knows_done or run.event.param is None]
    entries = queue.look_up(unknown) if queue is not None and unknown else {}
    below = 0
    if len(entries) < len(unknown) and isinstance(queue, ForgetsDone):
        below = queue.forgotten_below()
    for event, host in runs:
        param, entry = event.param, entries.get(event.id)
        if knows_done and entry is not None and entry.state not in _MAY_BE_DONE:
            continue
        if param is None and entry is not None:
            param = entry.text
        if param is None and below and event.id.isdecimal() and int(event.id) < below:
            faults.forgotten += 1
            continue
        if param is None and knows_done:
            continue  # dropped since
        ours = _ours(event.id, event, host, State.DONE, event.reason)
        result, lost = _result(event, want)
        if lost:
            ours[LOST] = lost
        elif event.stdout is None:
            faults.without_output += want.output or (want.parse_output and result is None)
        elif want.parse_output and result is None:
            if _LEFT_OUT.search(event.stdout):
                faults.cut += 1
            else:
                faults.no_json += 1
        yield make_row(param, result, _with_output(ours, event, want))


def _dead_rows(
    queue: Queue | None, dead: dict[str, _Run], done: Mapping[str, _Run], want: Want
) -> Iterator[dict[str, Any]]:
    entries = _dead_entries(queue)
    if entries is not None:
        for entry in entries:
            event, host = dead.get(entry.id) or _Run(
                Event(Kind.DEAD, 0.0, entry.id, attempt=entry.attempt), ""
            )
            reason = (entry.failure.reason if entry.failure else "") or event.reason
            ours = _ours(entry.id, event, host, State.DEAD, reason)
            yield make_row(entry.text, None, _with_output(ours, event, want))
        return
    for id_, (event, host) in dead.items():
        if id_ in done and not _after(_Run(event, host), done[id_]):
            continue
        ours = _ours(id_, event, host, State.DEAD, event.reason)
        yield make_row(event.param, None, _with_output(ours, event, want))


def _dead_entries(queue: Queue | None) -> Iterator[Entry] | None:
    """The queue's dead letters; it knows best, also of those that no minion lived to report.
    None where it can't list them."""
    return None if queue is None else scanned(queue, State.DEAD)


def _result(event: Event, want: Want) -> tuple[str | None, str]:
    """The text of the result, and else why there is none that was there."""
    if event.result_file and want.large is not None:
        return want.large.text(event.result_file, event.id)
    if event.result is None and event.detail.startswith("result lost"):
        return None, event.detail
    if event.result is None and want.parse_output:
        return _json_output(event.stdout), ""
    return event.result, ""


def _json_output(stdout: str | None) -> str | None:
    """The output if it is JSON, else its last line if that is."""
    if stdout is None or not stdout.strip():
        return None
    for text in (stdout, stdout.strip().rsplit("\n", 1)[-1]):
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            continue
        return text
    return None


def _ours(id_: str, event: Event, host: str, state: State, reason: str) -> dict[str, Any]:
    values = (id_, state.value, event.attempt or None, event.seconds, host or None, reason or None)
    return dict(zip(OURS, values, strict=True))


def _with_output(ours: dict[str, Any], event: Event, want: Want) -> dict[str, Any]:
    if want.output:
        ours.update(zip(OUTPUTS, (event.stdout, event.stderr), strict=True))
    return ours


def _keep_later(runs: dict[str, _Run], run: _Run) -> None:
    known = runs.get(run.event.id)
    if known is None or known.event.at_s <= run.event.at_s:
        runs[run.event.id] = run


def _after(run: _Run | None, other: _Run) -> bool:
    return run is not None and run.event.at_s > other.event.at_s


def _repeated(folder: Report) -> set[str]:
    """The ids that were acked more than once, as happens where a minion died, or that were
    dead once (to tell the later of the two)."""
    bits = bytearray()
    others: set[bytes] = set()
    repeated: set[str] = set()
    # What is wrong with the files is told when they are read for good.
    for _, line in read_lines(folder, Faults()):
        is_dead = line.startswith(b'["d"')
        if not is_dead and not line.startswith(b'["a"'):
            continue
        pieces = line.split(b'"', 4)
        if len(pieces) < 5:
            continue
        id_ = pieces[3]
        if is_dead:
            repeated.add(id_.decode("ascii", "replace"))
            continue
        if id_.isdigit() and len(id_) < 10 and (number := int(id_)) < _BITS and id_[0] != 48:
            place, bit = number >> 3, 1 << (number & 7)
            if place >= len(bits):
                bits.extend(bytes(max(place + 1 - len(bits), 65536)))
            if not bits[place] & bit:
                bits[place] |= bit
                continue
        elif id_ not in others:
            others.add(id_)
            continue
        repeated.add(id_.decode("ascii", "replace"))
    return repeated

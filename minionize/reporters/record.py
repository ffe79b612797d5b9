"""The lines of a report: one event as one short line of JSON, and back.

docs/report-format.md describes them for other readers. A line of a plain ack is an array of at
most nine places and at most 100 bytes; what only some events have stands in an object at its end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from minionize.errors import ForeignVersion
from minionize.events import Event, Kind

VERSION = 1
HEADER_KEY = "minionize-report"

RESULT_LIMIT = 64 * 1024
"""Bytes of JSON of a result in a line; a longer one has a file of its own."""
DETAIL_LIMIT = 16 * 1024
OUTPUT_LIMIT = 128 * 1024
"""Characters of captured output that are kept per stream: the worker cuts it, this is a guard."""
PACK_FROM = 512
"""Output of this many characters or more is deflated."""

_LETTERS = {
    Kind.ACK: "a",
    Kind.GIVE_BACK: "g",
    Kind.DEAD: "d",
    Kind.LOST: "l",
    Kind.BEGIN: "b",
    Kind.END: "e",
}
_encode = json.JSONEncoder(separators=(",", ":")).encode
"""`json.dumps` with separators would make an encoder for each line."""
_KINDS = {letter: kind for kind, letter in _LETTERS.items()}


class Source(NamedTuple):
    """Who wrote the events of a file: its header."""

    minion: str
    host: str = ""
    pid: int = 0
    slots: int = 0
    command: str = ""
    began: float = 0.0
    """Unix time that the times of the file's events count from."""


def header_line(source: Source) -> str:
    """The first line of each file of a report."""
    return (
        json.dumps({HEADER_KEY: VERSION, **source._asdict()}, separators=(",", ":"), default=str)
        + "\n"
    )


def parse_header(value: Mapping[str, Any]) -> Source:
    """The header from its parsed line. ForeignVersion, or ValueError where it is none."""
    version = value.get(HEADER_KEY)
    if not isinstance(version, int):
        raise ValueError("no header of a report")
    if version != VERSION:
        raise ForeignVersion(
            f"report of version {version}, this minionize reads version {VERSION}: "
            "use the minionize that wrote it"
        )
    return Source(
        minion=str(value["minion"]),
        host=str(value.get("host", "")),
        pid=int(value.get("pid", 0)),
        slots=int(value.get("slots", 0)),
        command=str(value.get("command", "")),
        began=float(value["began"]),
    )


def event_line(event: Event, began: float) -> str:
    """Any event as a line. Plain acks have a quicker way, in json_lines.py, to the same line."""
    peak = event.peak_kib
    if peak is not None and event.peak_below:
        peak = -peak
    places: list[Any] = [
        _LETTERS[event.kind],
        _rounded(event.at_s - began, 3),
        event.id,
        event.attempt,
        event.slot,
        _rounded(event.seconds, 6),
        event.exit_status,
        _rounded(event.cpu_s, 4),
        peak,
    ]
    extras = _extras(event)
    if extras:
        # Results and params are JSON already: pasted as they are, not quoted once more.
        head = _encode(places)
        return f"{head[:-1]},{{{','.join(extras)}}}]\n"
    while places[-1] is None:
        places.pop()
    return _encode(places) + "\n"


def parse_event(places: list[Any], began: float) -> Event:
    """The event of a parsed line. ValueError, TypeError, KeyError or IndexError for noise."""
    extras: dict[str, Any] = places.pop() if isinstance(places[-1], dict) else {}
    if len(places) < 9:
        places = places + [None] * (9 - len(places))
    letter, at_s, id_, attempt, slot, seconds, exit_status, cpu_s, peak_kib = places[:9]
    if not isinstance(id_, str):
        raise ValueError("an id is a string")
    event = Event(
        _KINDS[letter],
        began + at_s,
        id_,
        0 if attempt is None else int(attempt),
        -1 if slot is None else int(slot),
        _number(seconds),
        None if exit_status is None else int(exit_status),
        _number(cpu_s),
        None if peak_kib is None else abs(int(peak_kib)),
        peak_kib is not None and peak_kib < 0,
    )
    if not extras:
        return event
    return event._replace(
        reason=str(extras.get("why", "")),
        detail=_detail(extras),
        charged=bool(extras.get("charged", 0)),
        delay_s=float(extras.get("delay", 0.0)),
        result=_text(extras, "result"),
        stdout=_unpack(extras, "out"),
        stderr=_unpack(extras, "err"),
        param=_text(extras, "param"),
        command=str(extras.get("cmd", "")),
        result_file=str(extras.get("result_file", "")),
    )


def _detail(extras: Mapping[str, Any]) -> str:
    if "result_bytes" in extras:  # minions of 1.0 kept no larger ones
        return f"result lost: {extras['result_bytes']} bytes of JSON"
    return str(extras.get("detail", ""))


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _rounded(value: float | None, digits: int) -> float | int | None:
    if value is None:
        return None
    rounded = round(value, digits)
    return int(rounded) if rounded == int(rounded) else rounded


def _extras(event: Event) -> list[str]:
    extras: list[str] = []

    def add(key: str, value: Any) -> None:
        extras.append(f'"{key}":{json.dumps(value)}')

    if event.reason:
        add("why", event.reason[:500])
    if event.detail:
        add("detail", event.detail[-DETAIL_LIMIT:])
    if event.charged:
        add("charged", 1)
    if event.delay_s:
        add("delay", round(event.delay_s, 3))
    if event.result is not None:
        if len(event.result) <= RESULT_LIMIT:
            extras.append(f'"result":{_one_line(event.result)}')
        else:
            add("result_bytes", len(event.result))
    if event.result_file:
        add("result_file", event.result_file)
    for key, output in (("out", event.stdout), ("err", event.stderr)):
        if output is None:
            continue
        output = output[-OUTPUT_LIMIT:]
        if len(output) < PACK_FROM:
            add(key, output)
        else:
            add(key + "z", _pack(output))
    if event.param is not None:
        extras.append(f'"param":{_one_line(event.param)}')
    if event.command:
        add("cmd", event.command)
    return extras


def _one_line(text: str) -> str:
    # In JSON a line break can only stand between values, where a blank does as well.
    return text.replace("\n", " ").replace("\r", " ")


def _text(extras: Mapping[str, Any], key: str) -> str | None:
    if key not in extras:
        return None
    return json.dumps(extras[key], separators=(",", ":"))


def _pack(text: str) -> str:
    import binascii
    import zlib

    packed = zlib.compress(text.encode("utf-8", "surrogatepass"), 1)
    return binascii.b2a_base64(packed, newline=False).decode("ascii")


def _unpack(extras: Mapping[str, Any], key: str) -> str | None:
    plain = extras.get(key)
    if plain is not None:
        return str(plain)
    packed = extras.get(key + "z")
    if packed is None:
        return None
    import binascii
    import zlib

    inflater = zlib.decompressobj()
    try:
        # Bounded, whatever a damaged or hostile file claims to hold.
        raw = inflater.decompress(binascii.a2b_base64(str(packed)), 8 * OUTPUT_LIMIT)
    except zlib.error as error:
        raise ValueError(f"packed output is damaged: {error}") from error
    return raw.decode("utf-8", "surrogatepass")

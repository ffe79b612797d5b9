"""Reads the report of a queue: events as a stream, roll-ups as a list.

Reports are written by many minions that may be killed at any moment, so a reader copes with
whatever stands in the folder: it yields what is whole, and counts or names what is not.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple, cast

from minionize.beneath import Each, NotFollowed, open_plain
from minionize.errors import EngineUnavailable, ForeignVersion, UsageError
from minionize.events import Event
from minionize.reporters.record import Source, parse_event, parse_header
from minionize.reporters.remote import RemoteReport
from minionize.reporters.rollup import MinionRoll, parse_roll

Folder = str | os.PathLike[str]
"""Of a report."""
Report = str | os.PathLike[str] | RemoteReport
"""A folder, or a server."""

LINE_LIMIT = 16 * 1024 * 1024
"""No line that a minion writes is as long; what is longer is noise, and never held whole."""

ROLL_LIMIT = 1024 * 1024

_PART = re.compile(r"(?P<minion>[A-Za-z0-9._-]+)\.(?P<number>\d{4,})\.jsonl(?P<packed>\.gz)?")
_ROLL = re.compile(r"[A-Za-z0-9._-]+\.roll")


@dataclass
class Faults:
    """What a reader could not read. Nothing is skipped without being counted here."""

    torn: int = 0
    """Last lines without an end: being written, or left by a minion that was killed."""
    broken: int = 0
    """Lines that are no events."""
    forgotten: int = 0
    """Rows left out, since the queue dropped their params."""
    without_output: int = 0
    """Rows of which the output was asked for, and none is in the report."""
    no_json: int = 0
    """Rows whose output was to be JSON, and is not."""
    cut: int = 0
    """Rows whose output was to be JSON, of which only a part was kept."""
    files: dict[str, str] = field(default_factory=dict)
    """Files that could not be read (to the end), and why."""

    lost: dict[str, tuple[str, int]] = field(default_factory=dict)
    """By reason: a line on the first large result that can't be had, and how many more."""

    def lines(self) -> list[str]:
        """What a person should know, a line each. A torn line of a minion at work is no news."""
        told = [f"{name}: {why}" for name, why in sorted(self.files.items())]
        for first, more in self.lost.values():
            told.append(first + (f"; {more:,} more are like this" if more else ""))
        if self.broken:
            told.append(f"{self.broken} lines of the report are no events and were skipped")
        if self.forgotten:
            told.append(f"{self.forgotten:,} left out: minion purge --done dropped their params")
        if self.without_output:
            told.append(
                f"{self.without_output} rows have no output: their runs printed nothing, or their "
                "minions kept none (--no-capture, another reporter): put them back to work (minion "
                "retry --done; on a broker feed them again), then minionize --capture keeps it"
            )
        if self.cut:
            told.append(
                f"{self.cut} rows have output of which only a part was kept, so it is no JSON: "
                "minionize --capture keeps 64 KiB, --stdout FILE all of it"
            )
        if self.no_json:
            told.append(
                f"{self.no_json} rows have output that is no JSON, nor is its last line: "
                "--output shows it"
            )
        return told


class Part(NamedTuple):
    """A file of events."""

    minion: str
    number: int
    path: str
    packed: bool


def parts(folder: Folder) -> list[Part]:
    """The files of events in `folder`, by minion, oldest first; empty where there is none."""
    found: dict[tuple[str, int], Part] = {}
    for name in _names(folder):
        match = _PART.fullmatch(name)
        if match is None:
            continue
        part = Part(
            match["minion"],
            int(match["number"]),
            os.path.join(folder, name),
            match["packed"] is not None,
        )
        key = (part.minion, part.number)
        # Both are there after a crash between packing and removing: the plain one is whole.
        if key not in found or not part.packed:
            found[key] = part
    return [found[key] for key in sorted(found)]


def read_events(folder: Report, faults: Faults) -> Iterator[tuple[Source, Event]]:
    """All events of a report with who wrote them, in the order each minion wrote them.

    One line is held at a time.
    """
    for source, line in read_lines(folder, faults):
        event = parse_line(source, line, faults)
        if event is not None:
            yield source, event


def parse_line(source: Source, line: bytes, faults: Faults) -> Event | None:
    """The event of a line; None for noise, which is counted."""
    try:
        return parse_event(json.loads(line.decode()), source.began)
    except (ValueError, TypeError, KeyError, IndexError, RecursionError, OverflowError):
        faults.broken += 1
        return None


def read_lines(folder: Report, faults: Faults) -> Iterator[tuple[Source, bytes]]:
    """The lines that look like events, unparsed, with who wrote them."""
    if isinstance(folder, RemoteReport):
        yield from _remote_lines(folder, faults)
        return
    for part in parts(folder):
        yield from read_part(part, faults)


def _remote_lines(report: RemoteReport, faults: Faults) -> Iterator[tuple[Source, bytes]]:
    sources: dict[bytes, Source | None] = {}
    headers: dict[bytes, bytes] = {}
    for minion, line in report.lines():
        if minion not in sources:
            if minion not in headers:
                headers = report.headers()  # it began since
            sources[minion] = _remote_source(minion, headers.get(minion), faults)
        source = sources[minion]
        if source is not None and line.startswith(b"["):
            yield source, line
        elif source is not None:
            faults.broken += 1
    gone, _ = report.let_go()
    if gone:
        faults.files[str(report)] = (
            f"let go of its {gone:,} oldest events, which are missing here: ?keep=N keeps more"
        )


def _remote_source(minion: bytes, header: bytes | None, faults: Faults) -> Source | None:
    name = minion.decode("utf-8", "backslashreplace")
    if header is None:
        faults.files[name] = "has no header: not read"
        return None
    try:
        return parse_header(json.loads(header))
    except ForeignVersion as error:
        faults.files[name] = str(error)
    except (ValueError, TypeError, KeyError, RecursionError):
        faults.files[name] = "has a header that is none: not read"
    return None


def read_part(part: Part, faults: Faults) -> Iterator[tuple[Source, bytes]]:
    """The lines of one file that look like events, unparsed, with who wrote them."""
    source: Source | None = None
    try:
        with _open(part) as file:
            for line in _whole_lines(file, faults):
                if line.startswith(b"["):
                    if source is None:
                        faults.files[os.path.basename(part.path)] = "has no header: not read"
                        return
                    yield source, line
                elif line.startswith(b"{"):
                    try:
                        source = parse_header(json.loads(line))
                    except ForeignVersion as error:
                        faults.files[os.path.basename(part.path)] = str(error)
                        return
                    except (ValueError, TypeError, KeyError, RecursionError):
                        faults.broken += 1
                elif line.strip():
                    faults.broken += 1
    except FileNotFoundError:
        faults.files[os.path.basename(part.path)] = "vanished while it was read"
    except (OSError, EOFError, zlib.error) as error:
        faults.files[os.path.basename(part.path)] = f"can't be read to its end: {error}"


def _open(part: Part) -> BinaryIO:
    if part.packed:
        return _unpacked(part.path)
    try:
        return open(open_plain(part.path, os.O_RDONLY), "rb")
    except FileNotFoundError:
        # Packed since the folder was listed.
        return _unpacked(f"{part.path}.gz")


def _unpacked(path: str) -> BinaryIO:
    raw = open(open_plain(path, os.O_RDONLY), "rb")  # noqa: SIM115
    packed = gzip.GzipFile(fileobj=raw)
    packed.myfileobj = raw  # type: ignore[assignment]  # closed with it
    return cast(BinaryIO, packed)


def _whole_lines(file: BinaryIO, faults: Faults) -> Iterator[bytes]:
    while line := file.readline(LINE_LIMIT):
        if line.endswith(b"\n"):
            yield line
        elif len(line) < LINE_LIMIT:
            faults.torn += 1
        else:
            faults.broken += 1
            while (rest := file.readline(LINE_LIMIT)) and not rest.endswith(b"\n"):
                continue


def read_rolls(folder: Report, faults: Faults) -> list[MinionRoll]:
    """The roll-up of each minion, by the time it began. Reads nothing else."""
    rolls = _remote_rolls(folder, faults) if isinstance(folder, RemoteReport) else (
        _folder_rolls(folder, faults)
    )  # fmt: skip
    rolls.sort(key=lambda roll: (roll.began, roll.minion))
    return rolls


def _remote_rolls(report: RemoteReport, faults: Faults) -> list[MinionRoll]:
    rolls: dict[bytes, MinionRoll] = {}  # a scan may meet one twice
    try:
        for minion, line in report.rolls():
            try:
                rolls[minion] = parse_roll(line)
            except (ForeignVersion, ValueError, RecursionError) as error:
                faults.files[minion.decode("utf-8", "backslashreplace")] = str(error)
        _, gone = report.let_go()
    except EngineUnavailable as error:
        # What the queue itself says is worth showing without it.
        faults.files[str(report)] = str(error).removeprefix(f"{report}: ")
        return []
    if gone:
        faults.files[str(report)] = f"let go of the {gone:,} minions that were silent longest"
    return list(rolls.values())


def _folder_rolls(folder: Folder, faults: Faults) -> list[MinionRoll]:
    rolls = []
    for name in _names(folder):
        if not _ROLL.fullmatch(name):
            continue
        try:
            with open(open_plain(os.path.join(folder, name), os.O_RDONLY), "rb") as file:
                rolls.append(parse_roll(file.read(ROLL_LIMIT)))
        except FileNotFoundError:
            faults.files[name] = "vanished while it was read"
        except ForeignVersion as error:
            faults.files[name] = str(error)
        except (OSError, ValueError, RecursionError) as error:
            faults.files[name] = f"can't be read, so this minion is left out here: {error}"
    return rolls


def exists(report: Report) -> bool:
    """Whether anything was ever reported there, as far as that can be told cheaply."""
    if isinstance(report, RemoteReport):
        return bool(read_rolls(report, Faults()))
    return os.path.isdir(report)


def _names(folder: Folder) -> list[str]:
    try:
        return Each(os.fspath(folder), follow=None).names()
    except NotFollowed as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from error
    except (FileNotFoundError, NotADirectoryError):
        return []

"""Removing the oldest files of a report, and telling what was done lately."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Collection, Iterable
from typing import NamedTuple

from minionize.reporters.parts import RESULTS
from minionize.reporters.remote import RemoteReport
from minionize.status.read import (
    Faults,
    Folder,
    Part,
    Report,
    parse_line,
    parts,
    read_lines,
    read_part,
)

_ROLL = re.compile(r"([A-Za-z0-9._-]+)\.roll")
_RESULT = re.compile(r"\.?([A-Za-z0-9_-][A-Za-z0-9._-]*)\.[0-9a-f]{12}\.json(\.tmp)?")
"""The file of a large result, or its draft, with the minion."""


class Shed(NamedTuple):
    """What was removed."""

    files: int
    size: int
    """Bytes."""


def lowest_done_since(report: Report, since_s: float, faults: Faults) -> int | None:
    """The lowest of the ids (which are numbers) that were done at `since_s` (Unix time) or later;
    None where none was. Files of a folder that were written last before that are not read."""
    if isinstance(report, RemoteReport):
        found = iter(read_lines(report, faults))
    else:
        found = (
            item
            for part in parts(report)
            if _written_at(part.path) >= since_s
            for item in read_part(part, faults)
        )
    lowest: int | None = None
    for source, line in found:
        done = _done(line)
        if done is not None and source.began + done[0] >= since_s:
            lowest = done[1] if lowest is None else min(lowest, done[1])
    return lowest


def _done(line: bytes) -> tuple[float, int] | None:
    """Of a line about a param that was done the seconds since the minion began, and the id; there
    may be millions, so only what is wanted is taken out of it."""
    if not line.startswith(b'["a",'):
        return None
    try:
        _, _, seconds, id_, _ = line.split(b'"', 4)
        return float(seconds.strip(b", ")), int(id_)
    except ValueError:
        return None  # noise, or an id that is no number


def remove_old_files(folder: Folder, before_s: float, alive: Collection[str]) -> Shed:
    """Remove what was written last before `before_s` (Unix time): files of events with the large
    results that they name, and the roll-ups and results of minions of which no events are left.
    Those that minions in `alive` write to stay. OSError for a folder behind a link, and what may
    not be removed."""
    # Opened once, and not through a link: nothing is removed anywhere else.
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return Shed(0, 0)
    except NotADirectoryError:
        raise OSError(errno.ELOOP, "it is a link, or no folder") from None
    try:
        return _remove_in(fd, parts(folder), before_s, alive)
    finally:
        os.close(fd)


def _remove_in(fd: int, found: list[Part], before_s: float, alive: Collection[str]) -> Shed:
    results = _open_results(fd)
    try:
        return _remove_both(fd, results, found, before_s, alive)
    finally:
        if results is not None:
            os.close(results)


def _remove_both(
    fd: int, results: int | None, found: list[Part], before_s: float, alive: Collection[str]
) -> Shed:
    """`results`: the folder of large results, if there is one."""
    newest = {part.minion: part.number for part in found}
    left: set[str] = set(alive)
    gone: list[int] = []
    for part in found:
        written_to = part.minion in alive and part.number == newest[part.minion]
        name = os.path.basename(part.path)
        removed = None
        if not written_to:
            named = _results_of(part) if results is not None and _is_old(fd, name, before_s) else []
            # A plain part may have its packed twin beside it.
            twin = None if part.packed else _removed(fd, f"{name}.gz", before_s)
            removed = _removed(fd, name, before_s)
            gone += [size for size in (twin, removed) if size is not None]
        if removed is None:
            left.add(part.minion)
        elif results is not None:
            gone += _removed_all(results, named, before_s)
    gone += _removed_all(fd, _names_without(fd, _ROLL, left), before_s)
    if results is not None:
        gone += _removed_all(results, _names_without(results, _RESULT, left), before_s)
    return Shed(len(gone), sum(gone))


def _open_results(fd: int) -> int | None:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(RESULTS, flags, dir_fd=fd)
    except FileNotFoundError:
        return None


def _results_of(part: Part) -> list[str]:
    """The names of the large results that the events of a file name."""
    found = []
    for source, line in read_part(part, Faults()):
        if b'"result_file"' in line:
            event = parse_line(source, line, Faults())
            if event is not None and _RESULT.fullmatch(event.result_file):
                found.append(event.result_file)
    return found


def _names_without(fd: int, pattern: re.Pattern[str], minions: Collection[str]) -> list[str]:
    """The names in a folder that match, but for those of these minions."""
    matches = filter(None, map(pattern.fullmatch, os.listdir(fd)))
    return [match[0] for match in matches if match[1] not in minions]


def _removed_all(fd: int, names: Iterable[str], before_s: float) -> list[int]:
    """The bytes of each that was removed."""
    sizes = [_removed(fd, name, before_s) for name in names]
    return [size for size in sizes if size is not None]


def _is_old(fd: int, name: str, before_s: float) -> bool:
    try:
        return os.stat(name, dir_fd=fd, follow_symlinks=False).st_mtime < before_s
    except FileNotFoundError:
        return False


def _removed(fd: int, name: str, before_s: float) -> int | None:
    """Its bytes; None if it is younger, or no file."""
    with contextlib.suppress(FileNotFoundError):
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if stat.S_ISREG(status.st_mode) and status.st_mtime < before_s:
            os.unlink(name, dir_fd=fd)
            return status.st_size
    return None


def _written_at(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except FileNotFoundError:
        return float("inf")  # packed or removed just now: reading it says which

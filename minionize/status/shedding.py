"""Removing the oldest files of a report, and telling what was done lately."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Collection
from typing import NamedTuple

from minionize.reporters.remote import RemoteReport
from minionize.status.read import (
    Faults,
    Folder,
    Part,
    Report,
    parts,
    read_lines,
    read_part,
)

_ROLL = re.compile(r"([A-Za-z0-9._-]+)\.roll")


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
    """Remove what was written last before `before_s` (Unix time): files of events, and the
    roll-ups of minions of which no events are left. Those that minions in `alive` write to
    stay. OSError for a folder behind a link, and what may not be removed."""
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
    newest = {part.minion: part.number for part in found}
    left: set[str] = set(alive)
    files = size = 0
    for part in found:
        written_to = part.minion in alive and part.number == newest[part.minion]
        name = os.path.basename(part.path)
        # A plain part may have its packed twin beside it.
        removed = None
        if not written_to:
            twin = 0 if part.packed else (_removed(fd, f"{name}.gz", before_s) or 0)
            removed = _removed(fd, name, before_s)
            size += twin
            files += bool(twin)
        if removed is None:
            left.add(part.minion)
        else:
            files, size = files + 1, size + removed
    for name in os.listdir(fd):
        match = _ROLL.fullmatch(name)
        if match is not None and match[1] not in left:
            removed = _removed(fd, name, before_s)
            if removed is not None:
                files, size = files + 1, size + removed
    return Shed(files, size)


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

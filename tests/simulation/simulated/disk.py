"""The disk: what the server has, what each host has cached and not written back, and names.

A local disk is the same with one host: the server is the platter, the host's view is the page
cache, and the host's crash is a power cut.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, NamedTuple

Write = tuple[int, bytes]


def failed(number: int, path: str = "") -> OSError:
    """As the system says it."""
    return OSError(number, os.strerror(number), path or None)


def overlay(content: bytearray, writes: list[Write]) -> None:
    """Apply writes, in order."""
    for offset, piece in writes:
        if len(content) < offset:
            content.extend(b"\0" * (offset - len(content)))
        content[offset : offset + len(piece)] = piece


class Inode:
    """A file. `content` is what outlives every host."""

    def __init__(self, key: object) -> None:
        self.key = key
        self.content = bytearray()
        self.mark = 0
        """Stands for the content: equal histories have equal marks."""
        self.views: dict[int, bytearray] = {}
        """What a host sees: its cache, with what it has not written back."""
        self.view_marks: dict[int, int] = {}
        self.dirty: dict[int, list[Write]] = {}
        self.holder: Opened | None = None
        """Who has the lock."""
        self.changed_at = 0.0
        self.links = 0

    def view(self, host: int) -> bytearray:
        """What this host reads: cached for ever, unless it is told to forget."""
        found = self.views.get(host)
        if found is None:
            found = self.views[host] = bytearray(self.content)
            writes = self.dirty.get(host, [])
            self.view_marks[host] = hash((self.mark, *writes)) if writes else self.mark
            overlay(found, writes)
        return found

    def write(self, host: int, offset: int, piece: bytes) -> None:
        """Into the host's cache."""
        overlay(self.view(host), [(offset, piece)])
        self.view_marks[host] = hash((self.view_marks[host], offset, piece))
        self.dirty.setdefault(host, []).append((offset, piece))

    def flush(self, host: int) -> bool:
        """Write back; whether there was anything."""
        writes = self.dirty.pop(host, None)
        if not writes:
            return False
        overlay(self.content, writes)
        for offset, piece in writes:
            self.mark = hash((self.mark, offset, piece))
        return True

    def forget(self, host: int) -> None:
        """Drop what is cached and written back."""
        self.views.pop(host, None)
        self.view_marks.pop(host, None)

    def crash(self, host: int, kept: list[Write]) -> None:
        """The host is gone; of what it had not written back this much had arrived."""
        self.forget(host)
        self.dirty.pop(host, None)
        if kept:
            overlay(self.content, kept)
            self.mark = hash((self.mark, *kept))


class Version(NamedTuple):
    """What a name meant from some moment on."""

    since: float
    node: Inode | Folder | None
    host: int


class Folder:
    """Names. Each has a history, of which other hosts may see an older state for a while."""

    def __init__(self, key: object) -> None:
        self.key = key
        self.names: dict[str, list[Version]] = {}
        self.stable: dict[str, Inode | Folder] = {}
        """What a power cut leaves."""
        self.known: dict[tuple[int, str], int] = {}
        """The newest version of a name that a host has seen."""

    def now(self, name: str) -> Inode | Folder | None:
        """What the name means on the server."""
        versions = self.names.get(name)
        return versions[-1].node if versions else None

    def set(self, name: str, node: Inode | Folder | None, host: int, when: float) -> None:
        """A name comes, goes or changes."""
        versions = self.names.setdefault(name, [])
        before = versions[-1].node if versions else None
        if isinstance(before, Inode):
            before.links -= 1
        if isinstance(node, Inode):
            node.links += 1
        versions.append(Version(when, node, host))
        self.known[host, name] = len(versions) - 1

    def current(self) -> dict[str, Inode | Folder]:
        """All names on the server."""
        found = {}
        for name, versions in self.names.items():
            node = versions[-1].node
            if node is not None:
                found[name] = node
        return found

    def oldest_seen(self, name: str, host: int, must_see: float) -> int:
        """The oldest version that the host may still see; -1 is before there was any."""
        versions = self.names[name]
        low = self.known.get((host, name), -1)
        while low + 1 < len(versions) and versions[low + 1].since <= must_see:
            low += 1
        return low


@dataclass(eq=False)
class Opened:
    """An open file description: what a lock belongs to."""

    node: Inode | Folder
    actor: Any
    host: int
    path: str
    lost: bool = False
    """The server took its lock away: it is of no use any more."""

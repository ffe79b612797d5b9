"""Checks of `minion doctor`: the room in the queue's folder and in TMPDIR."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from minionize.cli.doctor_finding import FAIL, OK, WARN, Finding

LITTLE_BYTES = 1 << 30
LITTLE_INODES = 10_000
TRIED_BYTES = 1 << 20
"""So much is tried to be had in TMPDIR."""


def check_space(there: os.statvfs_result) -> Iterator[Finding]:
    """Free bytes and files, as far as the file system tells (a quota may be less)."""
    free = there.f_bavail * there.f_frsize
    said = f"{_size(free)} free"
    if free < 1 << 20:
        yield Finding(FAIL, "space", said, "free some: nothing can be put or settled without")
    elif free < LITTLE_BYTES:
        yield Finding(WARN, "space", said, "a million params take some 50 MiB with their report")
    else:
        yield Finding(OK, "space", said)
    if there.f_files:
        said = f"{there.f_favail:,} files can be made"
        if there.f_favail < LITTLE_INODES:
            yield Finding(WARN, "inodes", said, "remove files: each minion needs some ten")
        else:
            yield Finding(OK, "inodes", said)


def check_scratch(folder: str) -> Iterator[Finding]:
    """TMPDIR, where much output of programs and large params wait: is there room?"""
    what = "TMPDIR"
    there = os.statvfs(folder)
    said = f"{folder}: {_size(there.f_bavail * there.f_frsize)} free"
    if there.f_files:
        said += f", {there.f_favail:,} files can be made"
    try:
        # A quota is not in the numbers.
        fd = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600)
        try:
            os.posix_fallocate(fd, 0, TRIED_BYTES)
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            yield Finding(
                FAIL, what, f"{said}: {error.strerror}",
                "free some, or set TMPDIR: runs that print much are given back",
            )  # fmt: skip
            return
    if there.f_bavail * there.f_frsize < LITTLE_BYTES:
        yield Finding(WARN, what, said, "free some, or set TMPDIR to a disk with more")
    else:
        yield Finding(OK, what, said)


def _size(size: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:,.3g} TiB"

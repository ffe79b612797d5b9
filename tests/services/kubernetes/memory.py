"""A limit of memory for the processes of a container: a cgroup of version 1 or 2."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from services.processes import until

_V1 = Path("/sys/fs/cgroup/memory")
_V2 = Path("/sys/fs/cgroup")
_PREFIX = "minionize-"


class MemoryGroup:
    """A cgroup of its own. On version 2 the kernel kills all of it at once, as the kubelet asks
    for; on version 1 it kills one process, and `ooms` growing tells the kubelet to kill the rest.
    """

    def __init__(self, name: str, limit: int | None) -> None:
        """`limit` in bytes; None for none."""
        self._v1 = (_V1 / "memory.limit_in_bytes").exists()
        self.folder = (_V1 if self._v1 else _V2) / f"{_PREFIX}{name}"
        self.folder.mkdir()
        if limit is not None:
            self._limit(limit)

    def _limit(self, limit: int) -> None:
        names = ("memory.limit_in_bytes",) if self._v1 else ("memory.max", "memory.swap.max")
        for name, value in zip(names, (limit, 0), strict=False):
            with contextlib.suppress(FileNotFoundError):  # no account of swap in this kernel
                (self.folder / name).write_text(str(value))
        if not self._v1:
            (self.folder / "memory.oom.group").write_text("1")

    @property
    def entrance(self) -> Path:
        """A process that writes 0 there is a member."""
        return self.folder / "cgroup.procs"

    def ooms(self) -> int:
        """How many of its processes died for want of memory."""
        name = "memory.oom_control" if self._v1 else "memory.events"
        for line in (self.folder / name).read_text().splitlines():
            key, _, count = line.partition(" ")
            if key == "oom_kill":
                return int(count)
        return 0

    def close(self) -> None:
        """Remove it, once its processes are gone."""
        with contextlib.suppress(OSError):
            self.folder.rmdir()


def sweep(prefix: str) -> None:
    """Remove the groups whose names begin so: those of nodes that were killed."""
    for parent in (_V1, _V2):
        for folder in parent.glob(f"{_PREFIX}{prefix}*"):
            # Its last processes may be a moment from their end.
            until(lambda folder=folder: _removed(folder), f"{folder} is in use")  # type: ignore[misc]


def _removed(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        folder.rmdir()
    return not folder.exists()


def lacking() -> str:
    """Why memory can't be limited here; empty if it can."""
    try:
        MemoryGroup(f"probe-{os.getpid()}", 1 << 24).close()
    except OSError as error:
        return f"no cgroup with a limit of memory: {error}"
    return ""

"""The limits that a shell or a scheduler set around this minion (`ulimit`), and what it does with
them while it works.

Its soft limits are moved, as far as the hard ones let: open files up for its slots, sizes of files
up for its own, CPU seconds down by one so that it is warned (SIGXCPU) before it is killed. What it
starts gets the limits that were given, since programs rely on them: select() can't take a
descriptor above 1023, and some close every descriptor that they may have.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from minionize.errors import HostUnfit

T = TypeVar("T")

PER_SLOT = 6
"""Descriptors of a slot at most: two files of output, a pidfd, and files for --stdin, --stdout and
--stderr; of a function: two files of output, a link, two files of records, one in between."""
PER_WAITING = 4
"""Of a run that ended, while its output waits for its reader."""
RESERVE = 16
"""For the guard, the queue, the report, and what is opened for a moment."""


STAGES = 3
"""As many descriptors as are passed on to a program."""


# No named tuple: those are slow to make, and each minion's start would wait for that.
class Room:
    """What there are descriptors for."""

    __slots__ = ("backlog", "line", "slots")

    def __init__(self, slots: int, backlog: int, line: str = "") -> None:
        """`backlog`: ended runs whose output may wait for a slow reader. `line`: for a person,
        where there is less room than was asked for."""
        self.slots = slots
        self.backlog = backlog
        self.line = line


class Limits:
    """Of this process, from `adapt` on until `restore`."""

    def __init__(self) -> None:
        self._users = 0
        self.file_bytes: int | None = None
        """A program can't write a file that is longer; None for no limit."""
        self.cpu_s: int | None = None
        """A process is ended when it used so many CPU seconds; None for no limit."""
        self._null = -1
        self._stages: list[int] = []
        """Low descriptors, by which high ones are passed on to what is started."""
        self._given: dict[int, tuple[int, int]] = {}
        self._ours: dict[int, tuple[int, int]] = {}

    def adapt(self, slots: int, backlog: int) -> Room:
        """Move the limits for a minion of `slots` slots; returns how many there is room for.
        HostUnfit where there is none for a single one."""
        import resource

        self._users += 1
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        if not self._given:
            self.file_bytes = None if soft == resource.RLIM_INFINITY else soft
        if soft != hard:
            self._move(resource.RLIMIT_FSIZE, (soft, hard), (hard, hard))
        soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
        if not self._given:
            self.cpu_s = None if soft == resource.RLIM_INFINITY else soft
        if hard != resource.RLIM_INFINITY and hard > 1 and not 0 <= soft < hard:
            self._move(resource.RLIMIT_CPU, (soft, hard), (hard - 1, hard))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        kept = len(os.listdir("/proc/self/fd")) + RESERVE
        if soft != hard:
            kept += 1 + STAGES
        needed = kept + PER_SLOT * slots + PER_WAITING * backlog
        if soft == resource.RLIM_INFINITY or soft >= needed:
            return Room(slots, backlog)
        most = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
        if most > soft:
            if not self._stages:
                self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
                self._stages = [os.dup(self._null) for _ in range(STAGES)]
            self._move(resource.RLIMIT_NOFILE, (soft, hard), (most, hard))
        left = most - kept
        fit = min(slots, left // PER_SLOT)
        if fit < 1:
            self.restore()
            raise HostUnfit(
                f"a process may have {most} files open here, and a minion needs "
                f"{kept + PER_SLOT}: ulimit -n {kept + PER_SLOT}, or more"
            )
        # With one that waits none is started, so each slot's own are enough for it.
        line = ""
        if fit < slots:
            line = (
                f"a process may have {most} files open here, enough for -j {fit} but not for -j "
                f"{slots}: going on with -j {fit} (ulimit -n {kept + PER_SLOT * slots} is enough)"
            )
        return Room(fit, max(1, min(backlog, (left - PER_SLOT * fit) // PER_WAITING)), line)

    def _move(self, which: int, given: tuple[int, int], ours: tuple[int, int]) -> None:
        import resource

        try:
            resource.setrlimit(which, ours)
        except (OSError, ValueError):
            return  # a host of its own mind: we go on with what was given
        self._given.setdefault(which, given)
        self._ours[which] = ours

    def as_given(self, start: Callable[..., T]) -> Callable[..., T]:
        """`start`, which starts a process, under the limits that were given."""
        if not self._given:
            return start

        def started(*args: Any, file_actions: Sequence[Any] | None = None, **more: Any) -> T:
            stages = iter(self._stages)
            actions = None
            if file_actions is not None:
                actions = [self._staged(action, stages) for action in file_actions]
            _set(self._given)
            try:
                return start(*args, file_actions=actions, **more)
            finally:
                _set(self._ours)
                for stage in self._stages:
                    os.dup2(self._null, stage, inheritable=False)

        return started

    def _staged(self, action: Any, stages: Iterator[int]) -> Any:
        """The C library refuses to pass on a descriptor above the limit, so it goes through a
        low one."""
        kind, fd, *rest = action
        if not self._stages or kind != os.POSIX_SPAWN_DUP2 or fd in self._stages:
            return action
        return (kind, os.dup2(fd, next(stages), inheritable=False), *rest)

    def cut(self, size: int) -> bool:
        """Whether output of so many bytes in one file may not be whole."""
        return self.file_bytes is not None and size >= self.file_bytes

    def used_up(self, status: int, cpu_s: float | None) -> bool:
        """Whether a process that took `cpu_s` ended so since it may have no more."""
        if self.cpu_s is None or cpu_s is None:
            return False
        return status in (-signal.SIGXCPU, -signal.SIGKILL) and cpu_s > self.cpu_s - 1

    def restore(self) -> None:
        """Call it once for each `adapt`. After the last the limits are as they were given."""
        self._users -= 1
        if not self._users:
            for fd in self._stages:
                os.close(fd)
            if self._stages:
                os.close(self._null)
            self._stages = []
            _set(self._given)
            self._given, self._ours = {}, {}


def _set(limits: dict[int, tuple[int, int]]) -> None:
    import resource

    for which, pair in limits.items():
        resource.setrlimit(which, pair)


limits = Limits()
"""Those of a process are one; so this is."""

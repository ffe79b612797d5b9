"""Runs that the kernel killed for lack of memory: what nothing but its own count tells."""

from __future__ import annotations

import time
from collections.abc import Iterator

from minionize.contracts.crew import Outcome, Verdict

OUT_OF_MEMORY = "out of memory"
"""The reason of such a failed attempt, whatever ran it."""
_KILLED = frozenset(["signal SIGKILL", "exit 137"])
"""How it looks without the count; the second as a shell or a container tells it."""
_TOGETHER_S = 1.0
"""Several runs may have been killed before the first of them was seen to end."""


class OomKills:
    """The kernel's count of processes that it killed for lack of memory in our cgroup; in the
    whole machine, where there is no such cgroup."""

    def __init__(self, root: str = "/sys/fs/cgroup", proc: str = "/proc") -> None:
        self._proc = proc
        self._folder, self._events, self._limit = _cgroup(root, f"{proc}/self/cgroup")
        self._seen = self._count()
        self._grew_at = float("-inf")

    def explain(self, outcome: Outcome) -> Outcome:
        """The outcome, with this as its reason if the kernel did it. To be asked about every run
        that failed, so that what others' ends added to the count is not this one's."""
        if outcome.verdict is not Verdict.FAILED:
            return outcome
        count = self._count()
        if count > self._seen:
            self._seen = count
            self._grew_at = time.monotonic()
        if outcome.reason not in _KILLED or time.monotonic() - self._grew_at > _TOGETHER_S:
            return outcome
        limit = self._limit_gib()
        room = "" if limit is None else f", which has {limit:.3g} GiB in all"
        said = f"{outcome.detail.rstrip()}\n" if outcome.detail else ""
        return outcome._replace(
            reason=OUT_OF_MEMORY,
            detail=f"{said}killed for lack of memory: fewer at once (-j), or a larger job{room}",
        )

    def _count(self) -> int:
        path = f"{self._folder}/{self._events}" if self._folder else f"{self._proc}/vmstat"
        return _field(_read(path), "oom_kill")

    def _limit_gib(self) -> float | None:
        word = _read(f"{self._folder}/{self._limit}").strip()
        # Without a limit version 1 has a number that no machine has bytes.
        return int(word) / 2**30 if word.isdecimal() and int(word) < 2**60 else None


def _cgroup(root: str, own: str) -> tuple[str, str, str]:
    """Our memory cgroup's folder, and the names of its count and its limit; "" where none is."""
    for line in _read(own).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            top, events, limit = root, "memory.events", "memory.max"
        elif "memory" in controllers.split(","):
            top, events, limit = f"{root}/memory", "memory.oom_control", "memory.limit_in_bytes"
        else:
            continue
        # In a container the path may be that of the host, and what is mounted only its end.
        for folder in _upwards(top, path):
            if "oom_kill " in _read(f"{folder}/{events}"):
                return folder, events, limit
    return "", "", ""


def _upwards(top: str, path: str) -> Iterator[str]:
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for depth in range(len(parts), -1, -1):
        yield "/".join([top, *parts[:depth]])


def _field(text: str, name: str) -> int:
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.strip().isdecimal():
            return int(value)
    return 0


def _read(path: str) -> str:
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError:
        return ""

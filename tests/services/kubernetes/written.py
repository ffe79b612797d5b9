"""What a container wrote: kept with the time of each line, and served to many readers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import IO


class Written:
    """The lines of one container."""

    def __init__(self) -> None:
        self._lines: list[tuple[int, bytes]] = []
        self._ended = False
        self._news = threading.Condition()

    def take(self, output: IO[bytes]) -> None:
        """Keep all lines of it, until it ends."""
        for line in output:
            with self._news:
                self._lines.append((time.time_ns(), line))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def lines(
        self, *, follow: bool, tail: int | None, since_ns: int
    ) -> Iterator[tuple[int, bytes]]:
        """Time (Unix, ns) and line, with its break; with `follow` until the container ended."""
        with self._news:
            at = max(0, len(self._lines) - tail) if tail is not None else 0
        while True:
            with self._news:
                while follow and at >= len(self._lines) and not self._ended:
                    self._news.wait()
                ready, over = self._lines[at:], self._ended or not follow
            yield from (line for line in ready if line[0] >= since_ns)
            at += len(ready)
            if over and not ready:
                return


def stamp(at_ns: int) -> str:
    """RFC 3339, as the kubelet's."""
    seconds, rest = divmod(at_ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"

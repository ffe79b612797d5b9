"""How far a command has come, on a terminal."""

from __future__ import annotations

import os
import sys
import time

from minionize.cli.opening import number


class Progress:
    """A bar on a terminal, once something takes long enough to wonder."""

    def __init__(self, name: str, total: int | None, verb: str = "read") -> None:
        """`name` begins the line; `total`: None where nobody knows."""
        self._name = name
        self._verb = verb
        self._total = total
        self._next_s = time.monotonic() + 0.5
        self._shown = False
        self._on = is_terminal(2)

    def show(self, done: int, params: int) -> None:
        """`done` of the total (bytes, say), and how many params that are."""
        if not self._on or time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + 0.2
        self._shown = True
        text = f"{number(params, 'param')} {self._verb}"
        if self._total:
            part = min(1.0, done / self._total)
            bar = "#" * round(30 * part)
            text = f"[{bar:<30}] {part:4.0%}  {text}"
        sys.stderr.write(f"\r{self._name}: {text}\x1b[K")
        sys.stderr.flush()

    def end(self) -> None:
        """Take the bar away."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._shown = False


def is_terminal(fd: int) -> bool:
    """Whether `fd` is one, and open."""
    try:
        return os.isatty(fd)
    except OSError:
        return False

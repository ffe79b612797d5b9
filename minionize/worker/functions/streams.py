"""Standard output and error of a child."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Any


class Streams:
    """Both of them, and whether something was written to them since they were flushed: to ask
    that costs a short run less than to flush them."""

    def __init__(self) -> None:
        self.unflushed: set[int] = set()
        """Empty while there is nothing to flush."""
        self.out = _Stream(1, self.unflushed)
        self.err = _Stream(2, self.unflushed)

    def flush(self, restore: Callable[[], None]) -> None:
        """What Python's buffers hold goes to the descriptors, once more after `restore` if these
        are closed."""
        self.unflushed.clear()
        for stream in (self.out, self.err):
            try:
                stream.flush()
            except (OSError, ValueError):
                restore()
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()


class _Buffer(io.BufferedWriter):
    def __init__(self, fd: int, unflushed: set[int]) -> None:
        super().__init__(io.FileIO(fd, "w", closefd=False))
        self._fd = fd
        self._unflushed = unflushed

    def write(self, data: Any, /) -> int:
        self._unflushed.add(self._fd)
        return super().write(data)


class _Stream(io.TextIOWrapper):
    """A function that closes it, closes nothing."""

    def __init__(self, fd: int, unflushed: set[int]) -> None:
        super().__init__(
            _Buffer(fd, unflushed),
            encoding="utf-8",
            errors="backslashreplace",
            line_buffering=True,
            write_through=True,  # or it has a buffer of its own, and `unflushed` does not know
        )

    def reconfigure(self, **options: Any) -> None:
        """As of TextIOWrapper, but for that."""
        super().reconfigure(**{**options, "write_through": True})

    def close(self) -> None:
        self.flush()

"""What the client writes into its log, and tells in no other way: why the broker refused to store a
message. It connects anew then and sends the same message again, without end."""

from __future__ import annotations

import os
import re
from functools import cache

_REFUSED = re.compile(rb"Received send error from server: ([^\n]*)")
_MOST_BYTES = 1 << 20


class ClientLog:
    """A file without a name, in memory where the system can. The client has one log for all of a
    process."""

    def __init__(self) -> None:
        self._fd = _unnamed_file()
        self.path = f"/proc/self/fd/{self._fd}"

    def mark(self) -> int:
        """Where the log ends now. It is begun anew when it is large."""
        size = os.fstat(self._fd).st_size
        if size > _MOST_BYTES:
            os.ftruncate(self._fd, 0)
            return 0
        return size

    def refusals(self, since: int) -> list[str]:
        """Why messages were refused since that mark, in the broker's words."""
        size = os.fstat(self._fd).st_size
        text = os.pread(self._fd, max(0, size - since), since)
        return [found.decode(errors="replace").strip() for found in _REFUSED.findall(text)]


def _unnamed_file() -> int:
    try:
        return os.memfd_create("pulsar-client-log")
    except (AttributeError, OSError):  # an old kernel, or a Python that was built for one
        import tempfile

        fd, path = tempfile.mkstemp(prefix="minionize-pulsar-")
        os.unlink(path)
        return fd


@cache
def client_log() -> ClientLog:
    """The one of this process."""
    return ClientLog()

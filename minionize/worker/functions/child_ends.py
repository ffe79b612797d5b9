"""The minion's ends of what it shares with a child: a socket, a board, and files of output."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket

from minionize.worker.functions import records
from minionize.worker.functions.board import BOARD_BYTES, Board
from minionize.worker.output import Spool, open_unlinked


class ChildEnds:
    """Of one child after the other. The files of output stay from child to child."""

    def __init__(self, scratch: str) -> None:
        """`scratch`: a folder for files without a name."""
        self.out = Spool(scratch)
        self.err = Spool(scratch)
        self.out_end = self.err_end = 0
        """Sizes of the two at the end of the last run that wrote something."""
        self._scratch = scratch
        self.birth = 0
        self.pid = 0
        """0 while there is no child, or its birth was not told yet."""
        self.link: socket.socket | None = None
        self.loaded = False
        """Whether the child has its function."""
        self.unloaded: tuple[str, int] | None = None
        """Why the machine kept the child from loading it, in words and as an errno."""
        self._board: Board | None = None
        self.unsent = b""
        self.unanswered = 0
        """Batches that the child has not called over."""
        self.revoked = False
        """Whether the child lost leases that it was sent, and has not called over yet."""

    def conceive(self) -> list[int]:
        """New ends for a new child; returns the child's: link, board, records, stdout, stderr.
        The caller sends them off and closes the first. OSError if the machine has no room."""
        self.birth += 1
        self.pid = 0
        self.loaded = False
        with contextlib.ExitStack() as undo:
            link, theirs = socket.socketpair()
            undo.callback(link.close)
            undo.callback(theirs.close)
            board = self._memory("board")
            undo.callback(os.close, board)
            noted = self._memory("records")
            undo.callback(os.close, noted)
            if os.write(board, bytes(BOARD_BYTES)) < BOARD_BYTES:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))  # ulimit -f
            self._board = Board(board, noted)
            undo.pop_all()
        link.setblocking(False)
        self.link = link
        return [theirs.detach(), board, noted, self.out.fd, self.err.fd]

    def _memory(self, name: str) -> int:
        """A file in memory (half the time per write) where the C library can; at most a few
        MiB."""
        try:
            fd = os.memfd_create(name, os.MFD_CLOEXEC)
        except (AttributeError, OSError):
            return open_unlinked(self._scratch)
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
        return fd

    def flush(self) -> None:
        """Send on what the socket did not take at once."""
        try:
            while self.unsent and self.link is not None:
                self.unsent = self.unsent[self.link.send(self.unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self.unsent = b""  # it died: the zygote will say so

    def answered(self) -> None:
        """Read the bytes that say that batches are over."""
        if self.link is None:
            return
        try:
            over = len(self.link.recv(64))
        except BlockingIOError:
            return
        except OSError:
            over = 0
        self.unanswered = max(0, self.unanswered - over)
        if not self.unanswered:
            self.revoked = False

    def written(self, out_end: int, err_end: int) -> tuple[str, str]:
        """What the run that ended here wrote to stdout and to stderr."""
        return (
            records.excerpt(self.out.fd, self.out_end, out_end),
            records.excerpt(self.err.fd, self.err_end, err_end),
        )

    def part(self) -> None:
        """Close the ends of a child that is gone."""
        if self.link is not None:
            self.link.close()
            self.link = None
        if self._board is not None:
            self._board.close()
            self._board = None
        self.pid = self.unanswered = 0
        self.unloaded = None
        self.unsent = b""
        self.revoked = self.loaded = False

    def close(self) -> None:
        """Let go of everything."""
        self.part()
        self.out.close()
        self.err.close()

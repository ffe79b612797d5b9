"""One slot of a crew of programs: the run in it, and the files that it reads and writes."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from minionize.contracts.callback import Invocation
from minionize.contracts.crew import Outcome, Verdict
from minionize.values import Lease
from minionize.worker.blame import blame
from minionize.worker.launching import VERDICTS, NotStarted
from minionize.worker.output import Draft, Spool, open_unlinked

NEVER = float("inf")


class Slot:
    """A run is in it while `lease` is there. Files stay from run to run."""

    __slots__ = (
        "_folder",
        "_mark",
        "_null",
        "_usual",
        "began",
        "draft_err",
        "draft_out",
        "due",
        "end",
        "err",
        "index",
        "lease",
        "out",
        "pid",
        "plain",
        "rounds",
        "stdin",
    )

    def __init__(self, index: int, *, folder: str, null: int, mark: str, tty: bool) -> None:
        """`folder`: where files without a name are made. `null`: a descriptor of /dev/null.
        `mark`: of this slot alone, in names of files. `tty`: runs have the minion's own files."""
        self.index = index
        self._folder = folder
        self._null = null
        self._mark = mark
        self.out = None if tty else Spool(folder)
        self.err = None if tty else Spool(folder)
        self.lease: Lease | None = None
        self.pid = 0
        self.began = 0.0
        self.due = NEVER
        """When its time-out comes, and then when it is killed."""
        self.end = ""
        """What we did to it: `timeout`, `stop`, `abort`; empty while it goes its own way."""
        self.rounds = 0
        """Of the guard, before it was started."""
        self.plain = True
        """Whether the run has no file of its own."""
        self.stdin = -1
        self.draft_out: Draft | None = None
        self.draft_err: Draft | None = None
        self._usual: list[Any] | None = None

    def actions(self, wanted: Invocation) -> list[Any] | None:
        """File actions for this run; NotStarted if its files can't be made."""
        if wanted.stdin is not None or wanted.stdout is not None or wanted.stderr is not None:
            self._open(wanted)
            if self.out is not None:
                return self._make_actions()
            files = ((self.stdin, 0), (_fd(self.draft_out), 1), (_fd(self.draft_err), 2))
            return [(os.POSIX_SPAWN_DUP2, fd, to) for fd, to in files if fd >= 0]
        if self._usual is None and self.out is not None:
            self._usual = self._make_actions()
        return self._usual

    def _make_actions(self) -> list[Any]:
        assert self.out is not None and self.err is not None
        return [
            (os.POSIX_SPAWN_DUP2, self.stdin if self.stdin >= 0 else self._null, 0),
            (os.POSIX_SPAWN_DUP2, self.draft_out.fd if self.draft_out else self.out.fd, 1),
            (os.POSIX_SPAWN_DUP2, self.draft_err.fd if self.draft_err else self.err.fd, 2),
        ]

    def _open(self, wanted: Invocation) -> None:
        """The input that it brings, and files for its output."""
        self.plain = False
        if wanted.stdin is not None:
            self._fill_stdin(wanted.stdin)
        try:
            if wanted.stdout is not None:
                self.draft_out = Draft(wanted.stdout, self._mark + ".out")
            if wanted.stderr is not None and wanted.stderr == wanted.stdout:
                self.draft_err = self.draft_out
            elif wanted.stderr is not None:
                self.draft_err = Draft(wanted.stderr, self._mark + ".err")
        except ValueError as error:
            raise NotStarted(Verdict.FAILED, f"cannot write its output: {error}") from error
        except OSError as error:
            raise NotStarted(VERDICTS[blame(error)], *_no_output("write", error)) from error

    def _fill_stdin(self, content: bytes) -> None:
        try:
            self.stdin = open_unlinked(self._folder)
            data = memoryview(content)
            while data:
                data = data[os.write(self.stdin, data) :]
            os.lseek(self.stdin, 0, os.SEEK_SET)
        except OSError as error:
            why = os.strerror(error.errno or 0)
            raise NotStarted(
                VERDICTS[blame(error, ours=True)],
                f"no room for its input in TMPDIR: {why}",
                f"{self._folder}: {why}: set TMPDIR to another folder",
            ) from error

    def files_moved(self) -> None:
        """Its files of output are others now."""
        self._usual = None

    def tail(self, err_size: int) -> str:
        """The last of what the run wrote to stderr."""
        if self.draft_err is not None:
            return self.draft_err.tail()
        return self.err.tail() if self.err is not None and err_size else ""

    def keep_files(self, outcome: Outcome) -> Outcome:
        """Put the files of a good run in place; those of any other are dropped by `tidy`."""
        if outcome.verdict is not Verdict.DONE:
            return outcome
        try:
            if self.draft_err is not None and self.draft_err is not self.draft_out:
                self.draft_err.keep()
                self.draft_err = None
            if self.draft_out is not None:
                if self.draft_err is self.draft_out:
                    self.draft_err = None
                self.draft_out.keep()
                self.draft_out = None
        except OSError as error:
            reason, detail = _no_output("keep", error)
            verdict = VERDICTS[blame(error)]
            return outcome._replace(verdict=verdict, reason=reason, detail=detail)
        return outcome

    def tidy(self) -> None:
        """Let go of what one run had for itself."""
        self.plain = True
        if self.draft_err is not None and self.draft_err is not self.draft_out:
            self.draft_err.drop()
        if self.draft_out is not None:
            self.draft_out.drop()
        self.draft_out = self.draft_err = None
        if self.stdin >= 0:
            with contextlib.suppress(OSError):
                os.close(self.stdin)
            self.stdin = -1

    def close(self) -> None:
        """Let go of all files."""
        self.tidy()
        for spool in (self.out, self.err):
            if spool is not None:
                spool.close()


def _fd(draft: Draft | None) -> int:
    return -1 if draft is None else draft.fd


def _no_output(what: str, error: OSError) -> tuple[str, str]:
    """Reason, fit for grouping, and detail, with the file and what to do."""
    why = os.strerror(error.errno or 0)
    return (
        f"cannot {what} its output: {why}",
        f"{error.filename or 'a file of its output'}: {why}: see --stdout, --stderr",
    )

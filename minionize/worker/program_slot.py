"""One slot of a crew of programs: the run in it, and the files that it reads and writes."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, Any

from minionize.contracts.callback import Invocation
from minionize.contracts.crew import Flaw, Outcome, Verdict
from minionize.values import Lease
from minionize.worker.blame import blame
from minionize.worker.launching import VERDICTS, NotStarted, no_room
from minionize.worker.room import NO_ROOM, is_no_room
from minionize.worker.spool import Pages, ProgramSpool, open_in_memory

if TYPE_CHECKING:
    from minionize.worker.draft import Draft
    from minionize.worker.rests import Rest

NEVER = float("inf")


class Slot:
    """A run is in it while `lease` is there. Files stay from run to run."""

    __slots__ = (
        "_campaign",
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
        "fault",
        "held_up",
        "index",
        "lease",
        "out",
        "outlived",
        "pid",
        "plain",
        "rest",
        "rounds",
        "stdin",
    )

    def __init__(
        self, index: int, *, folder: str, null: int, mark: str, campaign: str, tty: bool
    ) -> None:
        """`folder`: where files without a name are made. `null`: a descriptor of /dev/null.
        `mark`: of this slot alone, in names of files. `campaign`: a word for the queue.
        `tty`: runs have the minion's own files."""
        self.index = index
        self._folder = folder
        self._null = null
        self._mark = mark
        self._campaign = campaign
        self.out = None if tty else ProgramSpool(folder)
        self.err = None if tty else ProgramSpool(folder)
        self.lease: Lease | None = None
        self.pid = 0
        self.began = 0.0
        self.due = NEVER
        """When its time-out comes, and then when it is killed."""
        self.end = ""
        """What we did to it: `timeout`, `stop`, `abort`, `room`; empty while it goes its own
        way."""
        self.fault: OSError | None = None
        """Why its output has no room."""
        self.held_up = False
        """It is stopped for a moment, since it prints quicker than that can be kept."""
        self.rounds = 0
        """Of the guard, before it was started."""
        self.plain = True
        """Whether the run has no file of its own."""
        self.rest: Rest | None = None
        """What goes on of it after the end of its main process."""
        self.outlived = False
        """Something of the run may go on after it, and write to its files."""
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
        if wanted.stdout is None and wanted.stderr is None:
            return
        # Only `--stdout` and `--stderr` need it.
        from minionize.worker.draft import Draft

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
            self.stdin = open_in_memory(self._folder)
            data = memoryview(content)
            while data:
                data = data[os.write(self.stdin, data) :]
            os.lseek(self.stdin, 0, os.SEEK_SET)
        except OSError as error:
            raise no_room("input", self._folder, error) from error

    def files_moved(self) -> None:
        """Its files of output are others now."""
        self._usual = None

    def change_files(self) -> list[Pages]:
        """New files of output for the next run. Returns the old ones."""
        self._usual = None
        self.outlived = False
        return [spool.renew() for spool in (self.out, self.err) if spool is not None]

    def shortage(self) -> OSError | None:
        """Why a file of its output may not be whole, as far as that can be known."""
        for draft in (self.draft_out, self.draft_err):
            if draft is not None and (why := draft.shortage()) is not None:
                return why
        return None

    def cut(self, most: int) -> OSError | None:
        """Why its output is not whole, where no file may be longer than `most` bytes: the
        program may have ended with any status, or not have looked."""
        fds = [spool.fd for spool in (self.out, self.err) if spool is not None]
        fds += [_fd(draft) for draft in (self.draft_out, self.draft_err) if draft is not None]
        if all(os.fstat(fd).st_size < most for fd in fds):
            return None
        return OSError(errno.EFBIG, os.strerror(errno.EFBIG), "its output")

    def tail(self, err_size: int) -> str:
        """The last of what the run wrote to stderr."""
        if self.draft_err is not None:
            return self.draft_err.tail()
        return self.err.tail() if self.err is not None and err_size else ""

    def keep_files(self, outcome: Outcome) -> Outcome:
        """Put the files of a good run in place, and those of a failed one beside it; those of
        any other are dropped by `tidy`."""
        if self.draft_out is None and self.draft_err is None:
            return outcome
        if outcome.verdict in (Verdict.FAILED, Verdict.REJECTED):
            for draft in {self.draft_out, self.draft_err}:
                if draft is not None:
                    draft.keep_failed()
            self.draft_out = self.draft_err = None
        if outcome.verdict is not Verdict.DONE:
            return outcome
        for draft in (self.draft_out, self.draft_err):
            if draft is not None:
                draft.drop_failed(known=outcome.lease.attempt > 1)
        owner = f"{self._campaign} {outcome.lease.id}"
        try:
            if self.draft_err is not None and self.draft_err is not self.draft_out:
                outcome = _replaced(outcome, self.draft_err, self.draft_err.keep(owner))
                self.draft_err = None
            if self.draft_out is not None:
                if self.draft_err is self.draft_out:
                    self.draft_err = None
                outcome = _replaced(outcome, self.draft_out, self.draft_out.keep(owner))
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


def _replaced(outcome: Outcome, draft: Draft, id_: str) -> Outcome:
    """The outcome of a run whose file took the place of that of param `id_`, if there was one."""
    if not id_:
        return outcome
    reason = f"{draft.path} takes the place of the file of param {id_}"
    if outcome.reason:
        reason = f"{outcome.reason}; {reason}"
    return outcome._replace(reason=reason, flaws=(*outcome.flaws, Flaw.REPLACED))


def _fd(draft: Draft | None) -> int:
    return -1 if draft is None else draft.fd


def _no_output(what: str, error: OSError) -> tuple[str, str]:
    """Reason, fit for grouping, and detail, with the file and what to do."""
    why = os.strerror(error.errno or 0)
    file = error.filename or "a file of its output"
    if is_no_room(error):
        return NO_ROOM, f"{file}: {why}: make room there, or see --stdout, --stderr"
    return f"cannot {what} its output: {why}", f"{file}: {why}: see --stdout, --stderr"

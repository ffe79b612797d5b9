"""One slot of a function crew: what its child was given, and what became of that."""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Iterator
from typing import Any

from minionize.contracts.crew import Outcome, Verdict
from minionize.values import Lease
from minionize.worker.functions import outcomes as outcomes_of
from minionize.worker.functions import records
from minionize.worker.functions.child_ends import ChildEnds
from minionize.worker.functions.wire import HEADER
from minionize.worker.limits import limits
from minionize.worker.room import NO_ROOM

FRAMES = 2
"""Batches that a child may have: one that it works on, one that it finds when that is over."""
FRAME_BYTES = 1 << 20
RECORDS_BYTES = 4 << 20
"""From here on the file of records is emptied when the child is idle next."""
HAND_BYTES = 16 << 20
"""Records of what a child was given may take about so much."""

_ID, _TEXT, _ATTEMPT = map(operator.attrgetter, ("id", "text", "attempt"))


class Slot(ChildEnds):
    """Leases go `pending` -> `queue` (sent to the child) -> outcomes, always in order."""

    def __init__(self, index: int, scratch: str, capture: bool) -> None:
        """`scratch`: a folder for files without a name. `capture`: outcomes have what their runs
        wrote."""
        super().__init__(scratch)
        self.index = index
        self._capture = capture
        self.rounds = 0
        """Of the guard, when the child was born."""
        self._record_bytes = 16
        """Of one run, lately."""
        self.queue: deque[Lease] = deque()
        self._ran = 0
        """Runs that ended in this child."""
        self._frames: deque[list[float]] = deque()
        """[leases left, time sent] of the batches that the queue consists of."""
        self.pending: deque[tuple[float, list[Lease]]] = deque()
        """Batches that were not sent yet, and since when."""
        self.began: float | None = None
        """When the run at the head of the queue began; None while none has."""
        self.doom: tuple[Lease, Verdict, str] | None = None
        """Which run its child is being killed for, and what that makes of it."""
        self.stillborn = 0
        """Children in a row that died before they ran anything."""

    # -- what it holds ---------------------------------------------------------------------

    def current(self) -> Lease | None:
        """The lease that is executing now, as of the last harvest."""
        return self.queue[0] if self.began is not None and self.queue else None

    def load(self) -> int:
        """How many leases it holds."""
        return len(self.queue) + sum(len(leases) for _, leases in self.pending)

    def idle(self) -> bool:
        """Whether a lease that came now would start at once."""
        return not (self.queue or self.pending or self.unanswered or self.loading())

    def loading(self) -> bool:
        """Whether there is a child that has not its function yet."""
        return self.link is not None and not self.loaded

    def open(self) -> bool:
        """Whether it takes another batch behind what it has."""
        return (
            not self.revoked
            and not self.loading()
            and not self.pending
            and self.unanswered < FRAMES
            # The next suspect wants a slot that is idle.
            and not (self.queue and self.queue[0].suspect)
            and (self._noted_bytes() < RECORDS_BYTES or not (self.queue or self.unanswered))
        )

    def batch_most(self) -> int:
        """How many runs may be in hand, so that what they note down stays small."""
        return max(1, HAND_BYTES // self._record_bytes)

    def _noted_bytes(self) -> int:
        return self._board.noted_bytes if self._board else 0

    def add(self, leases: list[Lease], now: float) -> None:
        """Queue these as batches of their own."""
        if sum(map(len, map(_TEXT, leases))) <= FRAME_BYTES:
            self.pending.append((now, leases))
            return
        size = 0
        start = 0
        for position, lease in enumerate(leases):
            size += len(lease.text)
            if size > FRAME_BYTES and position > start:
                self.pending.append((now, leases[start:position]))
                start, size = position, len(lease.text)
        self.pending.append((now, leases[start:]))

    def add_first(self, leases: list[Lease], now: float) -> None:
        """Queue these before all that has not started: they are marked as running already."""
        back = self.take_back()
        if back:
            self.pending.appendleft((now, back))
        self.pending.appendleft((now, leases))

    # -- the child ---------------------------------------------------------------------------

    def send(self, now: float) -> None:
        """Send what is pending, as far as the child may have it."""
        board = self._board
        while (
            board is not None
            and self.loaded
            and self.pending
            and not self.unsent
            and not self.revoked
            and self.unanswered < FRAMES
            and board.has_room(len(self.pending[0][1]))
        ):
            if board.noted_bytes >= RECORDS_BYTES:
                if self.queue or self.unanswered:
                    return
                board.clear_records()
            _, leases = self.pending.popleft()
            texts = ("[" + ",\n".join(map(_TEXT, leases)) + "]").encode()
            attempts = set(map(_ATTEMPT, leases))
            each = attempts if len(attempts) == 1 else map(_ATTEMPT, leases)
            meta = "\n".join([" ".join(map(str, each)), *map(_ID, leases)]).encode()
            self.queue.extend(leases)
            self._frames.append([len(leases), now])
            self.unanswered += 1
            first = board.give(len(leases))
            self.unsent = HEADER.pack(first, len(leases), len(texts), len(meta)) + texts + meta
            self.flush()

    def take_back(self) -> list[Lease]:
        """The leases that wait behind the current one, which now will never be started."""
        taken = self._board.take_back() if self._board is not None else 0
        self.revoked = taken > 0 or self.revoked
        back = [self.queue.pop() for _ in range(taken)][::-1]
        while taken:
            last = self._frames[-1]
            less = min(taken, int(last[0]))
            last[0] -= less
            taken -= less
            if not last[0]:
                self._frames.pop()
        if not self._frames:
            self.began = None
        return back

    def condemn(self, verdict: Verdict, reason: str) -> None:
        """The child is being ended because of its current run, which gets this verdict unless
        it is over first."""
        if self.queue:
            self.doom = (self.queue[0], verdict, reason)

    def waits_since(self) -> float | None:
        """When the first of those that wait behind the current one was given to us."""
        behind = 1 if self.began is not None else 0
        for count, since in self._frames:
            if count > behind:
                return since
            behind = 0
        return self.pending[0][0] if self.pending else None

    def quiet_s(self, now: float, timeout_s: float | None, tick_s: float) -> float:
        """How long it needs no look; `tick_s` while it has more than the current run."""
        if not self.queue:
            return float("inf")
        if len(self.queue) > 1 or (self.began is None and timeout_s is not None):
            return tick_s
        if timeout_s is None or self.began is None or self.doom is not None:
            return float("inf")
        return self.began + timeout_s - now

    # -- outcomes ----------------------------------------------------------------------------

    def harvest(self, outcomes: list[Outcome]) -> None:
        """Append the outcomes that the child noted down since the last time."""
        while self._board is not None:
            entries, told = self._board.read()
            if not entries:
                return
            self._record_bytes = self._board.record_bytes if told else 16
            self._decode(entries, deque(told), outcomes)

    def _decode(self, entries: list[float], told: deque[Any], outcomes: list[Outcome]) -> None:
        at = 0
        while at < len(entries):
            if self.began is None:  # the next batch
                self.began = entries[at]
                at += 1
                continue
            frame = self._frames[0]
            ends = entries[at : at + int(frame[0])]
            leases = [self.queue.popleft() for _ in ends]
            if told:
                outcomes += self._told(leases, ends, told)
            else:
                output = "" if self._capture else None
                outcomes += outcomes_of.plain(leases, self.index, self.began, ends, output)
            self.began = abs(ends[-1])
            at += len(ends)
            self._ran += len(ends)
            frame[0] -= len(ends)
            if not frame[0]:
                self._frames.popleft()
                self.began = None
        self.stillborn = 0

    def _told(self, leases: list[Lease], ends: list[float], told: deque[Any]) -> Iterator[Outcome]:
        """What became of these, of which some have a record."""
        began = self.began or 0.0
        silent = "" if self._capture else None
        for lease, entry in zip(leases, ends, strict=True):
            ended = abs(entry)
            record = told.popleft() if entry < 0.0 else None
            if isinstance(record, list):
                yield self._more(lease, record, ended - began)
            else:
                yield outcomes_of.returned(lease, self.index, ended - began, record, silent)
            began = ended

    def _more(self, lease: Lease, record: list[Any], seconds: float) -> Outcome:
        out_end, err_end, told = record
        stdout, stderr = self.written(out_end, err_end) if self._capture else (None, None)
        self.out_end, self.err_end = out_end, err_end
        fields = records.Fields(**told)
        verdict = Verdict(fields.verdict)
        if verdict is Verdict.FAILED and self.doom is not None and self.doom[0] is lease:
            verdict = self.doom[1]  # it was told to end, and did
        reason = fields.reason
        if verdict in (Verdict.DONE, Verdict.FAILED) and limits.cut(max(out_end, err_end)):
            verdict, reason = Verdict.UNABLE, NO_ROOM
        return Outcome(
            lease,
            verdict,
            self.index,
            seconds,
            exit_status=fields.exit_status,
            cpu_s=fields.cpu_s,
            peak_kib=fields.peak_kib,
            peak_below=fields.peak_below,
            reason=reason,
            detail=fields.detail,
            delay_s=fields.delay_s,
            result=fields.result,
            stdout=stdout,
            stderr=stderr,
            result_file=fields.result_file,
        )

    def bury(self, told: dict[str, Any], now: float, outcomes: list[Outcome]) -> None:
        """The child died as the zygote told. Appends the outcome of the run that it was in, if
        any; what waited behind it is pending again."""
        rest = self.take_back()
        self.harvest(outcomes)  # it may have lived on until here
        if self.queue:
            lease = self.queue.popleft()
            if self.doom is not None and self.doom[0] is not lease:
                # The one that we wanted to end was faster, and its successor got the signal.
                rest.insert(0, lease)
            else:
                outcomes.append(self._crashed(lease, told, now))
            self.stillborn = 0
        else:
            self.stillborn += 1
        self.out_end, self.err_end = self.out.size(), self.err.size()
        self.part()
        if rest:
            self.pending.appendleft((now, rest))

    def _crashed(self, lease: Lease, told: dict[str, Any], now: float) -> Outcome:
        verdict, status = Verdict.FAILED, told["status"]
        reason = records.ended_by(status)
        if self.doom is not None:
            _, verdict, why = self.doom
            reason = why or reason
        elif self._ran and limits.used_up(status, told.get("cpu_s")):
            verdict = Verdict.ABORTED
            reason = "the runs before it used up the CPU seconds of its process (ulimit -t)"
        out_end, err_end = self.out.size(), self.err.size()
        if verdict is Verdict.FAILED and limits.cut(max(out_end, err_end)):
            verdict, reason = Verdict.UNABLE, NO_ROOM
        stdout, stderr = self.written(out_end, err_end) if self._capture else (None, None)
        return Outcome(
            lease,
            verdict,
            self.index,
            max(0.0, now - self.began) if self.began is not None else 0.0,
            exit_status=status,
            cpu_s=told.get("cpu_s"),
            peak_kib=told.get("peak_kib"),
            peak_below=True,
            reason=reason,
            detail=records.tail(self.err.fd, self.err_end, err_end),
            stdout=stdout,
            stderr=stderr,
        )

    def part(self) -> None:
        """Close the ends of a child that is gone; its queue is empty."""
        super().part()
        self._frames.clear()
        self._ran = 0
        self.began = self.doom = None

    def clear_output(self) -> None:
        """Empty the files of output, if the child is idle and all is passed on."""
        sizes = (self.out.size(), self.err.size())
        if self.queue or self.unanswered or (self.out.passed, self.err.passed) != sizes:
            return
        self.out.clear()
        self.err.clear()
        self.out_end = self.err_end = 0

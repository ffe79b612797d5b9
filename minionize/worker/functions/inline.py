"""InlineCrew: runs a Python function in the minion itself (`--inline`).

For functions that can't leave their process, and for debuggers. Nothing protects the minion: a
segfault ends it, C code that never lets go of the GIL stops its heartbeat, and a run can't be
ended early. A small thread keeps the heartbeat going while a function runs.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from minionize.callbacks import calling, current
from minionize.callbacks.func import FuncCallback
from minionize.contracts.crew import Outcome, Verdict
from minionize.errors import UsageError
from minionize.values import Lease
from minionize.worker.blame import unloaded
from minionize.worker.functions.hooks import Around
from minionize.worker.functions.records import LONG_S, Fields
from minionize.worker.functions.results import Keeper, failed
from minionize.worker.functions.sharing import batch

TURN_S = 0.02
"""After so long `wait` tells of what ended, even if more is there to run."""
LOOK_S = 0.1
"""How often the thread looks whether a heartbeat is due."""


class InlineCrew:
    """See contracts/crew; one slot."""

    def __init__(
        self,
        callback: FuncCallback,
        *,
        slots: int,
        env: Mapping[str, str],
        minion_id: str,
        wake_fd: int,
        engine: Any = None,
        timeout_s: float | None = None,
        deadline: float | None = None,
        checkpoints: str | None = None,
        capture: bool = False,
        results: str | None = None,
        **others: Any,
    ) -> None:
        """As of FunctionCrew. UsageError for what can't be had without a process, and for a
        function that can't be imported; HostUnfit where that is the machine's fault."""
        for wish, name in (
            (slots > 1, "--slots above 1"),
            (timeout_s is not None, "--timeout"),
            (capture, "--capture"),
        ):
            if wish:
                raise UsageError(f"{name} needs a process for the function: leave out --inline")
        self.slots = 1
        self._func = _function(callback)
        self._whole = calling.takes_whole(self._func)
        self._around = Around(callback, engine)
        self._keep = Keeper(results).keep
        self._wake_fd = wake_fd
        self._waiting: deque[tuple[float, Lease]] = deque()
        self._ended: list[Outcome] = []
        self._current: tuple[Lease, float] | None = None
        self._aborting: set[str] = set()
        self._stopping = False
        self._beat: Callable[[], None] | None = None
        self._away = threading.Lock()
        """Held but while a function runs: then the thread may do what the loop else does."""
        self._away.acquire()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        current.minion_id, current.slot = minion_id, 0
        current.deadline, current.checkpoints = deadline, checkpoints

    def on_long_run(self, beat: Callable[[], None]) -> None:
        """`beat` is called from another thread every now and then while a function runs, and
        never while the loop does anything else than waiting for this crew."""
        self._beat = beat

    def room(self, seconds_each: float | None) -> int:
        """See contracts/crew."""
        most = 1 if seconds_each is None else batch(seconds_each)
        load = len(self._waiting)
        return 0 if self._stopping or load > most // 2 else most - load

    def start(self, leases: Sequence[Lease]) -> None:
        """See contracts/crew."""
        now = time.monotonic()
        if self._stopping:
            self._ended += [Outcome(lease, Verdict.ABORTED) for lease in leases]
            return
        suspects = [(now, lease) for lease in leases if lease.suspect]
        self._waiting.extendleft(suspects[::-1])
        self._waiting.extend((now, lease) for lease in leases if not lease.suspect)

    def running(self) -> Sequence[tuple[Lease, float]]:
        """See contracts/crew."""
        going = self._current
        return [] if going is None else [(going[0], time.monotonic() - going[1])]

    def wait(self, timeout_s: float) -> list[Outcome]:
        """See contracts/crew; but a run that takes longer is waited for."""
        ended, self._ended = self._ended, []
        until = time.monotonic() + TURN_S
        while self._waiting and (not ended or time.monotonic() < until):
            if ended and self._woken(0.0):
                return ended
            ended.append(self._run(self._waiting.popleft()[1]))
        if not ended:
            self._woken(timeout_s)
        return ended

    def _woken(self, timeout_s: float) -> bool:
        poll = select.poll()
        poll.register(self._wake_fd, select.POLLIN)
        if not poll.poll(max(0.0, timeout_s) * 1000):
            return False
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_fd, 512)
        return True

    def _run(self, lease: Lease) -> Outcome:
        if not self._around.before(lease):
            return self._around.after([])[0]
        if self._thread is None and self._beat is not None:
            self._thread = threading.Thread(target=self._keep_beating, daemon=True)
            self._thread.start()
        began = time.monotonic()
        cpu_s = time.process_time()
        self._current = lease, began
        current.tell = lambda: (lease.id, lease.attempt)
        self._away.release()
        try:
            fields, error = self._call(lease)
        finally:
            self._away.acquire()
            current.tell = None
            self._current = None
        seconds = time.monotonic() - began
        outcome = Outcome(
            lease,
            Verdict.ABORTED if lease.id in self._aborting else Verdict(fields.verdict),
            0,
            seconds,
            exit_status=fields.exit_status,
            cpu_s=round(time.process_time() - cpu_s, 6) if seconds >= LONG_S else None,
            reason=fields.reason,
            detail=fields.detail,
            delay_s=fields.delay_s,
            result=fields.result,
            result_file=fields.result_file,
        )
        self._aborting.discard(lease.id)
        return self._around.after([outcome], error)[0]

    def _call(self, lease: Lease) -> tuple[Fields, BaseException | None]:
        try:
            param = lease.param
            if self._whole or not isinstance(param, (dict, list)):
                value = self._func(param)
            else:
                value = self._func(**param) if isinstance(param, dict) else self._func(*param)
            kept = None if value is None else self._keep(value)
            fields = kept if isinstance(kept, Fields) else Fields(result=kept)
        except BaseException as error:
            self._leave_if_forked()
            return failed(error), error
        self._leave_if_forked()
        return fields, None

    def _leave_if_forked(self) -> None:
        if os.getpid() != self._pid:
            os._exit(0)  # the function forked, and both came back

    def _keep_beating(self) -> None:
        while not self._over.wait(LOOK_S):
            if self._away.acquire(timeout=LOOK_S):
                try:
                    if self._beat is not None and self._current is not None:
                        self._beat()
                finally:
                    self._away.release()

    def revoke(self, older_than_s: float) -> list[Lease]:
        """See contracts/crew."""
        now = time.monotonic()
        if not self._waiting or now - self._waiting[0][0] < older_than_s:
            return []
        back = [lease for _, lease in self._waiting]
        self._waiting.clear()
        return back

    def abort(self, ids: Collection[str]) -> None:
        """See contracts/crew; but the run that is executing ends when it does."""
        kept = [item for item in self._waiting if item[1].id not in ids]
        self._ended += [
            Outcome(lease, Verdict.ABORTED) for _, lease in self._waiting if lease.id in ids
        ]
        self._waiting = deque(kept)
        if self._current is not None and self._current[0].id in ids:
            self._aborting.add(self._current[0].id)

    def terminate(self) -> None:
        """See contracts/crew."""
        self._stopping = True
        self._ended += [Outcome(lease, Verdict.ABORTED) for _, lease in self._waiting]
        self._waiting.clear()

    def kill(self) -> None:
        """See contracts/crew; there is nothing that could be killed."""
        self.terminate()

    def close(self) -> None:
        """See contracts/crew."""
        self._over.set()
        self._waiting.clear()


def _function(callback: FuncCallback) -> Callable[..., Any]:
    try:
        return callback.function()
    except Exception as error:
        from minionize.worker.functions import loading

        kept = loading.by_machine(error)
        if kept is None:
            raise
        raise unloaded(callback.name, *kept) from error

"""The crew that runs programs: one process per param, no thread, one poll for all of them."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from minionize.callbacks.process import overridden_hooks
from minionize.callbacks.template import LacksName
from minionize.contracts.callback import Invocation, ProgramCallback
from minionize.contracts.crew import Outcome, Verdict
from minionize.errors import Reject, RetryLater, UsageError
from minionize.values import Lease
from minionize.worker.delivery import BACKLOG, Deliveries, undelivered
from minionize.worker.guard import Guard, kill_marked
from minionize.worker.hooks import Hooked
from minionize.worker.launching import Launcher, NotStarted
from minionize.worker.output import Draft, Sink, Spool, above_standard, open_unlinked
from minionize.worker.terminal import Terminal

LIVE_TICK_S = 0.05
_CAPTURE_TICK_S = 0.25
_NO_PIDFD_TICK_S = 0.01
_VERDICTS = {
    "done": Verdict.DONE,
    "later": Verdict.LATER,
    "dead": Verdict.REJECTED,
    "failed": Verdict.FAILED,
}
_NEVER = float("inf")


class _Slot:
    """One slot, and the run in it."""

    __slots__ = (
        "actions",
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
        "pidfd",
        "rounds",
        "stdin",
        "usual",
    )

    def __init__(self, index: int, out: Spool | None, err: Spool | None) -> None:
        self.index = index
        self.out = out
        self.err = err
        self.lease: Lease | None = None
        self.pid = 0
        self.pidfd = -1
        self.began = 0.0
        self.due = _NEVER
        """When its time-out comes, and then when it is killed."""
        self.end = ""
        """What we did to it: `timeout`, `stop`, `abort`; empty while it goes its own way."""
        self.rounds = 0
        """Of the guard, before it was started."""
        self.stdin = -1
        self.draft_out: Draft | None = None
        self.draft_err: Draft | None = None
        self.usual: list[Any] | None = None
        """Its file actions, for a run without wishes of its own; None: to be made."""
        self.actions: list[Any] | None = None


class ProgramCrew:
    """Runs programs in `slots` slots. See contracts.crew.Crew for what each method promises."""

    def __init__(
        self,
        callback: ProgramCallback,
        *,
        slots: int,
        env: Mapping[str, str],
        minion_id: str,
        wake_fd: int,
        guard: Guard | None = None,
        engine: Any = None,
        on_exit: Mapping[int, str] | None = None,
        timeout_s: float | None = None,
        grace_s: float = 10.0,
        deadline: float | None = None,
        checkpoints: str | None = None,
        capture: bool = False,
        tty: bool = False,
        stop: Callable[[str, int], None] = lambda why, by_signal: None,
        before_output: Callable[[], None] | None = None,
    ) -> None:
        """`env`: the environment of the programs. `engine` is passed to the callback's hooks.
        `deadline`: Unix time at which the minion ends its runs. `checkpoints`: the folder of
        all params' checkpoint folders. `stop(why, signal)` is called when the minion's own
        output is closed, or Ctrl-C ended a run that had the terminal. `before_output` is called
        before each write to stdout or stderr."""
        self.slots = slots
        self._callback = callback
        hooks = overridden_hooks(callback)
        self._hooked = Hooked(callback, engine, hooks) if hooks else None
        self._guard = guard
        self._minion_id = minion_id
        self._wake_fd = wake_fd
        self._timeout_s = timeout_s
        self._grace_s = grace_s
        self._capture = capture
        self._terminal = Terminal() if tty else None
        self._stop = stop
        self._verdicts = {0: Verdict.DONE} | {
            status: _VERDICTS[word]
            for status, word in (on_exit or {65: "dead", 75: "later"}).items()
        }
        self._folder = _spool_folder(env)
        self._launcher = Launcher(
            env,
            minion_id=minion_id,
            scratch=os.path.join(self._folder, f"minion-{minion_id}"),
            checkpoints=checkpoints,
            deadline=deadline,
        )
        if guard is not None:
            guard.arm(minion_id, scratch=os.path.join(self._folder, f"minion-{minion_id}"))
        self._null = above_standard(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
        self._poll = select.poll()
        self._poll.register(wake_fd, select.POLLIN)
        self._sink_out = Sink(1, "stdout", self._closed, before_output)
        self._sink_err = Sink(2, "stderr", self._closed, before_output)
        self._deliveries = Deliveries(self._poll)
        self._idle = [self._new_slot(index) for index in reversed(range(slots))]
        self._running: dict[int, _Slot] = {}
        self._ready: list[Outcome] = []
        self._next_due = _NEVER
        self._tick_s = _NEVER
        if capture:
            self._tick_s = _CAPTURE_TICK_S
        elif tty or slots == 1:
            self._tick_s = LIVE_TICK_S
        self._live = slots == 1 and not capture and not tty
        self._own_peak_kib = 0
        self._strays = 0

    def _new_slot(self, index: int) -> _Slot:
        if self._terminal is not None:
            return _Slot(index, None, None)
        return _Slot(index, Spool(self._folder), Spool(self._folder))

    def room(self, seconds_each: float | None) -> int:
        """Idle slots; none while too much output waits for a slow reader."""
        return 0 if len(self._deliveries) >= BACKLOG else len(self._idle)

    def start(self, leases: Sequence[Lease]) -> None:
        """Start a program for each."""
        for lease in leases:
            slot = self._idle.pop()
            try:
                self._start(slot, lease)
            except NotStarted as error:
                self._idle.append(slot)
                self._tidy(slot, kept=False)
                self._ready.append(
                    Outcome(
                        lease, error.verdict, slot.index, reason=error.reason, detail=error.detail
                    )
                )

    def _start(self, slot: _Slot, lease: Lease) -> None:
        try:
            if self._hooked is not None:
                self._hooked.before(lease)
            wanted = self._callback.invocation(lease, slot.index)
        except Reject as error:
            raise NotStarted(Verdict.REJECTED, error.reason) from error
        except RetryLater as error:
            raise NotStarted(Verdict.LATER, "RetryLater") from error
        except UsageError:
            # The command line is wrong, no param is: everything goes back, and the minion ends.
            self._idle.append(slot)
            raise
        except Exception as error:
            raise _by_callback(error) from error
        if wanted.stdin is None and wanted.stdout is None and wanted.stderr is None:
            actions = slot.usual
            if actions is None and self._terminal is None:
                actions = slot.usual = self._actions(slot)
        else:
            actions = self._actions_for(slot, wanted)
        guard = self._guard
        if guard is None:
            pid = self._launcher.spawn(lease, slot.index, wanted, actions)
        else:
            slot.rounds = guard.rounds()
            pid = self._launcher.spawn(lease, slot.index, wanted, actions)
            guard.hold(slot.index, pid)
        slot.lease = lease
        slot.pid = pid
        slot.end = ""
        slot.began = now = time.monotonic()
        if self._timeout_s is not None:
            slot.due = due = now + self._timeout_s
            if due < self._next_due:
                self._next_due = due
        try:
            slot.pidfd = key = os.pidfd_open(pid)
            self._poll.register(key, select.POLLIN)
        except (AttributeError, OSError):
            # An old kernel, or no descriptor left: look at it every few ms instead.
            slot.pidfd, key = -1, -pid
            self._tick_s = _NO_PIDFD_TICK_S
        self._running[key] = slot
        if self._terminal is not None:
            self._terminal.hand_over(pid)

    def _actions(self, slot: _Slot) -> list[Any]:
        """File actions: stdin, stdout and stderr of a run in this slot."""
        assert slot.out is not None and slot.err is not None
        return [
            (os.POSIX_SPAWN_DUP2, slot.stdin if slot.stdin >= 0 else self._null, 0),
            (os.POSIX_SPAWN_DUP2, slot.draft_out.fd if slot.draft_out else slot.out.fd, 1),
            (os.POSIX_SPAWN_DUP2, slot.draft_err.fd if slot.draft_err else slot.err.fd, 2),
        ]

    def _actions_for(self, slot: _Slot, wanted: Invocation) -> list[Any] | None:
        """File actions of a run that brings its own input, or files for its output."""
        mark = f"{self._minion_id}.{slot.index}"
        try:
            if wanted.stdin is not None:
                slot.stdin = open_unlinked(self._folder)
                data = memoryview(wanted.stdin)
                while data:
                    data = data[os.write(slot.stdin, data) :]
                os.lseek(slot.stdin, 0, os.SEEK_SET)
            if wanted.stdout is not None:
                slot.draft_out = Draft(wanted.stdout, mark + ".out")
            if wanted.stderr is not None and wanted.stderr == wanted.stdout:
                slot.draft_err = slot.draft_out
            elif wanted.stderr is not None:
                slot.draft_err = Draft(wanted.stderr, mark + ".err")
        except (OSError, ValueError) as error:
            raise NotStarted(Verdict.FAILED, f"cannot write its output: {error}") from error
        if self._terminal is None:
            return self._actions(slot)
        files = ((slot.stdin, 0), (_fd(slot.draft_out), 1), (_fd(slot.draft_err), 2))
        return [(os.POSIX_SPAWN_DUP2, fd, to) for fd, to in files if fd >= 0]

    def running(self) -> Sequence[tuple[Lease, float]]:
        """What runs, and for how many seconds."""
        now = time.monotonic()
        return [(slot.lease, now - slot.began) for slot in self._running.values() if slot.lease]

    def wait(self, timeout_s: float) -> list[Outcome]:
        """Outcomes since the last call."""
        deliveries = self._deliveries
        if self._ready or (deliveries and not deliveries.stuck):
            timeout_s = 0.0
        elif self._running:
            timeout_s = min(timeout_s, self._tick_s)
            if self._next_due is not _NEVER:
                timeout_s = min(timeout_s, max(0.0, self._next_due - time.monotonic()))
        for fd, _ in self._poll.poll(timeout_s * 1000.0 if timeout_s > 0 else 0):
            slot = self._running.pop(fd, None)
            if slot is not None:
                self._poll.unregister(fd)
                os.close(fd)
                self._reap(slot)
            elif fd == self._wake_fd:
                with contextlib.suppress(BlockingIOError):
                    os.read(fd, 512)
            else:
                deliveries.wake(fd)
        if self._next_due is not _NEVER and time.monotonic() >= self._next_due:
            self._enforce()
        if deliveries:
            self._ready += deliveries.go_on()
        if self._running and self._tick_s is not _NEVER:
            self._tick()
        ready, self._ready = self._ready, []
        return ready

    def _tick(self) -> None:
        """What is looked at while runs go on."""
        for key, slot in list(self._running.items()):
            if key < 0 and os.waitid(os.P_PID, -key, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                del self._running[key]
                self._reap(slot)
            elif self._terminal is not None:
                self._terminal.suspend_with(slot.pid)
            elif slot.out is not None and slot.err is not None:
                if self._live:
                    self._deliveries.pass_live(self._sink_out, slot.out)
                    self._deliveries.pass_live(self._sink_err, slot.err)
                elif self._capture:
                    slot.out.free_middle()
                    slot.err.free_middle()

    def _enforce(self) -> None:
        """Time-outs: TERM to the group, and KILL when the grace is over."""
        now = time.monotonic()
        for slot in self._running.values():
            if now >= slot.due:
                if slot.end:
                    slot.due = _NEVER
                    self._signal(slot, signal.SIGKILL)
                else:
                    slot.end = "timeout"
                    slot.due = now + self._grace_s
                    self._signal(slot, signal.SIGTERM)
        self._next_due = min((slot.due for slot in self._running.values()), default=_NEVER)

    def _reap(self, slot: _Slot) -> None:
        """The main process of a run ended: end what it left behind, and say how it went."""
        pid = slot.pid
        # While it is not reaped its number is nobody else's. ESRCH can't be; EPERM is for
        # what took another user's rights.
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
        if self._guard is not None:
            self._guard.release(slot.index)
        _, status, usage = os.wait4(pid, 0)
        seconds = time.monotonic() - slot.began
        lease = slot.lease
        assert lease is not None
        slot.lease = None
        slot.due = _NEVER
        exit_status = os.waitstatus_to_exitcode(status)
        if self._terminal is not None:
            self._terminal.take_back(pid)
            if exit_status == -signal.SIGINT and not slot.end:
                # Ctrl-C went to the program only, and is meant for the minion as well.
                self._stop("SIGINT", signal.SIGINT)
                slot.end = "stop"
        verdict, reason = self._judge(slot, exit_status)
        if slot.end in ("timeout", "abort"):
            self._kill_strays(lease.id)
        peak_kib = usage.ru_maxrss
        if peak_kib > self._own_peak_kib:
            self._own_peak_kib = _own_peak_kib()
        outcome = Outcome(
            lease,
            verdict,
            slot.index,
            seconds,
            exit_status,
            usage.ru_utime + usage.ru_stime,
            peak_kib,
            peak_kib <= self._own_peak_kib,
            reason,
        )
        if slot.out is not None:
            out_size, err_size = slot.out.size(), slot.err.size()  # type: ignore[union-attr]
        else:
            out_size = err_size = 0
        if (
            out_size
            or err_size
            or self._capture
            or verdict is not Verdict.DONE
            or self._hooked is not None
            or slot.draft_out is not None
            or slot.draft_err is not None
            or slot.stdin >= 0
        ):
            self._end_with_output(slot, outcome, out_size, err_size)
        else:
            self._idle.append(slot)
            self._ready.append(outcome)

    def _judge(self, slot: _Slot, exit_status: int) -> tuple[Verdict, str]:
        """How a run ended, and why."""
        if exit_status >= 0:
            reason = f"exit {exit_status}" if exit_status else ""
            verdict = self._verdicts.get(exit_status, Verdict.FAILED)
        else:
            reason = "signal " + _signal_name(-exit_status)
            verdict = Verdict.FAILED
        if slot.end == "timeout":
            return Verdict.FAILED, "timeout"
        if slot.end == "abort":
            return Verdict.ABORTED, "lease lost"
        if slot.end == "stop" and verdict is not Verdict.DONE:
            return Verdict.ABORTED, "stopped"
        guard = self._guard
        if exit_status == -signal.SIGKILL and guard is not None and guard.rounds() != slot.rounds:
            return Verdict.ABORTED, "the minion stood still for longer than its lease"
        return verdict, reason

    def _end_with_output(self, slot: _Slot, outcome: Outcome, out_size: int, err_size: int) -> None:
        """The rest of an end: files, hooks, output."""
        out, err = slot.out, slot.err
        if outcome.verdict is not Verdict.DONE and outcome.verdict is not Verdict.ABORTED:
            detail = ""
            if slot.draft_err is not None:
                detail = slot.draft_err.tail()
            elif err is not None and err_size:
                detail = err.tail()
            outcome = outcome._replace(detail=detail)
        if self._hooked is not None:
            outcome = self._hooked.after(outcome)
        out_kept, err_kept = slot.draft_out is None, slot.draft_err is None
        outcome = self._keep_files(slot, outcome)
        if self._capture and out is not None and err is not None:
            outcome = outcome._replace(
                stdout=out.kept() if out_kept else None,
                stderr=err.kept() if err_kept else None,
            )
            if out_size:
                out.clear()
            if err_size:
                err.clear()
        elif out is not None and err is not None and (out_size or err_size):
            streams = ((self._sink_out, out, out_size), (self._sink_err, err, err_size))
            fds = out.fd, err.fd
            at_once = self._deliveries.deliver(outcome, streams)
            if fds != (out.fd, err.fd):
                slot.usual = None
            if not at_once:
                self._tidy(slot, kept=True)
                self._idle.append(slot)
                return
            lost = (out_size and self._sink_out.lost) or (err_size and self._sink_err.lost)
            if lost and outcome.verdict is Verdict.DONE:
                outcome = undelivered(outcome)
        self._tidy(slot, kept=True)
        self._idle.append(slot)
        self._ready.append(outcome)

    def _keep_files(self, slot: _Slot, outcome: Outcome) -> Outcome:
        """Put the files of a good run in place; those of any other are dropped by `_tidy`."""
        if outcome.verdict is not Verdict.DONE:
            return outcome
        try:
            if slot.draft_err is not None and slot.draft_err is not slot.draft_out:
                slot.draft_err.keep()
                slot.draft_err = None
            if slot.draft_out is not None:
                if slot.draft_err is slot.draft_out:
                    slot.draft_err = None
                slot.draft_out.keep()
                slot.draft_out = None
        except OSError as error:
            return outcome._replace(
                verdict=Verdict.FAILED, reason=f"cannot keep its output: {error}"
            )
        return outcome

    def _tidy(self, slot: _Slot, kept: bool) -> None:
        """Let go of what one run had for itself."""
        if slot.draft_err is not None and slot.draft_err is not slot.draft_out:
            slot.draft_err.drop()
        if slot.draft_out is not None:
            slot.draft_out.drop()
        slot.draft_out = slot.draft_err = None
        if slot.stdin >= 0:
            os.close(slot.stdin)
            slot.stdin = -1

    def revoke(self, older_than_s: float) -> list[Lease]:
        """Nothing waits in batches here."""
        return []

    def abort(self, ids: Collection[str]) -> None:
        """Kill these runs now."""
        for slot in self._running.values():
            if slot.lease is not None and slot.lease.id in ids:
                slot.end = "abort"
                self._signal(slot, signal.SIGKILL)

    def terminate(self) -> None:
        """TERM to every group."""
        for slot in self._running.values():
            slot.end = slot.end or "stop"
            self._signal(slot, signal.SIGTERM)

    def kill(self) -> None:
        """KILL to every group."""
        for slot in self._running.values():
            slot.end = slot.end or "stop"
            self._signal(slot, signal.SIGKILL)

    def _signal(self, slot: _Slot, number: int) -> None:
        with contextlib.suppress(OSError):
            os.killpg(slot.pid, number)
            # A stopped process would never see it.
            os.killpg(slot.pid, signal.SIGCONT)

    def _kill_strays(self, param_id: str) -> None:
        """Also what left the process group of a run that was to end."""
        marks = (f"MINION_ID={self._minion_id}", f"MINION_PARAM_ID={param_id}")
        self._strays += kill_marked(tuple(mark.encode() for mark in marks))

    def _closed(self, why: str) -> None:
        self._stop(why, 0)

    def close(self) -> None:
        """End everything, and release files and processes. May be repeated."""
        if self._null < 0:
            return
        self.kill()
        for key, slot in list(self._running.items()):
            if key >= 0:
                os.close(key)
            os.wait4(slot.pid, 0)
            if self._guard is not None:
                self._guard.release(slot.index)
            if self._terminal is not None:
                self._terminal.take_back(slot.pid)
            self._idle.append(slot)
        self._running.clear()
        for slot in self._idle:
            self._tidy(slot, kept=False)
            for spool in (slot.out, slot.err):
                if spool is not None:
                    spool.close()
        self._idle.clear()
        self._deliveries.close()
        self._sink_out.close()
        self._sink_err.close()
        self._launcher.close()
        os.close(self._null)
        self._null = -1


def _fd(draft: Draft | None) -> int:
    return -1 if draft is None else draft.fd


def _by_callback(error: Exception) -> NotStarted:
    """A failed attempt: `to_cmd` or a hook raised."""
    import traceback

    if isinstance(error, LacksName):
        return NotStarted(Verdict.FAILED, str(error))
    detail = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return NotStarted(Verdict.FAILED, type(error).__name__, detail[-4096:])


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def _own_peak_kib() -> int:
    """wait4 gives a spawned program its parent's peak until it has a higher one itself."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _spool_folder(env: Mapping[str, str]) -> str:
    """Where files without a name can be made."""
    for folder in (env.get("TMPDIR", ""), "/tmp", "/var/tmp", "."):
        if folder and os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK):
            return os.path.abspath(folder)
    return "."

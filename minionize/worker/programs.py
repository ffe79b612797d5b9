"""The crew that runs programs: one process per param, no thread, one poll for all of them."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from minionize.callbacks.process import overridden_hooks
from minionize.contracts.callback import Apart, ProgramCallback
from minionize.contracts.crew import Outcome, Verdict
from minionize.errors import MinionizeError, Reject, RetryLater
from minionize.values import Lease
from minionize.worker.crowding import Crowding
from minionize.worker.delivery import BACKLOG
from minionize.worker.guard import Guard
from minionize.worker.judging import verdicts
from minionize.worker.launching import Launcher, NotStarted, by_callback
from minionize.worker.lent import Lent
from minionize.worker.orphans import Orphans
from minionize.worker.output import above_standard, spool_folder
from minionize.worker.program_end import ProgramEnds
from minionize.worker.program_output import ProgramOutput
from minionize.worker.program_runs import LIVE_TICK_S, NO_PIDFD_TICK_S, TICK_S, ProgramRuns
from minionize.worker.program_slot import NEVER, Slot
from minionize.worker.rests import Rest, Rests, ended_well, send
from minionize.worker.short_runs import LONG_S, ShortRuns

# Not imported here: what most minions have no use for, so that their start does not wait for it.
if TYPE_CHECKING:
    from minionize.worker.apart import ApartRuns
    from minionize.worker.hooks import Hooked
    from minionize.worker.terminal import Terminal

CROWDED_TICK_S = 0.05


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
        patience_s: float = 300.0,
        capture: bool = False,
        tty: bool = False,
        backlog: int = BACKLOG,
        stop: Callable[[str, int], None] = lambda why, by_signal: None,
        before_output: Callable[[], None] | None = None,
        alone: bool = False,
        keep_end: bool = False,
        campaign: str = "",
    ) -> None:
        """`env`: the environment of the programs. `engine` is passed to the callback's hooks.
        `deadline`: Unix time at which the minion ends its runs. `checkpoints`: the folder of
        all params' checkpoint folders. `patience_s`: for so long no process can be started
        before `wait` raises HostUnfit. `backlog`: with so many ended runs whose output waits for a
        slow reader, none is started. `stop(why, signal)` is called when the minion's own output
        is closed, or Ctrl-C ended a run that had the terminal. `before_output` is called before
        each write to stdout or stderr. `alone`: nothing but this crew has children in this
        process. `keep_end`: outcomes have the end of what was printed and passed on. `campaign`: a
        word for the queue; empty if it is this minion's own."""
        self.slots = slots
        self._callback = callback
        hooked: Hooked | None = None
        if hooks := overridden_hooks(callback):
            from minionize.worker.hooks import Hooked

            hooked = Hooked(callback, engine, hooks)
        self._hooked: Hooked | ApartRuns | None = hooked
        self._guard = guard
        self._wake_fd = wake_fd
        self._timeout_s = timeout_s
        self._terminal: Terminal | None = None
        if tty:
            from minionize.worker.terminal import Terminal

            self._terminal = Terminal()
        self._stop = stop
        self._folder = spool_folder(env)
        scratch = os.path.join(self._folder, f"minion-{minion_id}")
        self._launcher = Launcher(
            env,
            minion_id=minion_id,
            scratch=scratch,
            checkpoints=checkpoints,
            deadline=deadline,
        )
        if guard is not None:
            guard.arm(minion_id, scratch=scratch)
        apart: Apart | None = getattr(callback, "apart", None)
        if apart is not None:
            from minionize.worker.apart import ApartRuns

            apart.joins(minion_id, scratch=scratch, checkpoints=checkpoints)
            self._hooked = ApartRuns(apart, hooked, guard)
        self._is_apart = apart is not None
        self._alone = alone and not self._is_apart
        self._orphans = Orphans(minion_id, (lambda: guard.pid) if guard else (lambda: 0))
        self._rests = Rests(self._orphans, guard, grace_s)
        self._null = above_standard(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
        self._poll = select.poll()
        self._poll.register(wake_fd, select.POLLIN)
        lent = Lent(self._orphans)
        self._output = ProgramOutput(
            self._poll,
            slots=slots,
            capture=capture,
            keep_end=keep_end,
            live=slots == 1 and not capture and not tty,
            on_closed=lambda why: stop(why, 0),
            before=before_output,
            lent=lent,
        )
        self._undelivered = self._output.waiting
        self._ends = ProgramEnds(
            verdicts(on_exit),
            self._output,
            self._hooked,
            guard,
            mark=f"MINION_ID={minion_id}",
            folder=self._folder,
        )
        self._idle = [
            Slot(
                index,
                folder=self._folder,
                null=self._null,
                mark=f"{minion_id}.{index}",
                campaign=campaign or minion_id,
                tty=tty,
            )
            for index in reversed(range(slots))
        ]
        self._running: dict[int, Slot] = {}
        """By pidfd; by minus the pid where there is none."""
        self._runs = ProgramRuns(
            self._running, self._rests, self._orphans, self._output, lent, self._terminal, guard
        )
        self._ready: list[Outcome] = []
        self._next_due = NEVER
        self._tick_s = LIVE_TICK_S if tty or (slots == 1 and not capture) else TICK_S
        self._usual_tick_s = self._tick_s
        self._tick_at = 0.0
        self._short_runs = ShortRuns(slots, time.monotonic(), time.process_time())
        self._backlog = backlog
        self._crowding = Crowding(patience_s)

    def room(self, seconds_each: float | None) -> int:
        """Idle slots; none while too much output waits for a slow reader, and but for one while
        starts of short programs take too long."""
        if len(self._undelivered) >= self._backlog:
            return 0
        if self._crowding.most is not None:
            return min(len(self._idle), self._crowding.room(len(self._running), time.monotonic()))
        short_runs = self._short_runs
        if not short_runs.empty_until:
            return len(self._idle)
        began = [slot.began for slot in self._running.values()]
        return max(0, len(self._idle) - short_runs.empty_slots(time.monotonic(), began))

    def start(self, leases: Sequence[Lease]) -> None:
        """Start a program for each."""
        if self._short_runs.rest_until:
            self._short_runs.rest()
        if self._alone:
            self._alone = False
            self._orphans.adopt()
        crowded = ""
        for lease in leases:
            if crowded:
                self._ready.append(Outcome(lease, Verdict.CROWDED, reason=crowded))
                continue
            slot = self._idle.pop()
            try:
                self._start(slot, lease)
            except NotStarted as error:
                self._idle.append(slot)
                slot.tidy()
                if error.verdict is Verdict.CROWDED:
                    crowded = error.reason
                    self._crowding.refused(len(self._running), crowded, time.monotonic())
                outcome = Outcome(
                    lease, error.verdict, slot.index, reason=error.reason, detail=error.detail
                )
                if self._hooked is not None and not self._is_apart:
                    outcome = self._hooked.after(outcome)
                self._ready.append(outcome)

    def _start(self, slot: Slot, lease: Lease) -> None:
        try:
            if self._hooked is not None:
                self._hooked.before(lease)
            wanted = self._callback.invocation(lease, slot.index)
        except Reject as error:
            raise NotStarted(Verdict.REJECTED, error.reason) from error
        except RetryLater as error:
            raise NotStarted(Verdict.LATER, "RetryLater") from error
        except MinionizeError:
            # The command line is wrong, no param is: everything goes back, and the minion ends.
            self._idle.append(slot)
            raise
        except Exception as error:
            raise by_callback(error) from error
        actions = slot.actions(wanted)
        guard = self._guard
        before = time.monotonic()
        if guard is not None:
            slot.rounds = guard.starting()
        try:
            slot.pid = pid = self._launcher.spawn(lease, slot.index, wanted, actions)
        except NotStarted:
            if guard is not None:
                guard.hold(slot.index, 0)
            raise
        if guard is not None:
            guard.hold(slot.index, pid)
        self._orphans.started(pid)
        slot.began = now = time.monotonic()
        if self._short_runs.tight:
            self._short_runs.started(len(self._running), now - before, now)
        slot.lease = lease
        slot.end = ""
        slot.fault = None
        slot.held_up = False
        if self._timeout_s is not None:
            slot.due = due = now + self._timeout_s
            if due < self._next_due:
                self._next_due = due
        try:
            key = os.pidfd_open(pid)
            self._poll.register(key, select.POLLIN)
        except (AttributeError, OSError):
            # An old kernel, or no descriptor left: look at it every few ms instead.
            key = -pid
            self._tick_s = self._usual_tick_s = NO_PIDFD_TICK_S
        self._running[key] = slot
        if self._crowding.most is not None:
            self._crowding.started(len(self._running), self.slots, now)
        if self._terminal is not None:
            self._terminal.hand_over(pid)

    def running(self) -> Sequence[tuple[Lease, float]]:
        """What runs, and for how many seconds."""
        now = time.monotonic()
        return [(slot.lease, now - slot.began) for slot in self._runs.all() if slot.lease]

    def wait(self, timeout_s: float) -> list[Outcome]:
        """Outcomes since the last call."""
        output = self._output
        if self._crowding.most == 0:
            now = time.monotonic()
            self._crowding.check(now)
            # The loop waits for nothing else then.
            timeout_s = max(timeout_s, CROWDED_TICK_S)
        if self._ready or (self._undelivered and not output.stuck):
            timeout_s = 0.0
        elif self._running:
            if self._tick_s < timeout_s:
                timeout_s = self._tick_s
            if self._short_runs.empty_until and timeout_s > LONG_S:
                timeout_s = LONG_S
        elif self._runs.lent and self._tick_s < timeout_s:
            timeout_s = self._tick_s  # what a daemon prints takes memory
        if self._rests.slots:
            timeout_s = min(timeout_s, max(0.0, self._rests.look_at - time.monotonic()))
            if self._tick_s < timeout_s:
                timeout_s = self._tick_s
        if self._next_due is not NEVER and (self._running or self._rests.slots):
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
                output.wake(fd)
        if self._next_due is not NEVER and time.monotonic() >= self._next_due:
            self._next_due = self._runs.enforce(time.monotonic())
        if self._rests.slots:
            self._look_at_rests()
        if self._undelivered:
            self._ready += output.go_on()
        if self._running or self._rests.slots or self._runs.lent:
            now = time.monotonic()
            if now >= self._tick_at:
                self._tick(now)
        ready, self._ready = self._ready, []
        return ready

    def _tick(self, now: float) -> None:
        """What is looked at while runs go on."""
        for key in self._runs.ended_unheard():
            self._reap(self._running.pop(key))
        self._tick_s = self._runs.look(now, self._usual_tick_s)
        self._tick_at = now + self._tick_s

    def _look_at_rests(self) -> None:
        now = time.monotonic()
        if now >= self._rests.look_at:
            for slot in self._rests.look(now):
                rest, slot.rest = slot.rest, None
                assert rest is not None
                if self._guard is not None:
                    self._guard.release(slot.index)
                self._over(slot, rest.status, rest.usage, rest)

    def _reap(self, slot: Slot) -> None:
        """The main process of a run ended: wait for its rest, or kill that if the run was to
        end."""
        pid = slot.pid
        if (slot.end or self._is_apart) and not (slot.end == "stop" and ended_well(pid)):
            # While it is not reaped its number is no other process'.
            send(pid, signal.SIGKILL)
        if self._guard is not None:
            self._guard.release(slot.index)
        _, status, usage = os.wait4(pid, 0)
        self._orphans.reaped(pid)
        if self._terminal is not None:
            self._terminal.take_back(pid)
            if status == signal.SIGINT and not slot.end:
                # Ctrl-C went to the program only, and is meant for the minion as well.
                self._stop("SIGINT", signal.SIGINT)
                slot.end = "stop"
        left = self._rests.is_left(slot)
        if left and (not slot.end or (slot.end == "stop" and not status)):
            self._rests.begin(slot, status, usage, time.monotonic())
        else:
            self._over(slot, status, usage)

    def _over(self, slot: Slot, status: int, usage: Any, rest: Rest | None = None) -> None:
        """A run is over: say how it went."""
        seconds = time.monotonic() - slot.began
        if not self._short_runs.are_short:
            self._short_runs.ended(seconds)
        outcome = self._ends.over(slot, status, usage, seconds, rest)
        if slot.outlived:
            self._runs.lent.part(slot)
        self._idle.append(slot)
        if outcome is not None:
            self._ready.append(outcome)

    def revoke(self, older_than_s: float) -> list[Lease]:
        """Nothing waits in batches here."""
        return []

    def abort(self, ids: Collection[str]) -> None:
        """Kill these runs now."""
        self._runs.abort(ids)

    def terminate(self) -> None:
        """TERM to every group."""
        self._runs.stop(signal.SIGTERM)

    def kill(self) -> None:
        """KILL to every group."""
        self._runs.stop(signal.SIGKILL)

    def close(self) -> None:
        """End everything, and release files and processes. May be repeated."""
        if self._null < 0:
            return
        self._idle += self._runs.end()
        self._orphans.close()
        if self._hooked is not None:
            self._hooked.close()
        for slot in self._idle:
            slot.close()
        self._idle.clear()
        self._output.close()
        self._runs.lent.close()
        self._launcher.close()
        os.close(self._null)
        self._null = -1

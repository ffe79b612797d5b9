"""FunctionCrew: runs a Python function on params, in children that a zygote forks.

Each slot has a child that is fed batches and notes down its outcomes in a file that outlives it.
So a param that kills its child costs that param one attempt: those before it keep their outcome,
those behind it run in the next child.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from minionize.callbacks.func import FuncCallback
from minionize.contracts.crew import Outcome, Verdict
from minionize.errors import MinionizeError, UsageError
from minionize.values import Lease
from minionize.worker.blame import Blame, blame, unfit
from minionize.worker.crowding import Crowding
from minionize.worker.functions.births import Births
from minionize.worker.functions.guarded import Guarded
from minionize.worker.functions.hooks import Around
from minionize.worker.functions.links import Links
from minionize.worker.functions.nursery import Nursery
from minionize.worker.functions.passing import Output
from minionize.worker.functions.records import ended_by
from minionize.worker.functions.sharing import batch, order, shares, without
from minionize.worker.functions.slot import Slot
from minionize.worker.guard import Guard
from minionize.worker.output import Sink, spool_folder

TICK_S = 0.02
"""How often outcomes of a batch that goes on are read, and live output is passed on."""
LOOK_S = 0.1
"""How often live output of a long run is looked for."""
LOADING_S = 0.05
"""`wait` takes this long at least while the function is loaded, when there is nothing to do."""
STILLBORN_MOST = 3


class FunctionCrew:
    """The crew of a FuncCallback; see contracts/crew."""

    def __init__(
        self,
        callback: FuncCallback,
        *,
        slots: int,
        env: Mapping[str, str],
        minion_id: str,
        wake_fd: int,
        guard: Guard | None = None,
        engine: Any = None,
        timeout_s: float | None = None,
        deadline: float | None = None,
        checkpoints: str | None = None,
        patience_s: float = 300.0,
        capture: bool = False,
        results: str | None = None,
        stop: Callable[[str, int], None] = lambda why, by_signal: None,
        before_output: Callable[[], None] | None = None,
        lines: Callable[[str], None] = lambda line: None,
    ) -> None:
        """As of worker/programs.ProgramCrew. `results`: the folder for results that are large
        (None: no result is kept). Starts the processes that load the function;
        `room` is 0 until one has it, and `wait` raises UsageError if it can't. `lines` takes
        warnings for a person."""
        self.slots = slots
        self._callback = callback
        self._around = Around(callback, engine)
        self._capture = capture
        self._timeout_s = timeout_s
        self._guard = Guarded(guard, minion_id)
        self._lines = lines
        self._output = Output(
            Sink(1, "stdout", lambda why: stop(why, 0), before_output),
            Sink(2, "stderr", lambda why: stop(why, 0), before_output),
            capture=capture,
            live=slots == 1,
        )
        folder = spool_folder(env)
        self._told = {
            "minion_id": minion_id,
            "deadline": deadline,
            "checkpoints": checkpoints,
            "capture": capture,
            "results": results,
        }
        self._env = env
        self._folder = folder
        self._crowding = Crowding(patience_s)
        self._ready = False
        """Whether a child ever had the function."""
        self._error: MinionizeError | None = None
        self._slots = [Slot(index, folder) for index in range(slots)]
        self._links = Links(wake_fd)
        self._ended: list[Outcome] = []
        self._room_made = False
        self._rounds = 0
        """Of the guard, when the parent of the children was started."""
        self._start_nursery()
        self._stopping = False
        self._closed = False

    # -- what the worker calls ---------------------------------------------------------------

    def room(self, seconds_each: float | None) -> int:
        """See contracts/crew. 0 while the function is being loaded."""
        if not self._ready or self._stopping or self._error or self._output.behind(self._slots):
            return 0
        most = 1 if seconds_each is None or self._around.hooked else batch(seconds_each)
        most = min(most, *[slot.batch_most() for slot in self._slots])
        slots = self._usable()
        if most == 1:
            return sum(slot.idle() for slot in slots)
        room = 0
        for slot in slots:
            load = slot.load()
            if load <= most // 2 and slot.open():
                room += most - load
        return room

    def start(self, leases: Sequence[Lease]) -> None:
        """See contracts/crew."""
        now = time.monotonic()
        plain: list[Lease] = []
        if not self._stopping and not self._around.hooked:
            plain = [lease for lease in leases if not lease.suspect]
            leases = [] if len(plain) == len(leases) else [x for x in leases if x.suspect]
        for lease in leases:
            if self._stopping:
                self._ended.append(Outcome(lease, Verdict.ABORTED))
                continue
            if not self._around.before(lease):
                continue
            if lease.suspect:
                min(self._usable() or self._slots, key=order).add_first([lease], now)
            else:
                plain.append(lease)
        for slot, share in shares(self._usable() or self._slots, plain):
            slot.add(share, now)
        for slot in self._slots:
            self._feed(slot, now)

    def running(self) -> Sequence[tuple[Lease, float]]:
        """See contracts/crew; as of the last `wait`."""
        now = time.monotonic()
        return [
            (slot.queue[0], now - slot.began)
            for slot in self._slots
            if slot.began is not None and slot.queue
        ]

    def wait(self, timeout_s: float) -> list[Outcome]:
        """See contracts/crew. UsageError if the function can't be loaded."""
        until = time.monotonic() + timeout_s
        if self._crowding.most == 0:
            self._crowding.check(until - timeout_s)
            until = max(until, until - timeout_s + LOADING_S)  # the loop waits for nothing else
        outcomes: list[Outcome] = []
        while True:
            now = time.monotonic()
            at_once = (
                self._error
                or self._around.waiting
                or (self._ended and not self._output.owes(self._slots))
            )
            pause_s = 0.0 if at_once else self._pause_s(until - now, now)
            if not self._ready:
                pause_s = max(pause_s, LOADING_S)
            woken, nursery = self._links.hear(pause_s)
            if nursery:
                self._listen()
            for slot in self._slots:
                slot.harvest(outcomes, self._capture)
            now = time.monotonic()
            self._enforce(now)
            self._output.pass_on(self._slots)
            for slot in self._slots:
                if slot.pending:
                    self._feed(slot, now)
            if self._ended:
                outcomes += self._ended
                self._ended = []
            if outcomes and self._output.owes(self._slots):
                # What could not be passed on yet was not done yet.
                self._ended, outcomes = outcomes, []
            if (
                outcomes
                or self._around.waiting
                or woken
                or self._error
                or self._room_made
                or now >= until
            ):
                break
        self._room_made = False
        if self._error is not None and not outcomes:
            raise self._error
        return self._around.after(outcomes)

    def revoke(self, older_than_s: float) -> list[Lease]:
        """See contracts/crew."""
        back: list[Lease] = []
        now = time.monotonic()
        for slot in self._slots:
            slot.harvest(self._ended, self._capture)
            since = slot.waits_since()
            if since is not None and now - since >= older_than_s:
                back += slot.take_back()
                for _, leases in slot.pending:
                    back += leases
                slot.pending.clear()
        return back

    def abort(self, ids: Collection[str]) -> None:
        """See contracts/crew."""
        now = time.monotonic()
        for slot in self._slots:
            slot.harvest(self._ended, self._capture)
            if any(lease.id in ids for lease in slot.queue):
                back = slot.take_back()
                if back:
                    slot.pending.appendleft((now, back))
                if slot.queue and slot.queue[0].id in ids:
                    self._kill(slot, Verdict.ABORTED, "")
            self._ended += [
                Outcome(lease, Verdict.ABORTED, slot.index) for lease in without(slot.pending, ids)
            ]

    def terminate(self) -> None:
        """See contracts/crew. Nothing is started any more."""
        self._stopping = True
        for slot in self._slots:
            slot.harvest(self._ended, self._capture)
            self._drop_waiting(slot)
            if slot.queue and slot.doom is None:
                slot.condemn(Verdict.ABORTED, "")
                self._nursery.signal(slot.index, slot.birth, signal.SIGTERM)

    def kill(self) -> None:
        """See contracts/crew. Nothing is started any more."""
        self._stopping = True
        for slot in self._slots:
            self._drop_waiting(slot)
            if slot.queue:
                self._kill(slot, Verdict.ABORTED, "")

    def close(self) -> None:
        """See contracts/crew."""
        if self._closed:
            return
        self._closed = True
        for slot in self._slots:
            if slot.queue:
                self._nursery.signal(slot.index, slot.birth, signal.SIGKILL)
        for slot in self._slots:
            if slot.link is not None:
                slot.link.close()
        # Before it is up it has no children that it should end.
        self._nursery.end(patience_s=2.0 if self._births.up else 0.0)
        self._guard.release(*range(self.slots + 1))
        self._output.pass_on(self._slots, final=True)
        for slot in self._slots:
            slot.close()
        self._output.close()

    # -- children ------------------------------------------------------------------------------

    def _feed(self, slot: Slot, now: float) -> None:
        """Send what the slot may have now; with a new child if it has none."""
        if not slot.pending:
            return
        if slot.link is None:
            self._births.want([slot])
        elif slot.loaded and not slot.queue:
            slot.rounds = self._guard.rounds()
        slot.send(now)
        if slot.unsent:
            self._links.send_on(slot)

    def _listen(self) -> None:
        """Heed what the zygote tells."""
        messages, there = self._nursery.messages()
        for told in messages:
            if "up" in told:
                self._births.up = True
                self._births.want(self._slots)
                continue
            (what,) = told.keys() & {"born", "unborn", "loaded", "unusable", "died"}
            slot = self._slots[told[what]]
            if slot.birth != told["birth"]:
                continue
            if what == "born":
                slot.pid = told["pid"]
                self._crowding.started(self._children(), self.slots, time.monotonic())
                self._guard.hold(slot.index, slot.pid)
                self._births.told(slot)
            elif what == "loaded":
                self._rounds = self._guard.rounds()
                slot.loaded = self._ready = self._room_made = True
                self._feed(slot, time.monotonic())
            elif what == "unusable":
                self._error = UsageError(told["why"])
            elif what == "died":
                self._bury(slot, told)
            else:
                self._miscarry(slot, told["why"])
        if not there:
            self._replace_nursery()

    def _bury(self, slot: Slot, told: dict[str, Any]) -> None:
        slot.harvest(self._ended, self._capture)
        by_guard = told["status"] == -signal.SIGKILL and self._guard.killed_since(slot.rounds)
        if by_guard and slot.doom is None:
            slot.condemn(Verdict.ABORTED, "the minion stood still for longer than its lease")
        self._links.forget(slot)
        self._guard.release(slot.index)
        was_loading = slot.loading()
        slot.bury(told, time.monotonic(), self._ended, self._capture)
        if self._stopping:
            self._drop_waiting(slot)
        elif by_guard:
            slot.stillborn = 0
        elif was_loading and not self._ready and not any(map(Slot.loading, self._slots)):
            self._error = self._error or UsageError(
                f"Python died ({ended_by(told['status'])}) while it loaded {self._callback.name}"
            )
        elif slot.stillborn >= STILLBORN_MOST:
            self._error = MinionizeError(
                f"the processes of {self._callback.name} die before they run anything, the last "
                f"by {ended_by(told['status'])}: try --inline"
            )
        if not self._stopping and self._error is None and not self._closed:
            self._births.want([slot])

    def _miscarry(self, slot: Slot, why: str) -> None:
        """No child could be forked for this slot: others may have room for what it has."""
        self._links.forget(slot)
        slot.bury({"status": 0}, time.monotonic(), self._ended, self._capture)
        slot.stillborn = 0
        why = f"no process can be started: {why}"
        self._crowding.refused(self._children(), why, time.monotonic())
        self._drop_waiting(slot, why, Verdict.CROWDED)
        self._births.told(slot)
        if not any(slot.link is not None for slot in self._slots):
            self._ready = self._room_made = True  # the next lease tries again, and tells why

    def _unmade(self, slot: Slot, error: OSError) -> None:
        """What a child shares with us could not be made."""
        self._miscarry(slot, os.strerror(error.errno or 0))
        if blame(error) is not Blame.CROWDED:
            self._error = unfit("no child can be made for the function", error)

    def _children(self) -> int:
        """How many there are, as far as it was told."""
        return sum(slot.pid != 0 for slot in self._slots)

    def _usable(self) -> list[Slot]:
        """The slots that have a child, or may have one now."""
        if self._crowding.most is None:
            return self._slots
        there = [slot for slot in self._slots if slot.link is not None]
        without_child = [slot for slot in self._slots if slot.link is None]
        return there + without_child[: self._crowding.room(len(there), time.monotonic())]

    def _start_nursery(self) -> None:
        self._rounds = self._guard.rounds()
        self._nursery: Nursery = Nursery(self._callback, self._env, self._folder, self._told)
        self._births: Births = Births(self._nursery, self._links, self._guard.rounds, self._unmade)
        self._links.add_nursery(self._nursery.control)
        self._guard.hold(self.slots, self._nursery.pid)

    def _replace_nursery(self) -> None:
        """The zygote died, by a signal from somewhere: its children are ended, too."""
        self._links.forget_nursery(self._nursery.control)
        status = self._nursery.end(patience_s=1.0)
        stood_still = self._guard.killed_since(self._rounds)
        if not self._births.up and not stood_still:
            self._error = self._error or UsageError(
                f"Python died ({ended_by(status)}) before it loaded {self._callback.name}"
            )
            return
        if not stood_still:
            self._lines(f"the parent of the processes died ({ended_by(status)}): once more")
        self._births.up = False
        for slot in self._slots:
            if slot.pid:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(slot.pid, signal.SIGKILL)
            if slot.link is not None:
                self._bury(slot, {"status": status})
                slot.stillborn = 0
        self._guard.release(*range(self.slots + 1))
        if not self._stopping:
            self._start_nursery()

    # -- ending runs ---------------------------------------------------------------------------

    def _kill(self, slot: Slot, verdict: Verdict, reason: str) -> None:
        slot.condemn(verdict, reason)
        self._nursery.signal(slot.index, slot.birth, signal.SIGKILL)

    def _drop_waiting(self, slot: Slot, why: str = "", verdict: Verdict = Verdict.ABORTED) -> None:
        back = slot.take_back()
        for _, leases in slot.pending:
            back += leases
        slot.pending.clear()
        self._ended += [Outcome(lease, verdict, slot.index, reason=why) for lease in back]

    def _enforce(self, now: float) -> None:
        """Kill the children whose run is over time."""
        if self._timeout_s is None:
            return
        for slot in self._slots:
            began = slot.began if slot.queue and slot.doom is None else None
            if began is not None and now - began >= self._timeout_s:
                self._kill(slot, Verdict.FAILED, "timeout")

    def _pause_s(self, left_s: float, now: float) -> float:
        """How long nothing needs us."""
        watched = len(self._slots) == 1 and not self._capture
        for slot in self._slots:
            left_s = min(left_s, slot.quiet_s(now, self._timeout_s, TICK_S))
            if slot.queue and watched:
                left_s = min(left_s, LOOK_S)
        if self._output.owes(self._slots):
            left_s = min(left_s, 0.05 if self._output.blocked else 0.0)
        return left_s

"""FunctionCrew: runs a Python function on params, in children that a zygote forks.

Each slot has a child that is fed batches and notes down its outcomes in a file that outlives it.
So a param that kills its child costs that param one attempt: those before it keep their outcome,
those behind it run in the next child.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from minionize.callbacks.func import FuncCallback
from minionize.contracts.crew import Outcome, Verdict
from minionize.values import Lease
from minionize.worker.crowding import Crowding
from minionize.worker.functions.children import Children
from minionize.worker.functions.guarded import Guarded
from minionize.worker.functions.hooks import Around
from minionize.worker.functions.links import Links
from minionize.worker.functions.nursery import Nursery
from minionize.worker.functions.passing import Output
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
        `room` is 0 until one has it, and `wait` raises if it can't. `lines` takes
        warnings for a person."""
        self.slots = slots
        self._around = Around(callback, engine)
        self._capture = capture
        self._timeout_s = timeout_s
        self._output = Output(
            Sink(1, "stdout", lambda why: stop(why, 0), before_output),
            Sink(2, "stderr", lambda why: stop(why, 0), before_output),
            capture=capture,
            live=slots == 1,
        )
        folder = spool_folder(env)
        told = {
            "minion_id": minion_id,
            "deadline": deadline,
            "checkpoints": checkpoints,
            "capture": capture,
            "results": results,
        }
        self._crowding = Crowding(patience_s)
        self._slots = [Slot(index, folder, capture) for index in range(slots)]
        self._links = Links(wake_fd)
        self._children = Children(
            self._slots,
            lambda: Nursery(callback, env, folder, told),
            self._links,
            Guarded(guard, minion_id),
            self._crowding,
            lines,
        )
        self._ended = self._children.ended
        self._closed = False

    # -- what the worker calls ---------------------------------------------------------------

    def room(self, seconds_each: float | None) -> int:
        """See contracts/crew. 0 while the function is being loaded."""
        children = self._children
        if not children.ready or children.stopping or children.error:
            return 0
        if self._output.behind(self._slots):
            return 0
        most = 1 if seconds_each is None or self._around.hooked else batch(seconds_each)
        most = min(most, *[slot.batch_most() for slot in self._slots])
        slots = children.usable()
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
        children = self._children
        now = time.monotonic()
        plain: list[Lease] = []
        if not children.stopping and not self._around.hooked:
            plain = [lease for lease in leases if not lease.suspect]
            leases = [] if len(plain) == len(leases) else [x for x in leases if x.suspect]
        for lease in leases:
            if children.stopping:
                self._ended.append(Outcome(lease, Verdict.ABORTED))
                continue
            if not self._around.before(lease):
                continue
            if lease.suspect:
                min(children.usable() or self._slots, key=order).add_first([lease], now)
            else:
                plain.append(lease)
        for slot, share in shares(children.usable() or self._slots, plain):
            slot.add(share, now)
        for slot in self._slots:
            children.feed(slot, now)

    def running(self) -> Sequence[tuple[Lease, float]]:
        """See contracts/crew; as of the last `wait`."""
        now = time.monotonic()
        return [
            (slot.queue[0], now - slot.began)
            for slot in self._slots
            if slot.began is not None and slot.queue
        ]

    def wait(self, timeout_s: float) -> list[Outcome]:
        """See contracts/crew. UsageError if the function can't be loaded, HostUnfit if
        that, or that there is no child, is the machine's fault."""
        children = self._children
        until = time.monotonic() + timeout_s
        if self._crowding.most == 0:
            if not any(map(Slot.loading, self._slots)):
                self._crowding.check(until - timeout_s)
            until = max(until, until - timeout_s + LOADING_S)  # the loop waits for nothing else
        outcomes: list[Outcome] = []
        while True:
            now = time.monotonic()
            at_once = (
                children.error
                or self._around.waiting
                or (self._ended and not self._output.owes(self._slots))
            )
            pause_s = 0.0 if at_once else self._pause_s(until - now, now)
            if not children.ready:
                pause_s = max(pause_s, LOADING_S)
            woken, nursery = self._links.hear(pause_s)
            if nursery:
                children.listen()
            for slot in self._slots:
                slot.harvest(outcomes)
            now = time.monotonic()
            self._enforce(now)
            self._output.pass_on(self._slots)
            for slot in self._slots:
                if slot.pending:
                    children.feed(slot, now)
            if self._ended:
                outcomes += self._ended
                self._ended.clear()
            if outcomes and self._output.owes(self._slots):
                # What could not be passed on yet was not done yet.
                self._ended += outcomes
                outcomes = []
            if (
                outcomes
                or self._around.waiting
                or woken
                or children.error
                or children.room_made
                or now >= until
            ):
                break
        children.room_made = False
        if children.error is not None and not outcomes:
            raise children.error
        return self._around.after(outcomes)

    def revoke(self, older_than_s: float) -> list[Lease]:
        """See contracts/crew."""
        back: list[Lease] = []
        now = time.monotonic()
        for slot in self._slots:
            slot.harvest(self._ended)
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
            slot.harvest(self._ended)
            if any(lease.id in ids for lease in slot.queue):
                back = slot.take_back()
                if back:
                    slot.pending.appendleft((now, back))
                if slot.queue and slot.queue[0].id in ids:
                    self._children.kill(slot, Verdict.ABORTED, "")
            self._ended += [
                Outcome(lease, Verdict.ABORTED, slot.index) for lease in without(slot.pending, ids)
            ]

    def terminate(self) -> None:
        """See contracts/crew. Nothing is started any more."""
        self._children.stopping = True
        for slot in self._slots:
            slot.harvest(self._ended)
            self._children.drop_waiting(slot)
            if slot.queue and slot.doom is None:
                slot.condemn(Verdict.ABORTED, "")
                self._children.signal(slot, signal.SIGTERM)

    def kill(self) -> None:
        """See contracts/crew. Nothing is started any more."""
        self._children.stopping = True
        for slot in self._slots:
            self._children.drop_waiting(slot)
            if slot.queue:
                self._children.kill(slot, Verdict.ABORTED, "")

    def close(self) -> None:
        """See contracts/crew."""
        if self._closed:
            return
        self._closed = True
        self._children.close()
        self._output.pass_on(self._slots, final=True)
        for slot in self._slots:
            slot.close()
        self._output.close()

    # -- how ----------------------------------------------------------------------------------

    def _enforce(self, now: float) -> None:
        """Kill the children whose run is over time."""
        if self._timeout_s is None:
            return
        for slot in self._slots:
            began = slot.began if slot.queue and slot.doom is None else None
            if began is not None and now - began >= self._timeout_s:
                self._children.kill(slot, Verdict.FAILED, "timeout")

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

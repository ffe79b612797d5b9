"""The children of a function crew, and the zygote that forks them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

from minionize.contracts.crew import Outcome, Verdict
from minionize.errors import MinionizeError, UsageError
from minionize.worker.blame import Blame, blame, unfit, unloaded
from minionize.worker.crowding import Crowding
from minionize.worker.functions.births import Births
from minionize.worker.functions.guarded import Guarded
from minionize.worker.functions.links import Links
from minionize.worker.functions.nursery import Nursery
from minionize.worker.functions.records import ended_by
from minionize.worker.functions.slot import Slot

STILLBORN_MOST = 3


class Children:
    """One for each slot: what comes before their runs, between these, and after a death."""

    def __init__(
        self,
        slots: Sequence[Slot],
        new_nursery: Callable[[], Nursery],
        links: Links,
        guard: Guarded,
        crowding: Crowding,
        lines: Callable[[str], None],
    ) -> None:
        """Starts a nursery, which loads the function. `new_nursery` is called again when that
        dies. `lines` takes warnings for a person."""
        self._slots = slots
        self._new_nursery = new_nursery
        self._links = links
        self._guard = guard
        self._crowding = crowding
        self._lines = lines
        self.ready = False
        """Whether a child ever had the function."""
        self.error: MinionizeError | None = None
        """Why the crew can't go on."""
        self.room_made = False
        """Whether a child got its function, or could not be made, since this was last cleared."""
        self.stopping = False
        """Whether no child is to be made, and no run to be started, any more."""
        self.ended: list[Outcome] = []
        """Of runs about which no child can say anything. Always the same list."""
        self._loaded = False
        """Whether the function was ever loaded here."""
        self._load_refused = False
        """Whether the machine kept the last child from loading it: births tell nothing then."""
        self._rounds = 0
        """Of the guard, when the parent of the children was started."""
        self._start_nursery()

    def feed(self, slot: Slot, now: float) -> None:
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

    def listen(self) -> None:
        """Heed what the zygote tells."""
        messages, there = self._nursery.messages()
        for told in messages:
            if "up" in told:
                self._births.up = True
                self._births.want(self._slots)
                continue
            (what,) = told.keys() & {"born", "unborn", "loaded", "unloaded", "unusable", "died"}
            slot = self._slots[told[what]]
            if slot.birth != told["birth"]:
                continue
            if what == "born":
                slot.pid = told["pid"]
                if not self._load_refused:
                    self._crowding.started(self._count(), len(self._slots), time.monotonic())
                self._guard.hold(slot.index, slot.pid)
                self._births.told(slot)
            elif what == "loaded":
                self._rounds = self._guard.rounds()
                slot.loaded = self.ready = self.room_made = self._loaded = True
                if self._load_refused:
                    self._load_refused = False
                    self._crowding.started(self._count(), len(self._slots), time.monotonic())
                self.feed(slot, time.monotonic())
            elif what == "unusable":
                self.error = UsageError(told["why"])
            elif what == "unloaded":
                slot.unloaded = told["why"], told["errno"]
            elif what == "died" and slot.unloaded is not None:
                self._unloaded(slot, *slot.unloaded)
            elif what == "died":
                self._bury(slot, told)
            else:
                self._miscarry(slot, f"no process can be started: {told['why']}")
        if not there:
            self._replace_nursery()

    def _bury(self, slot: Slot, told: dict[str, Any]) -> None:
        slot.harvest(self.ended)
        by_guard = told["status"] == -signal.SIGKILL and self._guard.killed_since(slot.rounds)
        if by_guard and slot.doom is None:
            slot.condemn(Verdict.ABORTED, "the minion stood still for longer than its lease")
        self._links.forget(slot)
        self._guard.release(slot.index)
        was_loading = slot.loading()
        slot.bury(told, time.monotonic(), self.ended)
        if self.stopping:
            self.drop_waiting(slot)
        elif by_guard:
            slot.stillborn = 0
        elif was_loading and not self.ready and not any(map(Slot.loading, self._slots)):
            self.error = self.error or UsageError(
                f"Python died ({ended_by(told['status'])}) while it loaded {self._nursery.name}"
            )
        elif slot.stillborn >= STILLBORN_MOST:
            self.error = MinionizeError(
                f"the processes of {self._nursery.name} die before they run anything, the last "
                f"by {ended_by(told['status'])}: try --inline"
            )
        if not self.stopping and self.error is None:
            self._births.want([slot])

    def _miscarry(self, slot: Slot, why: str) -> None:
        """No child can be had for this slot, because of `why`: others may have room for what it
        has."""
        self._links.forget(slot)
        slot.bury({"status": 0}, time.monotonic(), self.ended)
        slot.stillborn = 0
        self._crowding.refused(self._count(), why, time.monotonic())
        self.drop_waiting(slot, why, Verdict.CROWDED)
        self._births.told(slot)
        if not any(slot.link is not None for slot in self._slots):
            self.ready = self.room_made = True  # the next lease tries again, and tells why

    def _unmade(self, slot: Slot, error: OSError) -> None:
        """What a child shares with us could not be made."""
        self._miscarry(slot, f"no process can be started: {os.strerror(error.errno or 0)}")
        if blame(error) is not Blame.CROWDED:
            self.error = unfit("no child can be made for the function", error)

    def _unloaded(self, slot: Slot, why: str, number: int) -> None:
        """The machine kept a child from loading the function, and the child is gone."""
        slot.unloaded = None
        self._guard.release(slot.index)
        self._load_refused = True
        self._miscarry(slot, f"the function can't be loaded: {why}")
        crowded = blame(OSError(number, why)) is Blame.CROWDED
        others = any(other.link is not None for other in self._slots)
        if not (others or (crowded and self._loaded) or self.stopping):
            self.error = self.error or unloaded(self._nursery.name, why, number)

    def _count(self) -> int:
        """How many there are, as far as it was told."""
        return sum(slot.pid != 0 for slot in self._slots)

    def usable(self) -> Sequence[Slot]:
        """The slots that have a child, or may have one now."""
        if self._crowding.most is None:
            return self._slots
        there = [slot for slot in self._slots if slot.link is not None]
        without_child = [slot for slot in self._slots if slot.link is None]
        return there + without_child[: self._crowding.room(len(there), time.monotonic())]

    def _start_nursery(self) -> None:
        self._rounds = self._guard.rounds()
        self._nursery: Nursery = self._new_nursery()
        self._births: Births = Births(self._nursery, self._links, self._guard.rounds, self._unmade)
        self._links.add_nursery(self._nursery.control)
        self._guard.hold(len(self._slots), self._nursery.pid)

    def _replace_nursery(self) -> None:
        """The zygote died, by a signal from somewhere: its children are ended, too."""
        self._links.forget_nursery(self._nursery.control)
        status = self._nursery.end(patience_s=1.0)
        stood_still = self._guard.killed_since(self._rounds)
        if not self._births.up and not stood_still:
            self.error = self.error or UsageError(
                f"Python died ({ended_by(status)}) before it loaded {self._nursery.name}"
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
        self._guard.release(*range(len(self._slots) + 1))
        if self.stopping:
            return
        what = "the parent of the function's processes can't be started again"
        try:
            self._start_nursery()
        except OSError as error:
            self.error = self.error or unfit(what, error)
        except MinionizeError as error:
            # The same interpreter was started here before: whatever it is, it is the machine.
            cause = error.__cause__
            again = unfit(what, cause) if isinstance(cause, OSError) else error
            self.error = self.error or again

    # -- ending runs ---------------------------------------------------------------------------

    def signal(self, slot: Slot, number: int) -> None:
        """Signal the child of this slot, and what it started."""
        self._nursery.signal(slot.index, slot.birth, number)

    def kill(self, slot: Slot, verdict: Verdict, reason: str) -> None:
        """Kill this child because of its current run, which gets this verdict unless it is over
        first."""
        slot.condemn(verdict, reason)
        self.signal(slot, signal.SIGKILL)

    def drop_waiting(self, slot: Slot, why: str = "", verdict: Verdict = Verdict.ABORTED) -> None:
        """What waits in this slot gets this verdict."""
        back = slot.take_back()
        for _, leases in slot.pending:
            back += leases
        slot.pending.clear()
        self.ended += [Outcome(lease, verdict, slot.index, reason=why) for lease in back]

    def close(self) -> None:
        """Kill them all, and the zygote."""
        self.stopping = True
        for slot in self._slots:
            if slot.queue:
                self.signal(slot, signal.SIGKILL)
        for slot in self._slots:
            if slot.link is not None:
                slot.link.close()
        # Before it is up it has no children that it should end.
        self._nursery.end(patience_s=2.0 if self._births.up else 0.0)
        self._guard.release(*range(len(self._slots) + 1))

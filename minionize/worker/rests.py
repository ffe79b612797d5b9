"""The rest of a run: what goes on in its process group when its main process has ended.

A run is over when its work is. A copy in the background, a process substitution, a compressor
behind a pipe may still write what the run is for. So the rest is waited for, `--grace` at most;
then it gets TERM, and KILL a moment later.

The group's number stays its own while one process is in it: Linux gives no number to a new process
that is the number of a process, of a group or of a session. The main process is reaped first, since
a group that holds only it looks like one with a rest. From then on the group is looked at every
50 ms at least. For a stranger's group to have that number, all other numbers (32,768 at least) had
to be given away between two looks, as Linux goes through them in a circle.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from typing import Any

from minionize.worker.guard import Guard
from minionize.worker.lines import duration
from minionize.worker.orphans import Orphans
from minionize.worker.program_slot import NEVER, Slot

TERM_S = 1.0
"""What got TERM has so long before KILL, or `--grace` if that is less."""
KILLED_S = 5.0
"""What got KILL is gone after this, or hangs in the kernel: it is waited for no more."""
LOOK_S = 0.05
"""A rest is looked at so often, and more often at first."""
ZOMBIES_S = 0.25
"""A group that lives so much longer may be made of processes that are not reaped."""
_NAMED = 3
"""So many programs of a rest are named."""


class Rest:
    """What is left of one run. Times are monotonic seconds."""

    __slots__ = ("at", "cut", "killed", "look_at", "note", "status", "until", "usage")

    def __init__(self, at: float, until: float, status: int, usage: Any) -> None:
        self.at = at
        """When its main process ended."""
        self.until = until
        """When something is done about it."""
        self.look_at = at + 0.001
        self.status, self.usage = status, usage
        """Of the main process, as of wait4."""
        self.cut = False
        """It got a signal of ours, so what it wrote may not be whole."""
        self.killed = False
        self.note = ""
        """What became of it, for people; empty if it ended by itself."""


class Rests:
    """The runs of one crew whose main process has ended, and whose rest has not."""

    def __init__(self, orphans: Orphans, guard: Guard | None, grace_s: float) -> None:
        self._orphans = orphans
        self._guard = guard
        self.grace_s = grace_s
        """From TERM to KILL, and the time that a rest has to end by itself."""
        self.slots: list[Slot] = []
        self.look_at = NEVER
        """When one of them is to be looked at."""

    def is_left(self, slot: Slot) -> bool:
        """Whether anything goes on of the run whose main process was just reaped."""
        if self._orphans.adopting:
            # Whatever is left is one of our children, or has one above it.
            slot.outlived = self._orphans.any()
            return slot.outlived and self._is_alive(slot)
        slot.outlived = True  # as far as can be known
        return _is_group(slot.pid) and self._is_alive(slot)

    def begin(self, slot: Slot, status: int, usage: Any, now: float) -> None:
        """Wait for the rest of this run."""
        # Told to end with the minion, the rest was told as well, and is killed with all others.
        until = NEVER if slot.end else now + self.grace_s
        slot.rest = rest = Rest(now, until, status, usage)
        if self._guard is not None:
            self._guard.hold(slot.index, slot.pid)
        self.slots.append(slot)
        self.look_at = min(self.look_at, rest.look_at)

    def signalled(self, slot: Slot, number: int, now: float) -> None:
        """The group got this signal, since its run is to end at once, or was to be over: what
        left the group gets it as well."""
        rest = slot.rest
        assert rest is not None and slot.lease is not None
        for pid, group in self._orphans.away(slot.pid, slot.lease.id):
            if group == pid:
                send(pid, number)
            else:
                with contextlib.suppress(OSError):
                    os.kill(pid, number)
                    os.kill(pid, signal.SIGCONT)
        rest.cut = True
        rest.until = NEVER
        if number == signal.SIGKILL:
            rest.killed = True
            rest.until = now + KILLED_S
        self.look_at = rest.look_at = now

    def look(self, now: float) -> list[Slot]:
        """The slots whose runs are over now."""
        over = [
            slot for slot in self.slots if slot.rest and not self._goes_on(slot, slot.rest, now)
        ]
        if over:
            self.slots = [slot for slot in self.slots if slot not in over]
        looks = [min(slot.rest.look_at, slot.rest.until) for slot in self.slots if slot.rest]
        self.look_at = min(looks, default=NEVER)
        return over

    def _goes_on(self, slot: Slot, rest: Rest, now: float) -> bool:
        if now < rest.look_at and now < rest.until:
            return True
        waited_s = now - rest.at
        rest.look_at = now + min(LOOK_S, 0.001 + waited_s / 4)
        if not self._is_alive(slot):
            return False
        if waited_s > ZOMBIES_S and not self._orphans.adopting:
            rest.look_at = now + ZOMBIES_S
            if not members(slot.pid):
                return False
        if now < rest.until:
            return True
        return not rest.killed and self._end(slot, rest, now)

    def _is_alive(self, slot: Slot) -> bool:
        assert slot.lease is not None
        orphans = self._orphans
        orphans.sort([slot.pid, *(each.pid for each in self.slots)])
        if orphans.of(slot.pid, slot.lease.id):
            return True
        if not orphans.adopting:
            _reap_group(slot.pid)
        return _is_group(slot.pid)

    def _end(self, slot: Slot, rest: Rest, now: float) -> bool:
        """Its time is over: TERM, then KILL. What left the group may go on. Returns whether the
        run goes on."""
        assert slot.lease is not None
        found = members(slot.pid)
        if not found:
            # As after `xargs`. The guard ends it together with the minion.
            away = self._orphans.of(slot.pid, slot.lease.id)
            if away and not rest.note:
                rest.note = f"what left its process group goes on: {_names(map(_name_of, away))}"
            self._orphans.let_be(away)
            return False
        if rest.cut:
            send(slot.pid, signal.SIGKILL)
            rest.killed = True
            rest.until = now + KILLED_S
            return True
        rest.note = (
            f"its process group went on for {duration(now - rest.at)} after its end, and was "
            f"ended: {_names(name for _, name in found)}"
        )
        rest.cut = True
        send(slot.pid, signal.SIGTERM)
        rest.until = now + min(TERM_S, self.grace_s)
        return True


def ended_well(pid: int) -> bool:
    """Whether this child, which ended and is not reaped yet, exited with 0."""
    end = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return end is not None and end.si_code == os.CLD_EXITED and not end.si_status


def send(pgid: int, number: int) -> None:
    """A signal to the group, which a stopped process gets as well."""
    with contextlib.suppress(OSError):
        os.killpg(pgid, number)
        os.killpg(pgid, signal.SIGCONT)


def members(pgid: int) -> list[tuple[int, str]]:
    """Pid and name of each living process of a group. Reads all of /proc."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as file:
                head, _, fields = file.read().rpartition(b") ")
        except OSError:
            continue
        state, _, group = fields.split(b" ", 3)[:3]
        if int(group) == pgid and state not in (b"Z", b"X"):
            found.append((int(entry), head.partition(b"(")[2].decode(errors="replace")))
    return found


def _is_group(pgid: int) -> bool:
    try:
        os.killpg(pgid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True


def _reap_group(pgid: int) -> None:
    """Where we are the first process of a container, its orphans are ours in any case."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-pgid, os.WNOHANG)[0]:
            continue


def _name_of(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "?"


def _names(names: Iterable[str]) -> str:
    """`cp, gzip and 3 more`."""
    all_ = list(names)
    more = len(all_) - _NAMED
    return ", ".join(all_[:_NAMED]) + (f" and {more} more" if more > 0 else "")

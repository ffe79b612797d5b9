"""Watching over the others: who stands still is taken over, and what it held comes back."""

from __future__ import annotations

from typing import NamedTuple

from minionize.engines.file import slot as slots
from minionize.engines.file.batches import NotVisible
from minionize.engines.file.head import Head
from minionize.engines.file.head_file import unavailable
from minionize.engines.file.member import (
    Member,
    count_out,
    parse_journal,
    remove_leftovers,
)
from minionize.engines.file.publishing import Draft, Publisher
from minionize.engines.file.room import Room
from minionize.engines.file.settling import remove_checkpoint
from minionize.engines.file.slot import Slot
from minionize.engines.file.texts import Texts
from minionize.engines.file.tidying import Litter, find_litter, remove

_GLANCE_EVERY_S = 1.0
"""How often an idle minion asks for locks of dead processes of its own host."""
_FEW = 8
"""Up to so many members everybody watches everybody."""


class Seen(NamedTuple):
    """What an observer knows of a member."""

    generation: int
    beat: bytes
    since: float
    """When the beat was first seen to be this, on the observer's monotonic clock."""
    looked: float


class Sweeper:
    """One member's eyes on the others. Two that take over the same slot harm nobody: each step
    checks slot, state and generation under the lock."""

    def __init__(self, room: Room, member: Member, publisher: Publisher, texts: Texts) -> None:
        self._room = room
        self._member = member
        self._publisher = publisher
        self._texts = texts
        self._seen: dict[int, Seen] = {}
        self._looked_at = -1e9
        self._glanced_at = -1e9
        self._tidied_at = -1e9

    @property
    def _every_s(self) -> float:
        return self._room.options.lease_s / 4

    def glance(self) -> None:
        """A cheap look while idle: at most one a second."""
        now = self._room.calls.monotonic()
        if now - self._glanced_at >= min(_GLANCE_EVERY_S, self._every_s):
            self._glanced_at = now
            self._sweep(now)

    def look(self) -> None:
        """The look that belongs to a beat."""
        now = self._room.calls.monotonic()
        if now - self._looked_at >= self._every_s:
            self._sweep(now)
        else:
            self.glance()

    def _sweep(self, now: float) -> None:
        everybody = now - self._looked_at >= self._every_s
        if everybody:
            self._looked_at = now
        if not self._member.joined:
            return
        with self._room.head as head:
            if not self._member.is_mine(slots.decode(self._room.head.slot(self._member.index))):
                return
            watched = self._watched(head)
            litter = self._litter(head)
        remove(self._room, litter)
        for index, slot in watched.items():
            if slot.state == slots.GONE:
                self._finish(index, slot)
            elif (everybody or slot.boot == self._member.boot) and self._is_dead(index, slot, now):
                taken = self._begin(index, slot, now)
                if taken is not None:
                    self._finish(index, taken)

    def _watched(self, head: Head) -> dict[int, Slot]:
        """The slots to look at: all, or for all but one minion of many only that one."""
        me = self._member.index
        watcher, generation = head.sweeper
        if watcher != me and watcher >= 0 and head.minions + head.feeders > _FEW:
            slot = slots.decode(self._room.head.slot(watcher))
            if slot.generation == generation and slot.state == slots.LIVE:
                return {watcher: slot}
        if watcher != me and (watcher < 0 or head.minions + head.feeders > _FEW):
            head.sweeper = (me, self._member.generation)
            self._room.head.write()
        found = {}
        for index, record in enumerate(self._room.head.slots()):
            slot = slots.decode(record)
            if index != me and slot.state != slots.FREE:
                found[index] = slot
        self._seen = {index: seen for index, seen in self._seen.items() if index in found}
        return found

    def _litter(self, head: Head) -> Litter:
        """What may be removed; looked for by one minion, once in a lease."""
        now = self._room.calls.monotonic()
        mine = (self._member.index, self._member.generation)
        if head.sweeper != mine or now - self._tidied_at < self._room.options.lease_s:
            return Litter([], [])
        self._tidied_at = now
        return find_litter(self._room, head)

    def _is_dead(self, index: int, slot: Slot, now: float) -> bool:
        """Whether its beat stood still for its lease, looked at every quarter of it; or, on this
        host, whether its process and the lock on its beat are gone."""
        beat = self._beat_of(slot)
        if beat is None:
            return True
        seen = self._seen.get(index)
        if seen is None or seen.generation != slot.generation or seen.beat != beat:
            self._seen[index] = Seen(slot.generation, beat, now, now)
            return False
        if now - seen.looked > slot.lease_s / 2:
            # We did not look ourselves for long (stopped, asleep): what we saw then tells nothing.
            self._seen[index] = seen._replace(since=now, looked=now)
            return False
        self._seen[index] = seen._replace(looked=now)
        return now - seen.since >= slot.lease_s

    def _beat_of(self, slot: Slot) -> bytes | None:
        """The beat, or None if the process is dead for sure. A beat that can't be read stands
        still."""
        calls = self._room.calls
        path = f"{self._room.member_folder(slot.folder)}/beat"
        try:
            fd = calls.open(path, write=slot.boot == self._member.boot)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise unavailable(error, "cannot read", path) from error
        try:
            if (
                slot.boot
                and slot.boot == self._member.boot
                and not calls.is_locked(fd)
                # A server that lost sight of this host drops its locks, and nobody died.
                and not (slot.pid and calls.is_running(slot.pid))
            ):
                return None
            if self._room.shared:
                calls.forget(fd)
            return calls.pread(fd, 64, 0)
        except OSError as error:
            raise unavailable(error, "cannot read", path) from error
        finally:
            calls.close(fd)

    # ---- taking over, in two trips
    def _begin(self, index: int, before: Slot, now: float) -> Slot | None:
        """First trip: still dead under the lock, so its generation ends. From here on whoever it
        was can claim, fold and return nothing."""
        with self._room.head as head:
            if not self._member.is_mine(slots.decode(self._room.head.slot(self._member.index))):
                return None
            slot = slots.decode(self._room.head.slot(index))
            if slot.generation != before.generation or slot.state != slots.LIVE:
                return None
            beat = self._beat_of(slot)
            seen = self._seen.get(index)
            if beat is not None and (seen is None or beat != seen.beat):
                return None
            head.lives += 1
            gone = slot._replace(generation=head.lives, state=slots.GONE)
            head.changed[index] = gone.encode()
            count_out(head, slot)
            if head.sweeper[0] == index:
                head.sweeper = (self._member.index, self._member.generation)
            if slot.feeder and not slot.claims:
                # Nothing to give back: free it at once.
                head.changed[index] = Slot(generation=gone.generation).encode()
            self._room.head.write()
        if slot.feeder and not slot.claims:
            remove_leftovers(self._room, slot.folder)
            return None
        return gone

    def _finish(self, index: int, slot: Slot) -> None:
        """Second trip: what it held is announced, what it had acked is settled, its slot is free,
        all in one write."""
        marked, acked = self._journal_of(slot)
        lines: list[str] = []
        settled: list[int] = []
        try:
            for claim in slot.claims:
                for position, record in self._texts.records(claim):
                    mark = (claim.serial, position)
                    if mark in acked:
                        settled.append(record.id)
                        continue
                    crashes = record.crashes + (mark in marked)
                    lines.append(record._replace(crashes=crashes, suspect=True).line())
        except NotVisible:
            return  # waited for: the slot stays as it is until the file appears
        drafts = [Draft("0", lines, suspect=True)] if lines else []
        with self._publisher.drafting(self._member, drafts) as drafting, self._room.head as head:
            if not self._member.is_mine(slots.decode(self._room.head.slot(self._member.index))):
                return
            if slots.decode(self._room.head.slot(index)) != slot:
                return  # somebody else finished it
            drafting.announce(head)
            head.settled += len(settled)
            head.changed[index] = Slot(generation=slot.generation).encode()
            self._room.head.write()
        if settled and self._room.calls.exists(self._room.checkpoints):
            for number in settled:
                remove_checkpoint(self._room, number)
        remove_leftovers(self._room, slot.folder)

    def _journal_of(self, slot: Slot) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
        path = f"{self._room.member_folder(slot.folder)}/journal"
        try:
            return parse_journal(self._room.calls.read_whole(path))
        except FileNotFoundError:
            return set(), set()
        except OSError as error:
            raise unavailable(error, "cannot read", path) from error

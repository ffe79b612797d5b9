"""Watching over the others: who stands still is taken over, and what it held comes back."""

from __future__ import annotations

from typing import NamedTuple

from minionize.engines.file import slot as slots
from minionize.engines.file.batches import NotVisible
from minionize.engines.file.head import Head
from minionize.engines.file.head_file import unavailable
from minionize.engines.file.locking import LockTaken
from minionize.engines.file.member import (
    Member,
    count_out,
    free,
    parse_journal,
    remove_leftovers,
)
from minionize.engines.file.publishing import Draft, Publisher
from minionize.engines.file.room import Room
from minionize.engines.file.settling import remove_checkpoint
from minionize.engines.file.slot import Slot
from minionize.engines.file.texts import Texts
from minionize.engines.file.tidying import Litter, find_litter, remove
from minionize.errors import EngineUnavailable

_GLANCE_EVERY_S = 1.0
"""How often a minion looks for dead processes of its own host, if it visits the head anyway."""
_FEW = 8
"""Up to so many members everybody watches everybody."""


class Seen(NamedTuple):
    """What an observer knows of a member."""

    generation: int
    beat: bytes
    since: float
    """When the beat was first seen to be this, on the observer's monotonic clock."""
    looked: float


class Round(NamedTuple):
    """What is to be looked at, as the head had it."""

    now: float
    everybody: bool
    """Those of other hosts too."""
    watched: dict[int, str]
    """Records by slot."""
    litter: Litter
    partly: bool = False
    """Only those with which there was trouble."""


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
        self._troubled: set[int] = set()
        """Slots of members that could not be looked at or taken over the last time."""

    @property
    def _every_s(self) -> float:
        return self._room.options.lease_s / 4

    def plan(self, head: Head) -> Round | None:
        """Whom to look at, if it is time; inside a visit in which the slot was seen to be ours. So
        it costs no visit of its own."""
        now = self._room.calls.monotonic()
        everybody = now - self._looked_at >= self._every_s
        if not everybody and now - self._glanced_at < min(_GLANCE_EVERY_S, self._every_s):
            if not self._troubled:
                return None
            # At once again: what is held there is nobody's until it could be moved.
            return Round(now, False, self._with_troubled(head, {}), Litter([], []), partly=True)
        self._glanced_at = now
        if everybody:
            self._looked_at = now
        watched = self._with_troubled(head, self._watched(head))
        return Round(now, everybody, watched, self._litter(head))

    def go(self, planned: Round | None) -> None:
        """Look at them, without the lock, and take over who is dead. EngineUnavailable if one
        could not be, as long as it can't."""
        if planned is None:
            return
        now, everybody, records, litter, partly = planned
        remove(self._room, litter)
        watched = {}
        for index, record in records.items():
            if index != self._member.index and not slots.is_free(record):
                watched[index] = slots.decode(record)
        if not partly:
            self._seen = {index: seen for index, seen in self._seen.items() if index in watched}
        self._troubled &= watched.keys()
        trouble: EngineUnavailable | None = None
        for index, slot in watched.items():
            here = slot.boot == self._member.boot
            if not (everybody or here or slot.state == slots.GONE or index in self._troubled):
                continue
            self._troubled.discard(index)
            try:
                self._look_at(index, slot, now)
            except EngineUnavailable as error:
                trouble = error
                self._troubled.add(index)
                if isinstance(error, LockTaken):
                    break  # so it would be for each
        if trouble is not None:
            raise trouble

    def _look_at(self, index: int, slot: Slot, now: float) -> None:
        if slot.state == slots.GONE:
            self._finish(index, slot)
        elif self._is_dead(index, slot, now):
            taken = self._begin(index, slot, now)
            if taken is not None:
                self._finish(index, taken)

    def _with_troubled(self, head: Head, records: dict[int, str]) -> dict[int, str]:
        for index in self._troubled:
            if index < head.size:
                records.setdefault(index, self._room.head.slot(index))
        return records

    def _watched(self, head: Head) -> dict[int, str]:
        """The records of slots to look at: all, or for all but one minion of many only that one."""
        me = self._member.index
        watcher, generation = head.sweeper
        if watcher != me and watcher >= 0 and head.minions + head.feeders > _FEW:
            record = self._room.head.slot(watcher)
            slot = slots.decode(record)
            if slot.generation == generation and slot.state == slots.LIVE:
                return {watcher: record}
        if watcher != me and (watcher < 0 or head.minions + head.feeders > _FEW):
            head.sweeper = (me, self._member.generation)
            self._room.head.write()
        return dict(enumerate(self._room.head.slots()))

    def _litter(self, head: Head) -> Litter:
        """What may be removed; looked for by one minion, once in a lease."""
        now = self._room.calls.monotonic()
        mine = (self._member.index, self._member.generation)
        if head.sweeper != mine or now - self._tidied_at < self._room.options.lease_s:
            return Litter([], [])
        self._tidied_at = now
        return find_litter(self._room, head)

    def _is_dead(self, index: int, slot: Slot, now: float) -> bool:
        """Whether its beat stood still for its lease, or for ours if that is longer, since we look
        every quarter of ours; or, on this host, whether its process and the lock on its beat are
        gone."""
        beat = self.beat_of(slot)
        if beat is None:
            return True
        seen = self._seen.get(index)
        if seen is None or seen.generation != slot.generation or seen.beat != beat:
            self._seen[index] = Seen(slot.generation, beat, now, now)
            return False
        lease_s = max(slot.lease_s, self._room.options.lease_s)
        if now - seen.looked > lease_s / 2:
            # We did not look ourselves for long (stopped, asleep): what we saw then tells nothing.
            self._seen[index] = seen._replace(since=now, looked=now)
            return False
        self._seen[index] = seen._replace(looked=now)
        return now - seen.since >= lease_s

    def beat_of(self, slot: Slot) -> bytes | None:
        """The beat, or None if the process is dead for sure. One that is not there stands still."""
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
            beat = self.beat_of(slot)
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
                free(head, index, gone.generation)
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
            free(head, index, slot.generation)
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

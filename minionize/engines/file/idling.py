"""Who else is idle: so that minions that are not needed can leave, and never all of them."""

from __future__ import annotations

from minionize.engines.file import slot as slots
from minionize.engines.file.member import Member
from minionize.engines.file.room import Room
from minionize.engines.file.slot import Slot
from minionize.engines.file.sweeping import Sweeper


class Idlers:
    """One member's look at the idle ones before it."""

    def __init__(self, room: Room, member: Member, sweeper: Sweeper) -> None:
        self._room = room
        self._member = member
        self._sweeper = sweeper
        self._seen: dict[str, tuple[bytes, float | None]] = {}
        """By its folder: its beat, and when that was first seen, after another one."""

    def before(self, records: list[str], enough: int) -> int:
        """How many minions hold nothing, are alive for sure, and have an id before ours; counted
        up to `enough`. `records`: all slots, freshly read."""
        idle = []
        for record in records:
            slot = slots.decode(record)
            if slot.state == slots.LIVE and not slot.feeder and not slot.claims:
                idle.append(slot)
        idle = [slot for slot in idle if slot.owner < self._member.owner]
        known = {slot.folder for slot in idle}
        self._seen = {folder: seen for folder, seen in self._seen.items() if folder in known}
        count = 0
        for slot in sorted(idle, key=lambda slot: slot.owner):
            if count >= enough:
                break
            count += self._is_alive(slot)
        return count

    def _is_alive(self, slot: Slot) -> bool:
        """Whether it beat lately, as seen by ourselves. That nobody took it for dead yet is not
        enough: it may have died, or stand still, long before its lease is over."""
        beat = self._sweeper.beat_of(slot)
        if not beat:
            return False
        now = self._room.calls.monotonic()
        before, since = self._seen.get(slot.folder, (beat, None))
        if before != beat:
            since = now
        self._seen[slot.folder] = (beat, since)
        return since is not None and now - since < slot.lease_s / 2

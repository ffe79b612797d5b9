"""A minion's slot and what it covers: memory on one side, the head on the other."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from minionize.engines.file import slot as slots
from minionize.engines.file.head import Head
from minionize.engines.file.held import Held, count, settle
from minionize.engines.file.member import Mark, Member
from minionize.engines.file.room import Room
from minionize.engines.file.settling import Shrunk, remove_checkpoints
from minionize.engines.file.slot import Claim
from minionize.values import Lease, Orders

LARGE_RECORD = 3000
"""Bytes from which on a slot's claims are rewritten as one."""


class Holding:
    """The claims of one minion."""

    def __init__(self, room: Room, member: Member) -> None:
        self.room = room
        self.member = member
        self.held: dict[int, Held] = {}
        """By serial."""
        self.orders = Orders()
        self.minions = 1
        self.forgotten_below = 0
        """See contracts.engine.TellsForgotten."""
        self.moved: dict[Mark, Mark] = {}
        """Where a lease's claim and position are now, if its claim was rewritten."""
        self._coming: tuple[dict[int, Held], dict[Mark, Mark]] | None = None
        """What a rewrite makes of the claims, while its outcome is unknown."""
        self._record = ""
        """The slot's record as it was last read or written: unchanged means nothing to adopt."""
        self._serial = 0
        self._shrunk: list[Shrunk] = []

    def serial(self) -> int:
        """A serial that no claim of this process ever had."""
        self._serial += 1
        return self._serial

    @property
    def is_crowded(self) -> bool:
        """Whether the claims nearly fill the slot, or acks had to stay covered for that."""
        if len(self._record) > LARGE_RECORD:
            return True
        return any(held.covered != held.left for held in self.held.values())

    @property
    def left(self) -> int:
        """How many leases are open."""
        return sum(held.left for held in self.held.values())

    @property
    def slot(self) -> slots.Slot:
        """The slot as the head has it."""
        return slots.decode(self._record)

    # ---- visits
    def join(self, head: Head) -> None:
        """Take a slot, inside a visit; everything held so far is lost."""
        self.lose_all()
        self.member.join(head)
        record = head.changed[self.member.index]
        if head.sweeper[0] < 0:
            head.sweeper = (self.member.index, self.member.generation)
        self.room.head.write()
        self._record = record
        self.orders = Orders(bool(head.paused), head.stops)

    def enter(self, head: Head) -> None:
        """At each locked visit the slot in the head replaces what memory says."""
        self.orders = Orders(bool(head.paused), head.stops)
        self.minions = head.minions
        self.forgotten_below = head.kept_id if head.kept_id > 1 else 0
        if not self.member.joined:
            self.join(head)
            return
        record = self.room.head.slot(self.member.index)
        if record == self._record:
            self.member.seen_alive()
            return
        slot = slots.decode(record)
        if not self.member.is_mine(slot):
            self.lose_all()
            self.member.forget()
            self.join(head)
            return
        self.member.seen_alive()
        self._record = record
        covered = {claim.serial: claim for claim in slot.claims}
        if self._coming is not None and not self._coming[0].keys().isdisjoint(covered):
            self._arrive()  # a rewrite that was thought to have failed
        for serial in [serial for serial in self.held if serial not in covered]:
            del self.held[serial]
        for serial, claim in covered.items():
            held = self.held.get(serial)
            if held is None:
                self.held[serial] = Held(claim)  # so was this claim
            elif tuple(held.pieces) != claim.pieces:
                held.adopt(claim.pieces)

    def lose_all(self) -> None:
        """Nothing is held any more."""
        self.held.clear()
        self.moved.clear()
        self._coming = None
        self._record = ""

    def commit(
        self,
        head: Head,
        *,
        leaving: dict[int, set[int]] | None = None,
        new: Sequence[Claim] = (),
        force: bool = False,
    ) -> None:
        """Fold acks, drop what leaves, add claims: all in one write. Nothing to say: no write."""
        leaving = leaving or {}
        after = settle(self.held.values(), leaving) if self.held else {}
        settled = 0
        shrunk: list[Shrunk] = []
        claims = []
        for serial, held in self.held.items():
            pieces = after.get(serial)
            if pieces is None:
                claims.append(held.claim)
                continue
            gone = leaving.get(serial, set())
            settled += held.covered - count(pieces) - len(gone)
            shrunk.append(Shrunk(held, held.pieces, pieces, gone))
            if pieces:
                claims.append(Claim(held.source, held.batch, serial, tuple(pieces)))
        if not (shrunk or new or force):
            return
        record = self.slot._replace(claims=(*claims, *new)).encode()
        head.settled += settled
        head.changed[self.member.index] = record
        self.room.head.write()
        self._record = record
        self._shrunk += shrunk
        for held, _, pieces, _ in shrunk:
            if pieces:
                held.pieces = pieces
                held.covered = count(pieces)
            else:
                del self.held[held.serial]
        for claim in new:
            self.held[claim.serial] = Held(claim)

    def leave(self, head: Head) -> None:
        """Settle what is acked and free the slot, inside a visit. What is open must be announced
        in the same write."""
        for held in self.held.values():
            head.settled += held.covered - held.left
            still_open = {at for begin, end in held.tight() for at in range(begin, end)}
            self._shrunk.append(Shrunk(held, held.pieces, [], still_open))
        self.member.leave(head, self.slot)
        self.room.head.write()

    def after_visit(self) -> None:
        """What a visit leaves to be done without the lock."""
        if self._shrunk:
            shrunk, self._shrunk = self._shrunk, []
            remove_checkpoints(self.room, shrunk)

    # ---- leases
    def place(self, lease: Lease) -> Mark:
        """The claim and position of a lease, now."""
        token: Mark = lease.token
        return self.moved.get(token, token) if self.moved else token

    def mine(self, leases: Collection[Lease]) -> dict[Mark, Lease]:
        """Those that are still open here, by place."""
        found = {}
        for lease in leases:
            place = self.place(lease)
            held = self.held.get(place[0])
            if held is not None and held.holds(place[1]):
                found[place] = lease
        return found

    def close(self, leases: Iterable[Lease]) -> list[Mark]:
        """They are open no more; those of them that are marked."""
        get = self.held.get
        moved = self.moved
        marked: list[Mark] = []
        for lease in leases:
            token = lease.token
            if moved:
                token = moved.get(token, token)
            serial, position = token
            held = get(serial)
            if held is not None and held.live[position - held.start]:
                held.live[position - held.start] = 0
                held.left -= 1
                if held.marked and position in held.marked:
                    held.marked.discard(position)
                    marked.append(token)
        return marked

    def marked(self, places: Iterable[Mark]) -> list[Mark]:
        """Those of these that are marked."""
        return [
            (serial, position)
            for serial, position in places
            if serial in self.held and position in self.held[serial].marked
        ]

    def mark(self, places: Collection[Mark]) -> None:
        """Write marks, durably."""
        if places:
            self.member.mark(places)
            for serial, position in places:
                self.held[serial].marked.add(position)

    # ---- many small pieces become few
    def rewrite(self, head: Head, batches: dict[int, int], where: dict[Mark, Mark]) -> None:
        """Drop all claims for those of batches of `h`, just announced: `batches` by serial,
        `where` every open place goes."""
        sizes = dict.fromkeys(batches, 0)
        for serial, _ in where.values():
            sizes[serial] += 1
        coming = {
            serial: Held(Claim("h", batch, serial, ((0, sizes[serial]),)))
            for serial, batch in batches.items()
        }
        for held in coming.values():
            held.todo = []
        for (old_serial, old), (serial, position) in where.items():
            before, held = self.held[old_serial], coming[serial]
            held.ids[position] = before.ids.get(old, old)
            if old in before.marked:
                held.marked.add(position)
            if any(begin <= old < end for begin, end in before.todo):
                held.todo.append((position, position + 1))
        claims = tuple(held.claim for held in coming.values())
        record = self.slot._replace(claims=claims).encode()
        head.settled += sum(one.covered - one.left for one in self.held.values())
        head.changed[self.member.index] = record
        self._coming = (coming, where)
        self.room.head.write()
        self._record = record
        self._arrive()

    def _arrive(self) -> None:
        assert self._coming is not None
        coming, where = self._coming
        self._coming = None
        for (old_serial, old), (serial, position) in where.items():
            before = self.held.get(old_serial)
            if before is not None and not before.holds(old) and coming[serial].holds(position):
                # It ended while the outcome was not known: it settles with the next fold.
                coming[serial].close(position)
        for one in self.held.values():
            still_open = {old for old_serial, old in where if old_serial == one.serial}
            self._shrunk.append(Shrunk(one, one.pieces, [], still_open))
        moved = {token: where[place] for token, place in self.moved.items() if place in where}
        known = set(self.moved.values())
        moved.update({place: to for place, to in where.items() if place not in known})
        self.moved = moved
        self.held = coming

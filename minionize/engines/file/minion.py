"""A minion's face of a file queue."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import repeat

from minionize.engines.file import slot as slots
from minionize.engines.file.batches import NotVisible, Record, dead_line, parse_record
from minionize.engines.file.claiming import Fronts, take
from minionize.engines.file.counting import stats_of
from minionize.engines.file.head import Head
from minionize.engines.file.head_file import at_the_edge
from minionize.engines.file.held import Held, settle
from minionize.engines.file.member import Mark, Member, remove_after
from minionize.engines.file.publishing import Draft, Publisher
from minionize.engines.file.room import Room, delay_class
from minionize.engines.file.settling import remove_checkpoints
from minionize.engines.file.slot import Claim, Piece, Slot
from minionize.engines.file.sweeping import Sweeper
from minionize.engines.file.texts import Texts
from minionize.errors import EngineUnavailable
from minionize.values import Failure, Lease, Orders, Stats

_MAX_PAUSE_S = 0.25
_MIN_PAUSE_S = 0.001
_PAUSE_PER_MINION_S = 0.02
_FOLD_EVERY_S = 1.0

_new_lease = tuple.__new__
"""Lease(...) without the Python frame of a NamedTuple's constructor: half the price of a lease."""


class FileEngine:
    """Leases from a queue in a folder. docs/file-queue.md has the protocol and its reasons."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.traits = room.traits
        self.url = room.url
        self._member = Member(room, feeder=False)
        self._texts = Texts(room)
        self._fronts = Fronts(room, self._texts)
        self._publisher = Publisher(room)
        self._sweeper = Sweeper(room, self._member, self._publisher, self._texts)
        self._held: dict[int, Held] = {}
        self._record = ""
        """The slot's record as it was last read or written: unchanged means nothing to adopt."""
        self._serial = 0
        self._orders = Orders()
        self._minions = 1
        self._pause_s = _MIN_PAUSE_S
        self._next_look = 0.0
        self._folded_at = 0.0
        self._closed = False
        try:
            with room.head as head:
                self._join(head)
        except BaseException:
            self._member.forget()
            self.room.close()
            raise

    # ---- visits
    def _join(self, head: Head) -> Slot:
        self._lose_all()
        self._member.join(head, self.room.head.slots())
        record = head.changed[self._member.index]
        if head.sweeper[0] < 0:
            head.sweeper = (self._member.index, self._member.generation)
        self.room.head.write()
        self._record = record
        self._orders = Orders(bool(head.paused), head.stops)
        return slots.decode(record)

    def _enter(self, head: Head) -> None:
        """At each locked visit the slot in the head replaces what memory says."""
        self._orders = Orders(bool(head.paused), head.stops)
        self._minions = head.minions
        if not self._member.joined:
            self._join(head)
            return
        record = self.room.head.slot(self._member.index)
        if record == self._record:
            return
        slot = slots.decode(record)
        if not self._member.is_mine(slot):
            self._lose_all()
            self._member.forget()
            self._join(head)
            return
        self._record = record
        covered = {claim.serial: claim for claim in slot.claims}
        for serial in [serial for serial in self._held if serial not in covered]:
            del self._held[serial]
        for serial, claim in covered.items():
            held = self._held.get(serial)
            if held is None:
                self._held[serial] = Held(claim)  # a write that was thought to have failed
                self._serial = max(self._serial, serial)
            elif tuple(held.pieces) != claim.pieces:
                held.adopt(claim.pieces)

    def _lose_all(self) -> None:
        self._held.clear()
        self._record = ""

    def _commit(
        self,
        head: Head,
        *,
        leaving: dict[int, set[int]] | None = None,
        new: Sequence[Claim] = (),
        force: bool = False,
    ) -> None:
        """Fold acks, drop what leaves, add claims: all in one write. Nothing to say: no write."""
        leaving = leaving or {}
        after = settle(self._held.values(), leaving) if self._held else {}
        settled = 0
        gone: list[tuple[Held, list[Piece]]] = []
        claims = []
        for serial, held in self._held.items():
            pieces = after.get(serial)
            if pieces is None:
                claims.append(held.claim)
                continue
            covered = sum(end - begin for begin, end in pieces)
            settled += held.covered - covered - len(leaving.get(serial, ()))
            gone.append((held, pieces))
            if pieces:
                claims.append(Claim(held.source, held.batch, serial, tuple(pieces)))
        if not (gone or new or force):
            return
        slot = slots.decode(self._record)._replace(claims=(*claims, *new))
        record = slot.encode()
        head.settled += settled
        head.changed[self._member.index] = record
        self.room.head.write()
        self._record = record
        self._folded_at = self.room.calls.monotonic()
        if settled:
            remove_checkpoints(self.room, gone, leaving)
        for held, pieces in gone:
            if pieces:
                held.pieces = pieces
                held.covered = sum(end - begin for begin, end in pieces)
            else:
                del self._held[held.serial]
        for claim in new:
            self._held[claim.serial] = Held(claim)

    # ---- leasing
    @at_the_edge
    def lease(self, limit: int, wait_s: float) -> Sequence[Lease]:
        """See contracts.engine."""
        calls = self.room.calls
        begin = calls.monotonic()
        while limit > 0:
            found = self._ready(limit)
            if found:
                return found
            now = calls.monotonic()
            if now >= self._next_look:
                self._fronts.prepare()
                with self.room.head as head:
                    self._enter(head)
                    took = self._take(head, limit)
                if took:
                    found = self._ready(limit)
                    if found:
                        self._pause_s = _MIN_PAUSE_S
                        self._next_look = 0.0
                        return found
                elif self._fronts.unknown and self._fronts.prepare():
                    continue
                self._sweeper.glance()
                self._back_off()
                now = calls.monotonic()
            left = wait_s - (now - begin)
            if left < _MIN_PAUSE_S:
                break
            calls.sleep(min(left, max(_MIN_PAUSE_S, self._next_look - now)))
        return []

    def _back_off(self) -> None:
        crowd = min(_PAUSE_PER_MINION_S * self._minions, 20.0)
        pause = max(self._pause_s, crowd if self._minions > 1 else 0.0)
        self._next_look = self.room.calls.monotonic() + pause * (
            0.75 + self.room.calls.jitter() / 4
        )
        self._pause_s = min(2 * self._pause_s, _MAX_PAUSE_S)

    def _take(self, head: Head, limit: int) -> bool:
        """Claim up to `limit`, and fold; whether anything is held that was not leased yet."""
        claims: list[Claim] = []
        if not head.paused and not any(held.todo for held in self._held.values()):
            taken = take(head, limit, self._fronts, self._texts.hint)
            for source, batch, piece in taken:
                self._serial += 1
                claims.append(Claim(source, batch, self._serial, (piece,)))
        self._commit(head, new=claims)
        return any(held.todo for held in self._held.values())

    def _ready(self, limit: int) -> list[Lease]:
        """Leases of what is claimed and was not handed out, as far as it can be read now."""
        found: list[Lease] = []
        suspects: bool | None = None
        for held in list(self._held.values()):
            while held.todo and len(found) < limit:
                begin, end = held.todo[0]
                end = min(end, begin + limit - len(found))
                try:
                    upto, lines = self._texts.some(held.claim, (begin, end))
                except NotVisible:
                    break  # what the head names and this host does not see yet is waited for
                if held.source == "p":
                    if suspects:
                        return found
                    suspects = False
                    more = self._fresh(held.serial, begin, upto, lines)
                else:
                    records = [parse_record(line) for line in lines]
                    if suspects is None:
                        suspects = records[0].suspect
                    if records[0].suspect != suspects:
                        return found
                    more = []
                    for position, record in enumerate(records, begin):
                        held.ids[position] = record.id
                        more.append(_lease(record, (held.serial, position)))
                found += more
                if upto < held.todo[0][1]:
                    held.todo[0] = (upto, held.todo[0][1])
                else:
                    held.todo.pop(0)
            if len(found) >= limit:
                break
        return found

    @staticmethod
    def _fresh(serial: int, begin: int, upto: int, lines: list[str]) -> list[Lease]:
        tokens = zip(repeat(serial), range(begin, upto))
        fields = zip(
            map(str, range(begin, upto)),
            lines,
            repeat(1),
            repeat(0),
            repeat(0),
            repeat(False),
            tokens,
        )
        return list(map(_new_lease, repeat(Lease), fields))

    # ---- ending
    @at_the_edge
    def ack(self, leases: Collection[Lease]) -> None:
        """See contracts.engine."""
        get = self._held.get
        marked: list[Mark] = []
        for lease in leases:
            serial, position = lease.token
            held = get(serial)
            if held is not None and held.live[position - held.start]:
                held.live[position - held.start] = 0
                held.left -= 1
                if held.marked and position in held.marked:
                    held.marked.discard(position)
                    marked.append((serial, position))
        if marked:
            self._settle_marked(marked)

    def _settle_marked(self, marked: Collection[Mark]) -> None:
        try:
            with self.room.head as head:
                self._enter(head)
                self._commit(head)
        except EngineUnavailable:
            # Then the journal keeps it, which a take-over reads.
            self._end_marked(marked, acked=True)

    @at_the_edge
    def nack(
        self,
        leases: Collection[Lease],
        *,
        delay_s: float = 0.0,
        charge: bool = True,
        later: bool = False,
    ) -> None:
        """See contracts.engine."""

        def ended(lease: Lease) -> Record:
            if charge:
                return Record(int(lease.id), lease.text, lease.attempt + 1, lease.crashes)
            if later:
                return Record(
                    int(lease.id), lease.text, lease.attempt, lease.crashes, lease.laters + 1
                )
            return Record(
                int(lease.id), lease.text, lease.attempt, lease.crashes, lease.laters, lease.suspect
            )

        due = self.room.calls.time() + delay_s if delay_s > 0 else 0.0
        source = str(delay_class(delay_s))

        def drafts(some: list[Lease]) -> list[Draft]:
            found = []
            for suspect in (False, True):
                records = [record for record in map(ended, some) if record.suspect == suspect]
                if records:
                    lines = [record.line() for record in records]
                    found.append(Draft(source, lines, due=due, delay_s=delay_s, suspect=suspect))
            return found

        self._move(leases, drafts)

    @at_the_edge
    def bury(self, leases: Collection[Lease], failure: Failure) -> None:
        """See contracts.engine."""
        why = [failure.reason, failure.detail, self.room.calls.time(), self.room.options.minion_id]

        def drafts(some: list[Lease]) -> list[Draft]:
            records = (
                Record(int(one.id), one.text, one.attempt, one.crashes, one.laters) for one in some
            )
            return [Draft("dead", [dead_line(record, why) for record in records])]

        self._move(leases, drafts)

    def _mine(self, leases: Collection[Lease]) -> list[Lease]:
        found = {}
        for lease in leases:
            serial, position = lease.token
            held = self._held.get(serial)
            if held is not None and held.holds(position):
                found[lease.token] = lease
        return list(found.values())

    def _move(
        self, leases: Collection[Lease], drafts: Callable[[list[Lease]], list[Draft]]
    ) -> None:
        """Drafts without the lock; then, under it, one write that moves the params."""
        mine = self._mine(leases)
        try:
            self._move_all(mine, drafts)
        except EngineUnavailable:
            # The run ended, though it can't be given back yet: a crash from now on is not its own.
            marked = [one.token for one in self._mine(mine) if self._is_marked(one.token)]
            self._end_marked(marked, acked=False)
            raise

    def _is_marked(self, mark: Mark) -> bool:
        held = self._held.get(mark[0])
        return held is not None and mark[1] in held.marked

    def _move_all(self, mine: list[Lease], drafts: Callable[[list[Lease]], list[Draft]]) -> None:
        while mine:
            with (
                self._publisher.drafting(self._member, drafts(mine)) as drafting,
                self.room.head as head,
            ):
                self._enter(head)
                still = self._mine(mine)
                if len(still) == len(mine):
                    leaving: dict[int, set[int]] = {}
                    for lease in mine:
                        serial, position = lease.token
                        leaving.setdefault(serial, set()).add(position)
                    drafting.announce(head)
                    for serial, positions in leaving.items():
                        for position in positions:
                            self._held[serial].close(position)
                    try:
                        self._commit(head, leaving=leaving, force=True)
                    except BaseException:
                        for serial, positions in leaving.items():
                            self._held[serial].reopen(positions)
                        raise
                    still = []
            mine = still
        self._next_look = 0.0

    def _end_marked(self, marked: Collection[Mark], *, acked: bool) -> None:
        if marked and self._member.joined:
            self._member.end(marked, acked=acked)

    # ---- staying
    @at_the_edge
    def started(self, leases: Collection[Lease]) -> None:
        """See contracts.engine."""
        marks = [lease.token for lease in self._mine(leases)]
        if marks:
            self._member.mark(marks)
            for serial, position in marks:
                self._held[serial].marked.add(position)

    @at_the_edge
    def extend(self, leases: Collection[Lease]) -> Collection[Lease]:
        """See contracts.engine."""
        self._member.beat()
        with self.room.head as head:
            self._enter(head)
            self._commit(head)
        self._sweeper.look()
        get = self._held.get
        lost = []
        for lease in leases:
            serial, position = lease.token
            held = get(serial)
            if held is None or not held.live[position - held.start]:
                lost.append(lease)
        return lost

    def orders(self) -> Orders:
        """See contracts.engine."""
        return self._orders

    @at_the_edge
    def stats(self) -> Stats:
        """See contracts.engine."""
        self._fronts.prepare()
        with self.room.head as head:
            self._enter(head)
            self._commit(head)
            self._fronts.remember(head)
        return stats_of(head, self._fronts)

    # ---- leaving
    @at_the_edge
    def close(self) -> None:
        """See contracts.engine."""
        if self._closed:
            return
        try:
            if self._member.joined:
                self._give_back_all()
        finally:
            self._closed = True
            self._member.forget()
            self.room.close()

    def _give_back_all(self) -> None:
        while True:
            drafts = self._leftovers()
            expected = {serial: held.left for serial, held in self._held.items()}
            with self._publisher.drafting(self._member, drafts) as drafting, self.room.head as head:
                if self._is_lost(head):
                    return
                self._enter(head)
                if expected != {serial: held.left for serial, held in self._held.items()}:
                    continue  # a claim that we did not know of
                drafting.announce(head)
                head.settled += sum(held.covered - held.left for held in self._held.values())
                gone: list[tuple[Held, list[Piece]]] = []
                kept: dict[int, set[int]] = {}
                for serial, held in self._held.items():
                    gone.append((held, []))
                    kept[serial] = {p for low, high in held.tight() for p in range(low, high)}
                self._member.leave(head, slots.decode(self._record))
                self.room.head.write()
                remove_checkpoints(self.room, gone, kept)
            break
        name = f"{self._member.owner}.{self._member.generation}"
        self._held.clear()
        self._member.forget()
        remove_after(self._member, name)

    def _is_lost(self, head: Head) -> bool:
        slot = slots.decode(self.room.head.slot(self._member.index))
        return not self._member.is_mine(slot)

    def _leftovers(self) -> list[Draft]:
        lines: dict[bool, list[str]] = {False: [], True: []}
        for held in self._held.values():
            if not held.left:
                continue
            claim = Claim(held.source, held.batch, held.serial, tuple(held.tight()))
            try:
                for _, record in self._texts.records(claim):
                    lines[record.suspect].append(record.line())
            except NotVisible as error:
                raise EngineUnavailable(
                    f"cannot give back: {error.path} is not visible here yet"
                ) from error
        return [Draft("0", some, suspect=suspect) for suspect, some in lines.items() if some]


def _lease(record: Record, token: tuple[int, int]) -> Lease:
    return Lease(
        str(record.id),
        record.text,
        record.attempt,
        record.crashes,
        record.laters,
        record.suspect,
        token,
    )

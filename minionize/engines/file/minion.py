"""A minion's face of a file queue."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial

from minionize.engines.file import slot as slots
from minionize.engines.file.batches import MAX_LINES, FileMissing, NotVisible, Record
from minionize.engines.file.claiming import Fronts, take
from minionize.engines.file.counting import stats_of
from minionize.engines.file.ended import buried, given_back, moved_out
from minionize.engines.file.head import Head
from minionize.engines.file.head_file import at_the_edge
from minionize.engines.file.held import Held, groups
from minionize.engines.file.holding import Holding
from minionize.engines.file.idling import Idlers
from minionize.engines.file.leasing import ready
from minionize.engines.file.locking import LockTaken
from minionize.engines.file.lookout import MIN_PAUSE_S, Lookout
from minionize.engines.file.member import Mark, Member, remove_after
from minionize.engines.file.publishing import Draft, Publisher
from minionize.engines.file.room import Room
from minionize.engines.file.slot import Claim
from minionize.engines.file.sweeping import Sweeper
from minionize.engines.file.texts import Texts
from minionize.errors import EngineUnavailable
from minionize.values import Failure, Lease, Orders, Stats

_HURRY_S = 0.02
"""Who has spares waits for the lock no longer: they can be run meanwhile."""


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
        self._idlers = Idlers(room, self._member, self._sweeper)
        self._holding = Holding(room, self._member)
        self._lookout = Lookout(room)
        self._closed = False
        try:
            with room.head as head:
                self._holding.join(head)
        except BaseException:  # Ctrl-C as well
            self._member.forget()
            self.room.close()
            raise

    # ---- leasing
    @at_the_edge
    def lease(self, limit: int, wait_s: float) -> Sequence[Lease]:
        """See contracts.engine."""
        calls = self.room.calls
        begin = calls.monotonic()
        while limit > 0:
            try:
                found = ready(self._holding.held, self._texts, limit)
            except FileMissing:
                self._look_whose()
                found = ready(self._holding.held, self._texts, limit)
            if found:
                return found
            now = calls.monotonic()
            if self._lookout.is_due(now, self._holding.orders.stops):
                self._fronts.prepare()
                head_file = self.room.head
                hurried = wait_s <= 0.0 and self._holding.left > self.room.options.slots
                if hurried:
                    head_file.hurry(_HURRY_S)
                try:
                    with head_file as head:
                        self._holding.enter(head)
                        took = self._take(head, limit)
                        planned = None if took else self._sweeper.plan(head)
                except LockTaken:
                    if hurried:
                        return []
                    raise
                self._after_fold()
                self._sweeper.go(planned)
                if took:
                    found = ready(self._holding.held, self._texts, limit)
                    if found:
                        self._lookout.found()
                        return found
                elif self._fronts.unknown and self._fronts.prepare():
                    continue
                now = calls.monotonic()
                self._lookout.found_nothing(now, self._holding.minions)
            left = wait_s - (now - begin)
            if left < MIN_PAUSE_S:
                break
            calls.sleep(min(left, max(MIN_PAUSE_S, self._lookout.next_at - now)))
        return []

    def _look_whose(self) -> None:
        """Learn from the head what is still held here. A minion that stood still may hold nothing
        any more, and the files of what it held are gone with the params, which others ended."""
        with self.room.head as head:
            self._holding.enter(head)
            self._holding.commit(head)
        self._after_fold()

    def _take(self, head: Head, limit: int) -> bool:
        """Claim up to `limit`, and fold; whether anything is held that was not leased yet."""
        holding = self._holding
        claims: list[Claim] = []
        if not head.paused and not any(held.todo for held in holding.held.values()):
            for source, batch, piece in take(head, limit, self._fronts, self._texts.hint):
                claims.append(Claim(source, batch, holding.serial(), (piece,)))
        holding.commit(head, new=claims)
        return any(held.todo for held in holding.held.values())

    # ---- ending
    @at_the_edge
    def ack(self, leases: Collection[Lease]) -> None:
        """See contracts.engine."""
        marked = self._holding.close(leases)
        if marked:
            self._settle_marked(marked)

    def _settle_marked(self, marked: Collection[Mark]) -> None:
        try:
            with self.room.head as head:
                self._holding.enter(head)
                self._holding.commit(head)
            self._after_fold()
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

        due = self.room.head.time() + delay_s if delay_s > 0 else 0.0
        self._move(
            leases,
            partial(given_back, charge=charge, later=later, due=due, delay_s=delay_s),
        )

    @at_the_edge
    def bury(self, leases: Collection[Lease], failure: Failure) -> None:
        """See contracts.engine."""
        now = self.room.calls.time()
        why = (failure.reason, failure.detail, now, self.room.options.minion_id)
        self._move(leases, partial(buried, why=why))

    @at_the_edge
    def moved(self, leases: Collection[Lease]) -> None:
        """See contracts.engine.MovesOut."""
        self._move(leases, moved_out, purged=True)

    def _move(
        self,
        leases: Collection[Lease],
        drafts: Callable[[list[Lease]], list[Draft]],
        *,
        purged: bool = False,
    ) -> None:
        """Drafts without the lock; then, under it, one write that moves the params."""
        mine = self._holding.mine(leases)
        try:
            for group in groups(sorted(mine)):
                self._move_some([mine[place] for place in group], drafts, purged)
        except EngineUnavailable:
            # The run ended, though it can't be given back yet: a crash from now on is not its own.
            still = self._holding.mine(mine.values())
            self._end_marked(self._holding.marked(still), acked=False)
            raise
        self._lookout.found()

    def _move_some(
        self, leases: list[Lease], drafts: Callable[[list[Lease]], list[Draft]], purged: bool
    ) -> None:
        holding = self._holding
        while leases:
            with (
                self._publisher.drafting(self._member, drafts(leases)) as drafting,
                self.room.head as head,
            ):
                holding.enter(head)
                still = holding.mine(leases)
                if len(still) == len(leases):
                    leaving: dict[int, set[int]] = {}
                    for serial, position in still:
                        leaving.setdefault(serial, set()).add(position)
                    drafting.announce(head)
                    if purged:
                        head.purged += len(still)
                        head.settled += len(still)
                    for serial, positions in leaving.items():
                        for position in positions:
                            holding.held[serial].close(position)
                    try:
                        holding.commit(head, leaving=leaving, force=True)
                    except BaseException:  # Ctrl-C as well
                        for serial, positions in leaving.items():
                            holding.held[serial].reopen(positions)
                        raise
                    still = {}
            leases = list(still.values())
        self._after_fold()

    def _after_fold(self) -> bool:
        """What a fold leaves to be done without the lock; whether that changed the head again."""
        self._holding.after_visit()
        if not self._holding.is_crowded:
            return False
        self._rewrite()
        return True

    def _rewrite(self) -> None:
        """Too many pieces for a slot: all that is open goes to a batch of our own."""
        holding = self._holding
        places: list[Mark] = []
        lines: list[str] = []
        for held in holding.held.values():
            for position, record in self._records(held):
                places.append((held.serial, position))
                lines.append(record.line())
        if not lines:
            return
        serials = [holding.serial() for _ in range(0, len(lines), MAX_LINES)]
        where = {
            place: (serials[number // MAX_LINES], number % MAX_LINES)
            for number, place in enumerate(places)
        }
        # Marks first: one for a claim that never comes to be does no harm.
        marked = holding.marked(places)
        if marked:
            self._member.mark([where[place] for place in marked])
        with (
            self._publisher.drafting(self._member, [Draft("h", lines)]) as drafting,
            self.room.head as head,
        ):
            holding.enter(head)
            known = [(one.serial, at) for one in holding.held.values() for at in _open(one)]
            if known == places:
                drafting.announce(head)
                holding.rewrite(
                    head, dict(zip(serials, drafting.announced["h"], strict=True)), where
                )
        holding.after_visit()

    def _records(self, held: Held) -> Iterator[tuple[int, Record]]:
        if not held.left:
            return
        claim = Claim(held.source, held.batch, held.serial, tuple(held.tight()))
        try:
            yield from self._texts.records(claim)
        except NotVisible as error:
            raise EngineUnavailable(f"{error.path} is not visible here yet: try again") from error

    def _end_marked(self, marked: Collection[Mark], *, acked: bool) -> None:
        if marked and self._member.joined:
            self._member.end(marked, acked=acked)

    # ---- staying
    @at_the_edge
    def started(self, leases: Collection[Lease]) -> None:
        """See contracts.engine."""
        self._holding.mark(list(self._holding.mine(leases)))

    @at_the_edge
    def extend(self, leases: Collection[Lease]) -> Collection[Lease]:
        """See contracts.engine."""
        self._member.beat()
        holding = self._holding
        try:
            with self.room.head as head:
                holding.enter(head)
                holding.commit(head)
                planned = self._sweeper.plan(head)
            self._after_fold()
        except EngineUnavailable as error:
            error.renewed = self._member.steady
            raise
        with contextlib.suppress(EngineUnavailable):  # what others left is the affair of `lease`
            self._sweeper.go(planned)
        lost = []
        for lease in leases:
            serial, position = holding.place(lease)
            held = holding.held.get(serial)
            if held is None or not held.live[position - held.start]:
                lost.append(lease)
        return lost

    def orders(self) -> Orders:
        """See contracts.engine."""
        return self._holding.orders

    @at_the_edge
    def stats(self) -> Stats:
        """See contracts.engine."""
        self._lookout.looks_drained = False
        self._fronts.prepare()
        with self.room.head as head:
            self._holding.enter(head)
            self._holding.commit(head)
            self._fronts.remember(head)
        if self._after_fold():
            with self.room.head as head:
                self._fronts.remember(head)
        return stats_of(head, self._fronts)

    @property
    def forgotten_below(self) -> int:
        """See contracts.engine.TellsForgotten."""
        return self._holding.forgotten_below

    def looks_drained(self) -> bool:
        """See contracts.engine.SeesTheEnd."""
        return self._lookout.looks_drained

    @at_the_edge
    def idle_before(self, enough: int) -> int | None:
        """See contracts.engine.TellsIdle."""
        with self.room.head:
            records = self.room.head.slots()
        return self._idlers.before(records, enough)

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
        """All the time that the queue needs, and the time after which others take us for dead
        anyway where it stands still: what is given back is not charged."""
        calls = self.room.calls
        until = calls.monotonic() + self.room.options.lease_s / 2
        left = False
        while not left:
            try:
                left = self._leave()
            except LockTaken as error:
                now = calls.monotonic()
                if error.busy:
                    until = now + self.room.options.lease_s / 2
                elif now >= until:
                    raise
                self._member.beat()

    def _leave(self) -> bool:
        """False if there was a claim that we did not know of."""
        holding = self._holding
        name = f"{self._member.owner}.{self._member.generation}"
        lines: dict[bool, list[str]] = {False: [], True: []}
        for held in holding.held.values():
            for _, record in self._records(held):
                lines[record.suspect].append(record.line())
        drafts = [Draft("0", some, suspect=kind) for kind, some in lines.items() if some]
        expected = {serial: held.left for serial, held in holding.held.items()}
        with self._publisher.drafting(self._member, drafts) as drafting, self.room.head as head:
            slot = slots.decode(self.room.head.slot(self._member.index))
            if not self._member.is_mine(slot):
                return True
            holding.enter(head)
            if expected != {serial: held.left for serial, held in holding.held.items()}:
                return False
            drafting.announce(head)
            holding.leave(head)
        holding.after_visit()
        holding.lose_all()
        self._member.forget()
        remove_after(self._member, name)
        return True


def _open(held: Held) -> Iterator[int]:
    for begin, end in held.tight():
        yield from range(begin, end)

"""Moving params that no minion holds: dead letters and done ones back to work, or away."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from minionize.engines.file import slot as slots
from minionize.engines.file.batches import MAX_LINES, NotVisible, Record, parse_dead
from minionize.engines.file.claiming import Fronts
from minionize.engines.file.head import COUNT, FIRST, LAST, OFFSET, Head
from minionize.engines.file.member import Member
from minionize.engines.file.publishing import Draft, Drafting, Publisher
from minionize.engines.file.room import Room
from minionize.engines.file.scanning import Scanner
from minionize.engines.file.slot import Claim
from minionize.engines.file.texts import Texts
from minionize.errors import EngineUnavailable
from minionize.values import State

_CLAIMS_AT_ONCE = 40
_PILE_BYTES = 1 << 20


class _Pile:
    """Lines that become files of a fair size."""

    def __init__(self, drafting: Drafting, source: str, *, suspect: bool = False) -> None:
        self._drafting = drafting
        self._draft = Draft(source, (), suspect=suspect)
        self._lines: list[str] = []
        self._size = 0
        self.count = 0

    def add(self, line: str) -> None:
        self._lines.append(line)
        self._size += len(line)
        self.count += 1
        if len(self._lines) >= MAX_LINES or self._size >= _PILE_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._lines:
            self._drafting.add(self._draft, self._lines)
            self._lines, self._size = [], 0


class Rearranger:
    """Works under a feeder's slot, so that drafts and claims of a dead one are cleaned up."""

    def __init__(self, room: Room, member: Member, publisher: Publisher, texts: Texts) -> None:
        self._room = room
        self._member = member
        self._publisher = publisher
        self._texts = texts

    def _mine(self) -> None:
        if not self._member.is_mine(slots.decode(self._room.head.slot(self._member.index))):
            raise EngineUnavailable(f"{self._room.url}: this process stood still for too long")

    # ---- dead letters and done ones
    def requeue(self, ids: Collection[str] | None, state: State) -> int:
        """Back to work, counts reset."""
        if ids is not None and not ids:
            return 0
        wanted = None if ids is None else {str(one) for one in ids}
        while True:
            found = self._requeue_done(wanted) if state is State.DONE else self._dead(wanted, "0")
            if found is not None:
                return found

    def purge_dead(self) -> int:
        """All dead letters are dropped."""
        while True:
            found = self._dead(None, "purged")
            if found is not None:
                return found

    def _dead(self, wanted: set[str] | None, target: str) -> int | None:
        """Move dead letters to `target`: one write. None if somebody else moved some meanwhile."""
        scanner = Scanner(self._room, self._texts)
        before = scanner.head
        first, last = before.dead[FIRST], before.dead[LAST]
        with self._publisher.drafting(self._member) as drafting:
            moved, kept = _Pile(drafting, target), _Pile(drafting, "dead")
            for line in scanner.dead_lines():
                number = line[1 : line.index(",")]
                if wanted is not None and number not in wanted:
                    kept.add(line)
                elif target == "purged":
                    moved.add(f"[{number},{int(number) + 1}]")
                else:
                    moved.add(Record(int(number), parse_dead(line)[0].text).line())
            moved.flush()
            kept.flush()
            if not moved.count:
                return 0
            with self._room.head as head:
                self._mine()
                if head.edits != before.edits:
                    return None
                drafting.announce(head)
                # What was buried meanwhile stands behind `last`, and before the kept ones.
                head.dead[FIRST], head.dead[OFFSET] = last + 1, 0
                head.dead[COUNT] -= moved.count + kept.count
                head.settled -= kept.count
                if target == "purged":
                    head.purged += moved.count
                else:
                    head.settled -= moved.count
                head.edits += 1
                self._room.head.write()
        self._remove("dead", range(first, last + 1))
        return moved.count

    def _remove(self, source: str, numbers: Iterable[int]) -> None:
        for number in numbers:
            path = self._room.file_of(source, number)
            self._room.batches.forget(path)
            try:
                self._room.calls.unlink(path)
            except OSError:
                continue  # nothing names it any more: it only takes up room

    def _requeue_done(self, wanted: set[str] | None) -> int | None:
        scanner = Scanner(self._room, self._texts)
        with self._publisher.drafting(self._member) as drafting:
            moved = _Pile(drafting, "0")
            if wanted is None:
                for record in scanner.done_records():
                    moved.add(record.line())
            else:
                for number, entry in scanner.look_up(wanted).items():
                    if entry.state is State.DONE:
                        moved.add(Record(int(number), entry.text).line())
            moved.flush()
            if not moved.count:
                return 0
            with self._room.head as head:
                self._mine()
                if head.edits != scanner.head.edits:
                    return None
                drafting.announce(head)
                head.settled -= moved.count
                head.edits += 1
                self._room.head.write()
        return moved.count

    # ---- what waits: claimed first, as a minion would, then dropped
    def purge_waiting(self, state: State | None) -> int:
        """Drop what waits, what is delayed, or both."""
        fronts = Fronts(self._room, self._texts)
        dropped = 0
        more = True
        while more:
            with self._room.head as head:
                fronts.remember(head)
            while fronts.prepare():
                continue
            with self._room.head as head:
                self._mine()
                claims, back, more = self._claim(head, fronts, state)
                if not claims:
                    break
                slot = slots.decode(self._room.head.slot(self._member.index))
                held = slot._replace(claims=tuple(claims))
                head.changed[self._member.index] = held.encode()
                head.edits += 1
                self._room.head.write()
            dropped += self._drop(claims, back)
        return dropped

    def _claim(
        self, head: Head, fronts: Fronts, state: State | None
    ) -> tuple[list[Claim], set[int], bool]:
        """Claims, the serials of those that are due though only delayed ones are meant, and
        whether to look again."""
        claims: list[Claim] = []
        back: set[int] = set()
        more = False
        now, wall = self._room.calls.monotonic(), self._room.head.time()
        for delay, folder in sorted(head.back.items()):
            if delay == 0 and state is State.DELAYED:
                continue
            while folder[COUNT]:
                front = fronts.known.get((delay, folder[FIRST]))
                if front is None or len(claims) >= _CLAIMS_AT_ONCE:
                    more = True
                    break
                due = delay == 0 or front.due_in_s(now, wall) <= 0
                if not due and state is State.WAITING:
                    break
                serial = len(claims) + 1
                if due and state is State.DELAYED:
                    back.add(serial)
                piece = (folder[OFFSET], front.length)
                claims.append(Claim(str(delay), folder[FIRST], serial, (piece,)))
                folder[COUNT] -= piece[1] - piece[0]
                folder[FIRST] += 1
                folder[OFFSET] = 0
        if state is not State.DELAYED and head.fresh:
            piece = (head.cursor, head.put + 1)
            claims.append(Claim("p", head.hint, len(claims) + 1, (piece,)))
            head.cursor = head.put + 1
        return claims, back, more

    def _drop(self, claims: list[Claim], back: set[int]) -> int:
        dropped = 0
        with self._publisher.drafting(self._member) as drafting:
            gone = _Pile(drafting, "purged")
            plain = _Pile(drafting, "0")
            suspects = _Pile(drafting, "0", suspect=True)
            for claim in claims:
                if claim.source == "p":
                    ((begin, end),) = claim.pieces
                    gone.add(f"[{begin},{end}]")
                    dropped += end - begin
                    continue
                for record in self._read(claim):
                    if claim.serial in back:
                        (suspects if record.suspect else plain).add(record.line())
                    else:
                        gone.add(f"[{record.id},{record.id + 1}]")
                        dropped += 1
            for pile in (gone, plain, suspects):
                pile.flush()
            with self._room.head as head:
                self._mine()
                slot = slots.decode(self._room.head.slot(self._member.index))
                drafting.announce(head)
                head.purged += dropped
                head.settled += dropped
                head.edits += 1
                head.changed[self._member.index] = slot._replace(claims=()).encode()
                self._room.head.write()
        return dropped

    def _read(self, claim: Claim) -> Iterable[Record]:
        try:
            for _, record in self._texts.records(claim):
                yield record
        except NotVisible as error:
            raise EngineUnavailable(
                f"{error.path} is not visible on this host yet: try again in a minute"
            ) from error

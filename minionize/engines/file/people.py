"""A person's face of a file queue: fill it, look into it, steer it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

from minionize.engines.file import slot as slots
from minionize.engines.file.batches import MAX_LINES
from minionize.engines.file.claiming import Fronts
from minionize.engines.file.counting import stats_of
from minionize.engines.file.head_file import at_the_edge
from minionize.engines.file.member import Member, remove_after
from minionize.engines.file.publishing import Draft, Drafting, Publisher
from minionize.engines.file.room import Room, no_queue
from minionize.engines.file.texts import Texts
from minionize.errors import EngineUnavailable, NotSupported
from minionize.values import Entry, MinionInfo, Param, State, Stats, to_texts

_log = logging.getLogger(__name__)

_LOCK_PATIENCE_S = 30.0
"""A minion asks again soon and has work meanwhile; a person's command waits, and while others
write it waits on."""

_PATIENCE_S = 2.0
"""How long people wait for a file that this host does not see yet."""

_MAX_BYTES = 1 << 21
"""Text of one segment, about; several lines of a MiB each don't pile up in memory."""


class FileQueue:
    """Feeds and steers a queue in a folder. docs/file-queue.md has the protocol."""

    def __init__(self, room: Room) -> None:
        self.room = room
        room.patience_s = _LOCK_PATIENCE_S
        room.on_and_on = True
        self.traits = room.traits
        self.url = room.url
        self.made = room.made
        self._texts = Texts(room, _PATIENCE_S)
        self._fronts = Fronts(room, Texts(room))
        self._publisher = Publisher(room)
        self._feeder: Member | None = None
        self._beaten_at = 0.0

    # ---- filling
    def put(self, params: Iterable[Param]) -> int:
        """See contracts.engine."""
        return self.put_texts(to_texts(params))

    def put_texts(self, texts: Iterable[str]) -> int:
        """See contracts.engine."""
        # An OSError of `texts` itself goes to the caller who gave it; only our own are translated.
        with self.feeding():
            member = self._feeder
            assert member is not None
            self._beat(member)
            with self._publisher.drafting(member) as drafting:
                for lines in _portions(iter(texts)):
                    self._draft(drafting, lines)
                if drafting.params:
                    self._publish(drafting)
                return drafting.params

    @at_the_edge
    def _draft(self, drafting: Drafting, lines: list[str]) -> None:
        drafting.add(Draft("p", lines), lines)
        if self._feeder is not None:
            self._beat(self._feeder)

    @at_the_edge
    def _publish(self, drafting: Drafting) -> None:
        try:
            with self.room.head as head:
                if self._feeder is not None:
                    self._check(self._feeder)
                drafting.announce(head)
                self.room.head.write()
        except EngineUnavailable:
            if not self._landed(drafting):
                raise

    def _landed(self, drafting: Drafting) -> bool:
        """After a write of unknown outcome: whether it happened, so that nothing is put twice."""
        numbers = drafting.announced.get("p")
        if not numbers:
            return False
        with self.room.head as head:
            if head.segments < numbers[-1] or not drafting.is_linked("p"):
                return False
            self.room.head.write()  # what failed may stand in the cache alone
            return True

    @contextmanager
    def feeding(self) -> Iterator[None]:
        """See contracts.engine."""
        if self._feeder is not None:
            self._rejoin(self._feeder)
            yield
            return
        member = self._feeder = self._join()
        try:
            yield
        finally:
            self._feeder = None
            try:
                self._leave(member)
            except EngineUnavailable as error:
                # What was put is put. The slot is freed by a take-over, since its beat has stopped.
                _log.warning("cannot leave %s: %s", self.url, error)

    @at_the_edge
    def _join(self) -> Member:
        self.room.make()
        member = Member(self.room, feeder=True)
        try:
            with self.room.head as head:
                member.join(head)
                self.room.head.write()
                self._publisher.learn(head)
        except BaseException:  # Ctrl-C as well
            member.forget()
            raise
        return member

    @at_the_edge
    def _rejoin(self, member: Member) -> None:
        """A feeder that feeds is alive, even if it was forgotten meanwhile."""
        with self.room.head as head:
            if member.is_mine(slots.decode(self.room.head.slot(member.index))):
                return
            member.forget()
            member.join(head)
            self.room.head.write()

    @at_the_edge
    def _leave(self, member: Member) -> None:
        name = f"{member.owner}.{member.generation}"
        try:
            with self.room.head as head:
                slot = slots.decode(self.room.head.slot(member.index))
                # With claims it is left to a take-over, which gives them back.
                mine = member.is_mine(slot) and not slot.claims
                if mine:
                    member.leave(head, slot)
                    self.room.head.write()
        finally:
            member.forget()
        if mine:
            remove_after(member, name)

    def _beat(self, member: Member) -> None:
        now = self.room.calls.monotonic()
        if now - self._beaten_at >= self.room.options.lease_s / 8:
            self._beaten_at = now
            member.beat()

    def _check(self, member: Member) -> None:
        if not member.is_mine(slots.decode(self.room.head.slot(member.index))):
            raise EngineUnavailable(
                f"{self.url}: this feeder stood still for longer than its lease and was "
                "forgotten; nothing was put: put again"
            )

    # ---- looking
    @at_the_edge
    def stats(self) -> Stats:
        """See contracts.engine."""
        for _ in range(2):
            self._fronts.prepare()
            with self.room.head as head:
                self._fronts.remember(head)
            if not self._fronts.prepare():
                break
        return stats_of(head, self._fronts)

    @at_the_edge
    def minions(self) -> Sequence[MinionInfo]:
        """See contracts.engine."""
        with self.room.head:
            records = self.room.head.slots()
        found = []
        for record in records:
            slot = slots.decode(record)
            if slot.state != slots.LIVE:
                continue
            found.append(
                MinionInfo(
                    id=slot.owner,
                    host=slot.host,
                    pid=slot.pid,
                    slots=slot.slots,
                    running=sum(claim.params for claim in slot.claims),
                    beat_age_s=self._beat_age_s(slot.folder),
                    feeder=slot.feeder,
                )
            )
        return found

    def _beat_age_s(self, name: str) -> float | None:
        # For people only: mtimes are the writer's clock on some file systems.
        try:
            changed = self.room.calls.changed_at(f"{self.room.member_folder(name)}/beat")
        except OSError:
            return None
        return max(0.0, self.room.calls.time() - changed)

    def scan(self, state: State) -> Iterator[Entry]:
        """See contracts.engine."""
        from minionize.engines.file.scanning import Scanner

        return Scanner(self.room, self._texts).scan(state)

    @at_the_edge
    def look_up(self, ids: Collection[str]) -> dict[str, Entry]:
        """See contracts.engine."""
        from minionize.engines.file.scanning import Scanner

        return Scanner(self.room, self._texts).look_up(ids)

    def history(self, after: int) -> Iterator[tuple[int, str]]:
        """Params put with an id above `after`, in order, with their ids; purged ones too."""
        from minionize.engines.file.history import history

        return history(self.room, self._texts, after)

    # ---- steering
    @at_the_edge
    def requeue(self, ids: Collection[str] | None = None, state: State = State.DEAD) -> int:
        """See contracts.engine."""
        from minionize.engines.file.rearranging import Rearranger

        if state not in (State.DEAD, State.DONE):
            raise NotSupported(f"{self.url} can't put {state.value} params back to work")
        self._must_exist()
        with self.feeding():
            assert self._feeder is not None
            desk = Rearranger(self.room, self._feeder, self._publisher, self._texts)
            return desk.requeue(ids, state)

    @at_the_edge
    def purge(self, state: State | None = None) -> int:
        """See contracts.engine."""
        from minionize.engines.file.rearranging import Rearranger

        if state not in (None, State.WAITING, State.DELAYED, State.DEAD):
            raise NotSupported(f"{self.url} can't drop {state.value} params")
        self._must_exist()
        with self.feeding():
            assert self._feeder is not None
            desk = Rearranger(self.room, self._feeder, self._publisher, self._texts)
            dropped = 0
            if state in (None, State.DEAD):
                dropped += desk.purge_dead()
            if state is not State.DEAD:
                dropped += desk.purge_waiting(state)
            return dropped

    @at_the_edge
    def settled_below(self) -> int:
        """See contracts.engine.ForgetsDone."""
        from minionize.engines.file.forgetting import Forgetting

        return Forgetting(self.room, self._texts).settled_below()

    @at_the_edge
    def forget_done(self, below: int, put_before_s: float) -> int:
        """See contracts.engine.ForgetsDone."""
        from minionize.engines.file.forgetting import Forgetting

        self._must_exist()
        return Forgetting(self.room, self._texts).forget(below, put_before_s)

    @at_the_edge
    def forgotten_below(self) -> int:
        """See contracts.engine.ForgetsDone."""
        with self.room.head as head:
            return head.kept_id

    @at_the_edge
    def steer(self, *, paused: bool | None = None, stop: bool = False) -> None:
        """See contracts.engine."""
        with self.room.head as head:
            if paused is not None:
                head.paused = int(paused)
            head.stops += stop
            self.room.head.write()

    def _must_exist(self) -> None:
        if not self.room.calls.exists(f"{self.room.path}/head"):
            raise no_queue(self.room.calls, self.room.path)

    def close(self) -> None:
        """See contracts.engine."""
        self.room.close()


def _portions(texts: Iterator[str]) -> Iterator[list[str]]:
    """Lists of as many texts as go into one segment."""
    while True:
        lines: list[str] = []
        size = 0
        while len(lines) < MAX_LINES and size < _MAX_BYTES:
            # A longer step where lines are short: a call less for each.
            more = list(islice(texts, 1 if size > _MAX_BYTES // 4 else _step(lines, size)))
            if not more:
                break
            lines += more
            size += sum(map(len, more))
        if not lines:
            return
        yield lines


def _step(lines: list[str], size: int) -> int:
    if not lines:
        return 1
    room = (_MAX_BYTES // 4) // max(1, size // len(lines))
    return max(1, min(MAX_LINES - len(lines), room, 4 * len(lines)))

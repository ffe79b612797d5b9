"""One locked visit to a sweep: the ledger and execo's files, brought to one story.

Each decision changes two things, the ledger and execo's files, and a crash may come between.
So that nothing is lost then:

- leasing: the ledger first. What is in a dead minion's name comes back, in progress or not.
- ack: execo first. What is done is dropped from the ledger by the minion that finds it there.
- giving back, burying: the ledger first, which also says what must be cancelled in execo; the
  next visitor does that before anything else.

In execo's terms a param that was given back, is delayed, or is a dead letter is todo: no minion
works on it and it is not done, which is what execo's other users are told. Only minions know
that they must wait for it or leave it alone.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from secrets import token_hex
from typing import Any

from minionize.contracts.engine import EngineOptions
from minionize.engines.execo import ledger as books
from minionize.engines.execo.ledger import Ledger, Member, Record
from minionize.engines.execo.sweep import Sweep, check_trusted, missing
from minionize.errors import EngineUnavailable, UsageError
from minionize.values import State, Stats


class Room:
    """The sweep in `folder`, as one minion, feeder or onlooker sees it."""

    def __init__(self, folder: str, strangers_s: float, options: EngineOptions) -> None:
        self.folder = folder
        self.url = f"execo:{folder}"
        self.options = options
        self.clock = options.clock
        self._strangers_s = strangers_s
        self._fd = -1
        """Of the folder: what others rename meanwhile changes nothing."""
        self._sweep: Sweep | None = None
        self._upheavals = -1
        self._stood: dict[str, tuple[int, float]] = {}
        """Members: the last beat seen, and for how long it was seen to stand still."""
        self._strange: dict[str, float] = {}
        """Params in progress that no minion holds: for how long that was seen."""
        self._looked_s: float | None = None
        self._lock_of: dict[str, int] = {}
        self._behind_s = 0.0
        """How far this host's clock is behind the one that is ahead of all others."""
        self.ledger = Ledger()

    @property
    def sweep(self) -> Sweep:
        assert self._sweep is not None, "only during a visit"
        return self._sweep

    @property
    def exists(self) -> bool:
        return os.path.exists(os.path.join(self.folder, "sweeps"))

    @contextmanager
    def visit(self, *, make: bool = False) -> Iterator[Ledger]:
        """Hold the lock; the ledger and the sweep are as of now. Changes need a `save`."""
        try:
            if not (make or self.exists):
                raise missing(self.folder)
            os.makedirs(self.folder, exist_ok=True)
            self._enter()
            os.makedirs(os.path.join(self._own, "members"), exist_ok=True)
            with books.locked(os.path.join(self._own, "lock"), self.clock):
                self.ledger = books.load(self._ledger_path)
                self._behind_s = max(self._behind_s, self.ledger.clock - self.clock.time())
                if self.exists:
                    self._refresh()
                    self._finish_cancelling()
                    self._sweep_out()
                yield self.ledger
        except PermissionError as error:
            where = self._shown(error.filename)
            raise UsageError(f"{self.url}: no rights on {where}: chmod it") from error
        except OSError as error:
            raise EngineUnavailable(f"{self.url}: {self._why(error)}") from error

    @property
    def place(self) -> str:
        """The folder that was entered, by a name that stays its own."""
        return f"/proc/self/fd/{self._fd}"

    @property
    def _own(self) -> str:
        return os.path.join(self.place, "minionize")

    def _why(self, error: OSError) -> str:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return "the disk is full (or a quota is): free some space"
        if error.filename is None:
            return error.strerror or str(error)
        return f"{error.strerror}: {self._shown(error.filename)}"

    def _shown(self, path: object) -> str:
        return str(path).replace(self.place, self.folder)

    def _enter(self) -> None:
        """Open the folder, and look whose it is: another user who may write there could exchange a
        pickle after it was looked at."""
        if self._fd >= 0 and not os.fstat(self._fd).st_nlink:
            self.let_go()  # it was removed, and another one was made
        if self._fd < 0:
            if os.path.islink(self.folder):
                found = os.lstat(self.folder)
                if found.st_uid not in (os.geteuid(), 0):
                    check_trusted(self.folder, found)
            self._fd = os.open(self.folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        check_trusted(self.folder, os.fstat(self._fd))

    def let_go(self) -> None:
        """Close the folder; the next visit opens it again, and reads the sweep in it."""
        self._sweep = None
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def save(self, *, sync: bool = True) -> None:
        """Write the ledger."""
        self.ledger.clock = self.time()
        books.write_whole(self._ledger_path, self.ledger.dump(), sync=sync)

    def time(self) -> float:
        """Unix time that all agree on: the clock of that host whose is ahead. A delay that one
        host begins must not last for hours on another."""
        return self.clock.time() + self._behind_s

    def reload(self) -> None:
        """The set of combinations was changed by this visit."""
        self._sweep = None
        self._refresh()

    def upheaval(self) -> None:
        """Params went back to todo in a way that other ParamSweepers don't see by themselves."""
        self.ledger.upheavals += 1
        self._upheavals = self.ledger.upheavals

    # Members.

    def join(self, key: str, *, feeder: bool = False) -> None:
        """`key` is at work from now on; its lock file shows it to others on this machine."""
        options = self.options
        self.ledger.members[key] = Member(
            id=options.minion_id,
            host=options.host,
            pid=options.pid,
            slots=0 if feeder else options.slots,
            lease_s=options.lease_s,
            boot=books.boot_id(),
            feeder=feeder,
        )
        self.drop_lock(key)
        for other in os.listdir(os.path.join(self._own, "members")):
            # Whose file has no line in the ledger died between the two.
            if other not in self.ledger.members and self._lock_is_free(other):
                self._remove_lock_file(other)
        descriptor = os.open(self._member_path(key), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._lock_of[key] = descriptor
        books.try_lock(descriptor)

    def beat(self, key: str, *, feeder: bool = False) -> None:
        """`key` is alive, also if it was given up before."""
        if key not in self.ledger.members:
            self.join(key, feeder=feeder)
        self.ledger.members[key].beat += 1

    def leave(self, key: str) -> None:
        self.ledger.members.pop(key, None)
        self._remove_lock_file(key)
        self.drop_lock(key)

    def stood_s(self, key: str) -> float | None:
        """For how long this onlooker saw its beat stand still; None: it just began to look."""
        return self._stood[key][1] if key in self._stood else None

    def drop_lock(self, key: str) -> None:
        """Let go of the lock that shows that `key` is alive."""
        descriptor = self._lock_of.pop(key, None)
        if descriptor is not None:
            os.close(descriptor)

    def new_key(self) -> str:
        return f"{self.options.minion_id or 'someone'}.{token_hex(4)}"

    # Params.

    def give_back(self, ids: Collection[str]) -> None:
        """Write the ledger, in which no minion holds `ids` any more, then make them todo."""
        self.ledger.cancel = list(ids)
        self.upheaval()
        self.save()
        self._finish_cancelling()
        self.save(sync=False)

    def drop(self, ids: Collection[str]) -> None:
        """The sweep forgets these todo ones; they count as purged."""
        self.sweep.without(ids)
        for id in ids:
            self.ledger.params.pop(id, None)
        self.ledger.purged += len(ids)
        self.reload()
        self.upheaval()
        self.save()

    def states(self, state: State | None = None) -> dict[str, State]:
        """Each param with its state; or those in `state`."""
        self.sweep.read_all()
        now = self.time()
        done, busy, records = self.sweep.done(), self.sweep.in_progress(), self.ledger.params
        found = {}
        for id in self.sweep.combinations:
            record = records.get(id)
            if id in done:
                where = State.DONE
            elif id in busy or (record and record.holder):
                where = State.RUNNING
            elif record is None:
                where = State.WAITING
            elif record.failure:
                where = State.DEAD
            else:
                where = State.DELAYED if record.due > now else State.WAITING
            if state is None or where is state:
                found[id] = where
        return found

    def stats(self) -> Stats:
        states = list(self.states().values())
        members = self.ledger.members.values()
        now = self.time()
        dues = [record.due for record in self.ledger.params.values() if record.due > now]
        return Stats(
            put=len(states) + self.ledger.purged,
            waiting=states.count(State.WAITING),
            delayed=states.count(State.DELAYED),
            running=states.count(State.RUNNING),
            done=states.count(State.DONE),
            dead=states.count(State.DEAD),
            purged=self.ledger.purged,
            feeders=sum(member.feeder for member in members),
            minions=sum(not member.feeder for member in members),
            paused=self.ledger.paused,
            due_in_s=min(dues) - now if dues else None,
        )

    def choose(self, todo: Collection[Any]) -> Iterable[Any]:
        """Of execo's todo what may be leased now, best first: suspects alone, then what was
        given back, then the new ones in execo's order."""
        now = self.time()
        combinations, records = self.sweep.combinations, self.ledger.params
        back: list[Any] = []
        suspects: list[Any] = []
        for id, record in records.items():
            if record.holder or record.failure or record.due > now:
                continue
            if id in combinations and combinations[id] in todo:
                (suspects if record.suspect else back).append(combinations[id])
        if suspects:
            yield from suspects
            return
        yield from back
        for combination in todo:
            if self.sweep.id_of(combination) not in records:
                yield combination

    @property
    def traces(self) -> tuple[object, ...]:
        """Something that changes when something new may be had (a due time apart)."""
        return (*self.sweep.traces, self.ledger.upheavals, self.ledger.paused)

    def ready(self) -> bool:
        """Whether something that was given back can be leased."""
        now = self.time()
        return any(
            not record.holder and not record.failure and record.due <= now
            for record in self.ledger.params.values()
        )

    # What every visit does first.

    def _refresh(self) -> None:
        """The sweep as it is now, unpickled only if its files may be trusted."""
        if self._sweep is None or self._sweep.changed:
            self._sweep = Sweep(self.folder, self.place)
            self._upheavals = self.ledger.upheavals
            return
        self._sweep.check()
        if self._upheavals != self.ledger.upheavals:
            self._sweep.read_all()
            self._upheavals = self.ledger.upheavals

    def _finish_cancelling(self) -> None:
        if self.ledger.cancel:
            self.sweep.cancel(self.ledger.cancel)
            self.ledger.cancel = []

    def _sweep_out(self) -> None:
        """Take back what dead minions held, and what stood without a minion for too long."""
        now_s = self.clock.monotonic()
        passed_s = 0.0 if self._looked_s is None else now_s - self._looked_s
        self._looked_s = now_s
        members = self.ledger.members
        dead = [key for key in members if key not in self._lock_of and self._is_dead(key, passed_s)]
        self._stood = {key: stood for key, stood in self._stood.items() if key in members}
        back = [id for key in dead for id in self.ledger.held_by(key)]
        if back or dead:
            done = self.sweep.done() if not back else self._freshly_done()
            for id in back:
                if id in done or id not in self.sweep.combinations:
                    del self.ledger.params[id]
                else:
                    _fall(self.ledger.params[id])
            for key in dead:
                del members[key]
                self._remove_lock_file(key)
        back = [id for id in back if id in self.ledger.params]
        back += self._strangers(min(passed_s, self.options.lease_s / 4))
        if back or dead:
            self.give_back(back)

    def _freshly_done(self) -> set[str]:
        self.sweep.read_all()
        return self.sweep.done()

    def _is_dead(self, key: str, passed_s: float) -> bool:
        """Its beat stood still for its lease while this minion looked, or its lock is free."""
        member = self.ledger.members[key]
        if member.boot and member.boot == books.boot_id() and self._lock_is_free(key):
            return True
        beat, stood_s = self._stood.get(key, (-1, 0.0))
        # Who looks rarely (it slept, or was stopped itself) can't tell how long others were silent.
        stood_s = stood_s + min(passed_s, member.lease_s / 4) if beat == member.beat else 0.0
        self._stood[key] = (member.beat, stood_s)
        return stood_s >= member.lease_s

    def _lock_is_free(self, key: str) -> bool:
        try:
            descriptor = os.open(self._member_path(key), os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False  # no file says nothing: then its beat decides
        try:
            return books.try_lock(descriptor)
        finally:
            os.close(descriptor)

    def _strangers(self, passed_s: float) -> list[str]:
        """Params in progress that no minion of ours holds: a program runs them with execo alone,
        or died. Returns those that stood like that for too long."""
        held = {id for id, record in self.ledger.params.items() if record.holder}
        before = self._strange
        self._strange = {
            id: before[id] + passed_s if id in before else 0.0
            for id in self.sweep.in_progress() - held
        }
        old = [id for id, stood_s in self._strange.items() if stood_s >= self._strangers_s]
        if old:
            self.sweep.read_all()
            still = self.sweep.in_progress()
            old = [id for id in old if id in still]
        for id in old:
            del self._strange[id]
            record = self.ledger.params.setdefault(id, Record())
            record.suspect, record.failure, record.due = True, None, 0.0
        return old

    @property
    def _ledger_path(self) -> str:
        return os.path.join(self._own, "ledger")

    def _member_path(self, key: str) -> str:
        return os.path.join(self._own, "members", key)

    def _remove_lock_file(self, key: str) -> None:
        try:
            os.unlink(self._member_path(key))
        except FileNotFoundError:
            return  # another minion was faster


def _fall(record: Record) -> None:
    """Its holder died."""
    record.crashes += record.marked
    record.suspect = True
    record.holder, record.marked, record.serial = "", False, 0

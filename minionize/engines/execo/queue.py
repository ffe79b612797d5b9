"""A person's face of an execo sweep."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager

from minionize.engines.execo.ledger import Ledger, Record
from minionize.engines.execo.minion import TRAITS
from minionize.engines.execo.room import Room
from minionize.engines.execo.sweep import frozen, id_of, plain, save
from minionize.errors import BadParam, NotSupported
from minionize.values import Entry, Failure, MinionInfo, Param, State, Stats, to_text


class ExecoQueue:
    """`put` adds to the sweep, of which each param is a member or not: what is in it already,
    done or not, is not put again (nor counted)."""

    def __init__(self, room: Room) -> None:
        self.traits = TRAITS
        self.url = room.url
        self._room = room
        self._feeder = ""
        self.made: list[str] = []

    def put(self, params: Iterable[Param]) -> int:
        return self._put(params)

    def put_texts(self, texts: Iterable[str]) -> int:
        return self._put(json.loads(text) for text in texts)

    def _put(self, params: Iterable[Param]) -> int:
        new: dict[object, str] = {}
        for number, param in enumerate(params, 1):
            try:
                text = to_text(param)
                combination = frozen(json.loads(text))
                id = id_of(plain(combination))
            except (TypeError, ValueError, RecursionError) as error:
                raise BadParam(
                    f"param {number} is no JSON ({error}): use JSON values only"
                ) from error
            if new.setdefault(combination, id) != id:
                raise _twins(self.url, text)
        with self._room.visit(make=self._room.options.create) as ledger:
            room = self._room
            if not room.exists:
                save(room.place, set())
                self.made.append(f"sweep {room.folder}")
                room.reload()
            known = room.sweep.combinations
            for combination, id in new.items():
                there = room.sweep.id_of(combination)
                if there is not None and id != there and id not in known:
                    raise _twins(self.url, to_text(plain(combination)))
            fresh = {combination for combination in new if room.sweep.id_of(combination) is None}
            if fresh:
                save(room.place, fresh.union(known.values()))
                room.reload()
                room.upheaval()
            if self._feeder:
                room.beat(self._feeder, feeder=True)
            if fresh or self._feeder:
                room.save()
            assert ledger is room.ledger
        return len(fresh)

    @contextmanager
    def feeding(self) -> Iterator[None]:
        self._feeder = self._room.new_key()
        self._put(())
        try:
            yield
        finally:
            feeder, self._feeder = self._feeder, ""
            with self._room.visit():
                self._room.leave(feeder)
                self._room.save()

    def scan(self, state: State) -> Iterator[Entry]:
        with self._room.visit() as ledger:
            found = self._room.states(state)
        return (self._entry(ledger, id, state) for id in found)

    def look_up(self, ids: Collection[str]) -> dict[str, Entry]:
        with self._room.visit() as ledger:
            states = self._room.states()
        return {id: self._entry(ledger, id, states[id]) for id in ids if id in states}

    def requeue(self, ids: Collection[str] | None = None, state: State = State.DEAD) -> int:
        if state not in (State.DEAD, State.DONE):
            raise NotSupported(f"{self.url} can't put {state.value} params back to work")
        with self._room.visit() as ledger:
            found = self._room.states(state)
            chosen = [id for id in found if ids is None or id in set(ids)]
            if chosen and state is State.DONE:
                self._room.sweep.undo(chosen)
                self._room.sweep.read_all()
            for id in chosen:
                ledger.params.pop(id, None)
            if chosen:
                self._room.upheaval()
                self._room.save()
            return len(chosen)

    def purge(self, state: State | None = None) -> int:
        states = [State.WAITING, State.DELAYED, State.DEAD] if state is None else [state]
        if state in (State.RUNNING, State.DONE):
            raise NotSupported(f"{self.url} can't drop {state.value} params")
        with self._room.visit():
            gone = [id for id, where in self._room.states().items() if where in states]
            if gone:
                self._room.drop(gone)
            return len(gone)

    def steer(self, *, paused: bool | None = None, stop: bool = False) -> None:
        with self._room.visit() as ledger:
            if paused is not None:
                ledger.paused = paused
            ledger.stops += stop
            self._room.save()

    def minions(self) -> Sequence[MinionInfo]:
        with self._room.visit() as ledger:
            return [
                MinionInfo(
                    member.id,
                    member.host,
                    member.pid,
                    member.slots,
                    len(ledger.held_by(key)),
                    self._room.stood_s(key),
                    member.feeder,
                )
                for key, member in ledger.members.items()
            ]

    def stats(self) -> Stats:
        with self._room.visit():
            return self._room.stats()

    def close(self) -> None:
        """Let go of the folder."""
        self._room.let_go()

    def abandon(self) -> None:
        """As if the process of this feeder had been killed. For tests."""
        self._room.drop_lock(self._feeder)

    def _entry(self, ledger: Ledger, id: str, state: State) -> Entry:
        record = ledger.params.get(id, Record())
        holder = ledger.members.get(record.holder)
        due_in_s = record.due - self._room.time() if state is State.DELAYED else None
        failure = Failure(*record.failure) if record.failure and state is State.DEAD else None
        return Entry(
            id,
            self._room.sweep.texts[id],
            state,
            record.attempt,
            record.crashes,
            holder=holder.id if holder else "",
            due_in_s=due_in_s,
            failure=failure,
        )


def _twins(url: str, text: str) -> BadParam:
    return BadParam(
        f"{url}: {text:.200} equals another param in Python (as 1, 1.0 and true do), and execo "
        "can't tell them apart: write both in the same way, or use a file queue"
    )

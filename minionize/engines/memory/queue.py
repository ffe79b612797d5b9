"""A person's face of a queue in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager

from minionize.contracts.engine import EngineOptions, Traits
from minionize.engines.memory.store import Holder, Item, Store, existing, find, find_or_make
from minionize.errors import EngineUnavailable, NotSupported, UsageError
from minionize.values import Entry, MinionInfo, Param, State, Stats, to_texts


class MemoryQueue:
    """A person's face."""

    def __init__(self, address: str, options: EngineOptions) -> None:
        self._name, self._keep, self._most = parse(address)
        made = find(self._name)
        self.traits = Traits(keeps_done=made.keep if made else self._keep, durable=False)
        self.url = f"memory:{self._name}"
        self._options = options
        self._clock = options.clock
        self._feeder: Holder | None = None
        self._closed = False
        self.made: list[str] = []

    def put(self, params: Iterable[Param]) -> int:
        return self.put_texts(to_texts(params))

    def put_texts(self, texts: Iterable[str]) -> int:
        store = self._store(make=True)
        new = list(texts)  # outside the lock: `texts` may be slow, or raise
        with store.lock:
            self._beat(store)
            while store.most is not None and store.waiting >= store.most:
                if self._closed:
                    raise EngineUnavailable(f"{self.url} was closed while it was full: put again")
                store.pause_for(0.25, self._clock)
                self._beat(store)
            return store.add(new)

    @contextmanager
    def feeding(self) -> Iterator[None]:
        store = self._store(make=True)
        with store.lock:
            self._feeder = Holder(self._options, feeder=True)
            store.feeders.append(self._feeder)
        try:
            yield
        finally:
            with store.lock:
                if self._feeder in store.feeders:
                    store.feeders.remove(self._feeder)
                self._feeder = None
                store.changed.notify_all()

    def scan(self, state: State) -> Iterator[Entry]:
        store = self._store()
        if state is State.DONE and not store.keep:
            raise NotSupported(f"{self.url} does not keep what is done: make it without keep=0")
        now_s = self._clock.monotonic()
        with store.lock:
            store.tick(now_s)
            found = [item for item in store.items.values() if item.state is state]
        return iter([store.entry(item, now_s) for item in found])

    def look_up(self, ids: Collection[str]) -> dict[str, Entry]:
        store = self._store()
        now_s = self._clock.monotonic()
        with store.lock:
            store.tick(now_s)
            return {id: store.entry(store.items[id], now_s) for id in ids if id in store.items}

    def requeue(self, ids: Collection[str] | None = None, state: State = State.DEAD) -> int:
        store = self._store()
        if state not in (State.DEAD, State.DONE) or (state is State.DONE and not store.keep):
            raise NotSupported(f"{self.url} can't put {state.value} params back to work")
        with store.lock:
            chosen: Iterable[Item | None]
            if ids is None:
                chosen = list(store.items.values())
            else:
                chosen = [store.items.get(id) for id in dict.fromkeys(ids)]
            count = 0
            for item in chosen:
                if item is None or item.state is not state:
                    continue
                if state is State.DEAD:
                    del store.dead[item.id]
                else:
                    store.done -= 1
                item.reset()
                store.wait(item)
                count += 1
            return count

    def purge(self, state: State | None = None) -> int:
        store = self._store()
        if state not in (None, State.WAITING, State.DELAYED, State.DEAD):
            raise NotSupported(f"{self.url} can't drop {state.value} params")
        drops: dict[State, list[Callable[[], None]]] = {
            State.WAITING: [store.fresh.clear, store.returned.clear, store.suspects.clear],
            State.DELAYED: [store.delayed.clear],
            State.DEAD: [store.dead.clear],
        }
        with store.lock:
            store.tick(self._clock.monotonic())
            states = [state] if state else list(drops)
            gone = [item.id for item in store.items.values() if item.state in states]
            for each in states:
                for clear in drops[each]:
                    clear()
            for id in gone:
                del store.items[id]
            store.purged += len(gone)
            store.changed.notify_all()
            return len(gone)

    def steer(self, *, paused: bool | None = None, stop: bool = False) -> None:
        store = self._store()
        with store.lock:
            if paused is not None:
                store.paused = paused
            store.stops += stop
            store.changed.notify_all()

    def minions(self) -> Sequence[MinionInfo]:
        store = self._store()
        with store.lock:
            store.tick(self._clock.monotonic())
            return [
                MinionInfo(
                    holder.options.minion_id,
                    holder.options.host,
                    holder.options.pid,
                    0 if holder.feeder else holder.options.slots,
                    len(holder.held),
                    holder.age_s,
                    holder.feeder,
                )
                for holder in (*store.minions, *store.feeders)
            ]

    def stats(self) -> Stats:
        store = self._store()
        with store.lock:
            return store.stats(self._clock.monotonic())

    def close(self) -> None:
        self._closed = True
        store = find(self._name)
        if store is not None:
            with store.lock:
                store.changed.notify_all()

    def _store(self, *, make: bool = False) -> Store:
        if not (make and self._options.create):
            return existing(self._name)
        if find(self._name) is None:
            self.made.append(f"queue {self._name} in this process")
        return find_or_make(self._name, self._keep, self._most)

    def _beat(self, store: Store) -> None:
        """A feeder that puts is alive, even if it was forgotten."""
        if self._feeder is not None:
            self._feeder.beat()
            if self._feeder not in store.feeders:
                store.feeders.append(self._feeder)


def parse(address: str) -> tuple[str, bool, int | None]:
    """(name, keep, most) of `NAME?keep=0&most=10000`."""
    name, _, query = address.partition("?")
    keep, most = True, None
    for option in filter(None, query.split("&")):
        key, _, value = option.partition("=")
        if key == "keep" and value in ("0", "1"):
            keep = value == "1"
        elif key == "most" and value.isdecimal() and int(value) > 0:
            most = int(value)
        else:
            raise UsageError(f"queue memory:{address}: {option!r} is neither keep=0 nor most=N")
    return name, keep, most

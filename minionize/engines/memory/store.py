"""The params of one queue in memory: where each is, who holds it, and since when."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from heapq import heappop, heappush

from minionize.contracts.engine import EngineOptions
from minionize.errors import NoSuchQueue
from minionize.values import Clock, Entry, Failure, State, Stats, SystemClock


class Item:
    """One param, in exactly one place: a deque or heap of waiting ones, a holder, done, dead."""

    __slots__ = (
        "attempt",
        "crashes",
        "due_s",
        "failure",
        "holder",
        "id",
        "laters",
        "marked",
        "serial",
        "state",
        "suspect",
        "text",
    )

    def __init__(self, number: int, text: str) -> None:
        self.id = str(number)
        self.text = text
        self.state = State.WAITING
        self.holder: Holder | None = None
        self.serial = 0
        """Grows with each lease, so that an old lease of the same minion is known as old."""
        self.failure: Failure | None = None
        self.due_s = 0.0
        self.reset()

    def reset(self) -> None:
        self.attempt = 1
        self.crashes = 0
        self.laters = 0
        self.suspect = False
        self.marked = False
        self.failure = None


class Holder:
    """A minion or feeder: what it holds, and until when it counts as alive."""

    def __init__(self, options: EngineOptions, *, feeder: bool = False) -> None:
        self.options = options
        self.feeder = feeder
        self.held: dict[str, Item] = {}
        self.beat_s = options.clock.monotonic()

    def beat(self) -> None:
        self.beat_s = self.options.clock.monotonic()

    @property
    def age_s(self) -> float:
        return self.options.clock.monotonic() - self.beat_s


class Store:
    """The params of one queue. Every method but `waiting` is called with `lock` held."""

    def __init__(self, name: str, keep: bool, most: int | None) -> None:
        self.name = name
        self.keep = keep
        self.most = most
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.items: dict[str, Item] = {}
        self.fresh: deque[Item] = deque()
        self.returned: deque[Item] = deque()
        self.suspects: deque[Item] = deque()
        self.delayed: list[tuple[float, int, Item]] = []
        self.running: dict[str, Item] = {}
        self.dead: dict[str, Item] = {}
        self.minions: list[Holder] = []
        self.feeders: list[Holder] = []
        self.put = 0
        self.done = 0
        self.purged = 0
        self.paused = False
        self.stops = 0
        self._serial = 0

    @property
    def waiting(self) -> int:
        return len(self.fresh) + len(self.returned) + len(self.suspects)

    def add(self, texts: Iterable[str]) -> int:
        new = [Item(number, text) for number, text in enumerate(texts, self.put + 1)]
        self.put += len(new)
        self.items.update((item.id, item) for item in new)
        self.fresh.extend(new)
        self.changed.notify_all()
        return len(new)

    def tick(self, now_s: float) -> None:
        """Take back what dead minions held, and let in what is due."""
        for holder in [h for h in self.minions if h.age_s >= h.options.lease_s]:
            self.minions.remove(holder)
            for item in list(holder.held.values()):
                item.suspect = True
                item.crashes += item.marked
                self.release(item, 0.0, now_s)
        self.feeders = [h for h in self.feeders if h.age_s < h.options.lease_s]
        while self.delayed and self.delayed[0][0] <= now_s:
            self.wait(heappop(self.delayed)[2])

    def wait(self, item: Item) -> None:
        """`item` can be leased again from now on."""
        item.state = State.WAITING
        (self.suspects if item.suspect else self.returned).append(item)
        self.changed.notify()

    def take(self, limit: int, holder: Holder) -> list[Item]:
        """Up to `limit` params for `holder`: suspects alone, given-back ones before new ones."""
        taken: list[Item] = []
        for source in [self.suspects] if self.suspects else [self.returned, self.fresh]:
            while source and len(taken) < limit:
                taken.append(source.popleft())
        for item in taken:
            self._serial += 1
            item.serial = self._serial
            item.state = State.RUNNING
            item.marked = False
            item.holder = holder
            holder.held[item.id] = item
            self.running[item.id] = item
        if taken:
            self.changed.notify_all()
        return taken

    def let_go(self, item: Item) -> None:
        """`item` is not held any more; the caller says where it is now."""
        assert item.holder is not None
        del item.holder.held[item.id]
        del self.running[item.id]
        item.holder = None
        item.marked = False

    def release(self, item: Item, delay_s: float, now_s: float) -> None:
        """Back from its holder, to be leased again after `delay_s`."""
        self.let_go(item)
        if delay_s <= 0:
            self.wait(item)
        else:
            item.state = State.DELAYED
            item.due_s = now_s + delay_s
            self._serial += 1
            heappush(self.delayed, (item.due_s, self._serial, item))
            self.changed.notify()

    def settle(self, item: Item) -> None:
        self.let_go(item)
        self.done += 1
        item.state = State.DONE
        if not self.keep:
            del self.items[item.id]

    def move_out(self, item: Item) -> None:
        self.let_go(item)
        self.purged += 1
        del self.items[item.id]

    def stats(self, now_s: float) -> Stats:
        self.tick(now_s)
        return Stats(
            put=self.put,
            waiting=self.waiting,
            delayed=len(self.delayed),
            running=len(self.running),
            done=self.done,
            dead=len(self.dead),
            purged=self.purged,
            feeders=len(self.feeders),
            minions=len(self.minions),
            paused=self.paused,
            due_in_s=self.delayed[0][0] - now_s if self.delayed else None,
        )

    def entry(self, item: Item, now_s: float) -> Entry:
        return Entry(
            item.id,
            item.text,
            item.state,
            item.attempt,
            item.crashes,
            holder=item.holder.options.minion_id if item.holder else "",
            due_in_s=item.due_s - now_s if item.state is State.DELAYED else None,
            failure=item.failure,
        )

    def pause_for(self, wait_s: float, clock: Clock) -> None:
        """Wait until something changed, `wait_s` at most, with `lock` held before and after."""
        if isinstance(clock, SystemClock):
            self.changed.wait(wait_s)
            return
        self.lock.release()
        try:
            clock.sleep(wait_s)
        finally:
            self.lock.acquire()


_stores: dict[str, Store] = {}
_stores_lock = threading.Lock()


def find(name: str) -> Store | None:
    """The queue `name` of this process, if there is one."""
    with _stores_lock:
        return _stores.get(name)


def find_or_make(name: str, keep: bool, most: int | None) -> Store:
    """The queue `name` of this process; `keep` and `most` count only if it is made now."""
    with _stores_lock:
        return _stores.setdefault(name, Store(name, keep, most))


def drop(name: str) -> None:
    """Forget the queue `name` and all its params. Open handles keep what they have."""
    with _stores_lock:
        _stores.pop(name, None)


def existing(name: str) -> Store:
    """The queue `name`. NoSuchQueue if there is none."""
    store = find(name)
    if store is None:
        raise NoSuchQueue(f"no queue memory:{name} in this process: put params first")
    return store

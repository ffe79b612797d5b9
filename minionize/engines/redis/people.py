"""A person's face of a queue in Redis: fill it, look into it, steer it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager

from minionize.contracts.engine import EngineOptions
from minionize.engines.redis.counting import crew_from, stats_from
from minionize.engines.redis.feeding import Feeder
from minionize.engines.redis.listing import Listing
from minionize.engines.redis.minion import TRAITS
from minionize.engines.redis.place import Place
from minionize.engines.redis.policies import policies_from
from minionize.engines.redis.wire import Wire
from minionize.errors import NotSupported
from minionize.values import Entry, MinionInfo, Param, Policy, State, Stats, to_texts

_TIMEOUT_S = 10.0
_IDS = 500


class RedisQueue:
    """Feeds and steers. docs/redis.md says how."""

    def __init__(self, place: Place, options: EngineOptions) -> None:
        self.traits = TRAITS
        self.url = place.url
        self._wire = Wire(place, _TIMEOUT_S)
        self._feeder = Feeder(place, self._wire, options)
        self.made = self._feeder.made
        self._listing = Listing(place, self._wire)

    def put(self, params: Iterable[Param]) -> int:
        """See contracts.engine."""
        return self._feeder.put(to_texts(params))

    def put_texts(self, texts: Iterable[str]) -> int:
        """See contracts.engine."""
        return self._feeder.put(texts)

    def feeding(self) -> AbstractContextManager[None]:
        """See contracts.engine."""
        return self._feeder.feeding()

    def scan(self, state: State) -> Iterator[Entry]:
        """See contracts.engine."""
        if state is State.DONE:
            raise NotSupported(f"{self.url} does not keep what is done: see the report")
        self._wire.checked("ends")
        return self._listing.scan(state)

    def look_up(self, ids: Collection[str]) -> dict[str, Entry]:
        """See contracts.engine."""
        self._wire.checked("ends")
        return self._listing.look_up(ids)

    def requeue(self, ids: Collection[str] | None = None, state: State = State.DEAD) -> int:
        """See contracts.engine."""
        if state is not State.DEAD:
            raise NotSupported(f"{self.url} can't put {state.value} params back to work")
        if ids is None:
            return self._requeue_all()
        count = 0
        wanted = list(dict.fromkeys(ids))
        for first in range(0, len(wanted) or 1, _IDS):
            some = wanted[first : first + _IDS]
            count += self._wire.checked("requeue", "", "", *some)[1]
        return count

    def _requeue_all(self) -> int:
        last = self._wire.checked("ends")[1]
        count = 0
        begin = b"-"
        while last:
            _, some, seen = self._wire.checked("requeue", begin, last)
            count += some
            if not seen:
                break
            begin = b"(" + seen
        return count

    def purge(self, state: State | None = None) -> int:
        """See contracts.engine."""
        kinds = {
            State.WAITING: ("loads", "main", "back", "suspects"),
            State.DELAYED: ("delayed",),
            State.DEAD: ("dead",),
        }
        if state is not None and state not in kinds:
            raise NotSupported(f"{self.url} can't drop {state.value} params")
        count = 0
        if state in (None, State.DELAYED):
            count += self._purge("delayed", "")
        else:
            self._wire.checked("promote")
        # What was delayed until now waits by now; what comes later is none of our business.
        _, dead, main, back, suspects = self._wire.checked("ends")
        last = {"dead": dead, "main": main, "back": back, "suspects": suspects, "loads": ""}
        for each in (State.WAITING, State.DEAD):
            if state in (None, each):
                count += sum(self._purge(kind, last[kind]) for kind in kinds[each])
        return count

    def _purge(self, kind: str, last: str | bytes) -> int:
        count, more = 0, 1
        while more:
            _, some, more = self._wire.checked("purge", kind, last)
            count += some
        return count

    def steer(self, *, paused: bool | None = None, stop: bool = False) -> None:
        """See contracts.engine."""
        said = "" if paused is None else str(int(paused))
        self._wire.checked("steer", said, int(stop))

    def minions(self) -> Sequence[MinionInfo]:
        """See contracts.engine."""
        return crew_from(self._wire.checked("crew")[1])

    def stats(self) -> Stats:
        """See contracts.engine."""
        return stats_from(self._wire.checked("stats"))[0]

    def policies(self) -> Sequence[Policy]:
        """See contracts.engine.TellsPolicies."""
        return policies_from(self._wire.run("policies"))

    def close(self) -> None:
        """See contracts.engine."""
        self._wire.drop()

    def abandon(self) -> None:
        """As if this process had been killed. For tests."""
        self._wire.drop()

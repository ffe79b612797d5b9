"""A person's face of a queue on Pub/Sub."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from minionize.contracts.engine import EngineOptions
from minionize.engines.pubsub.letters import CLAIM, entry_of, revived
from minionize.engines.pubsub.making import checked, complete, deadline_of, described, make
from minionize.engines.pubsub.minion import TRAITS
from minionize.engines.pubsub.names import Names
from minionize.engines.pubsub.policies import policies_of
from minionize.engines.pubsub.publishing import put
from minionize.engines.pubsub.wire import PULL_MOST, Wire
from minionize.errors import NotSupported
from minionize.values import Entry, MinionInfo, Param, Policy, State, Stats, to_texts

_RPC_S = 15.0
_NOTHING_TIMES = 3
"""A pull may bring nothing though there is something: so often in a row it means that there is
none."""
_READ_S = 60
"""For how long a dead letter that is being read is kept from other readers."""


class PubsubQueue:
    """Feeds a queue, and reads its dead letters. It connects when it is used first."""

    def __init__(self, names: Names, options: EngineOptions) -> None:
        self.traits = TRAITS
        self.url = names.url
        self.inbox = f"{names.endpoint} {names.topic}"
        self.made: list[str] = []
        self._names = names
        self._options = options
        self._opened: Wire | None = None
        self._complete = False

    # ---- filling
    def put(self, params: Iterable[Param]) -> int:
        """See contracts.engine."""
        return self.put_texts(to_texts(params))

    def put_texts(self, texts: Iterable[str]) -> int:
        """See contracts.engine; `publishing.put` says what differs."""
        self._make()
        return put(self._wire, texts)

    @contextmanager
    def feeding(self) -> Iterator[None]:
        """See contracts.engine; here minions can't know of it, and go by their --idle."""
        self._make()
        yield

    def _make(self) -> None:
        """All that is missing, once."""
        if self._complete:
            return
        deadline_s = deadline_of(self._options.lease_s)
        if self._options.create:
            self.made += make(self._wire, deadline_s)
        else:
            checked(self._wire, topic=True)
            complete(self._wire, deadline_s, create=False)
        self._complete = True

    # ---- dead letters
    def scan(self, state: State) -> Iterator[Entry]:
        """Dead letters; what waits can't be looked at without taking it."""
        if state is not State.DEAD:
            raise self._not_listed(state)
        self._check()
        return self._dead()

    def look_up(self, ids: Collection[str]) -> dict[str, Entry]:
        """Dead letters of these ids."""
        wanted = set(ids)
        self._check()
        if not wanted:
            return {}
        return {entry.id: entry for entry in self.scan(State.DEAD) if entry.id in wanted}

    def requeue(self, ids: Collection[str] | None = None, state: State = State.DEAD) -> int:
        """See contracts.engine. New messages in first, then the dead letters out."""
        if state is not State.DEAD:
            raise NotSupported(f"{self.url} can't put {state.value} params back to work")
        wire, decoder = self._check(), self._names.decoder
        wanted = None if ids is None else set(ids)
        if wanted is not None and not wanted:
            return 0
        count = 0
        back = _Back(self)
        chosen: list[tuple[Any, str]] = []

        def settle() -> None:
            wire.publish(self._names.topic, [revived(message, decoder) for message, _ in chosen])
            back.gone([ack_id for _, ack_id in chosen])
            chosen.clear()

        try:
            for some in self._pulled(self._names.dead, back):
                for each in some:
                    if wanted is None or entry_of(each.message, decoder).id in wanted:
                        chosen.append((each.message, each.ack_id))
                        count += 1
                settle()
        finally:
            back.end()
        return count

    def purge(self, state: State | None = None) -> int:
        """See contracts.engine. What is delayed can be hidden just now: it may come back."""
        if state not in (None, State.WAITING, State.DEAD):
            raise NotSupported(f"{self.url} can't drop {state.value} params alone")
        self._check()
        dropped = 0
        if state in (None, State.WAITING):
            dropped += self._drop(self._names.subscription)
        if state is None:
            dropped += self._drop(self._names.aside, lambda message: CLAIM in message.attributes)
        if state in (None, State.DEAD):
            dropped += self._drop(self._names.dead)
        return dropped

    def _drop(self, subscription: str, kept: Callable[[Any], bool] = lambda message: False) -> int:
        """Ack what can be leased there now, but for what is `kept`."""
        back = _Back(self, subscription)
        dropped = 0
        try:
            for some in self._pulled(subscription, back):
                gone = [each.ack_id for each in some if not kept(each.message)]
                back.gone(gone)
                dropped += len(gone)
        finally:
            back.end()
        return dropped

    def _dead(self) -> Iterator[Entry]:
        """Each dead letter; they are given back at the end."""
        back = _Back(self)
        try:
            for some in self._pulled(self._names.dead, back):
                for each in some:
                    yield entry_of(each.message, self._names.decoder)
        finally:
            back.end()

    def _pulled(self, subscription: str, back: _Back) -> Iterator[Sequence[Any]]:
        """All that can be leased there now, each message once."""
        wire = self._wire
        seen: set[str] = set()
        nothing = 0
        while nothing < _NOTHING_TIMES:
            received = wire.pull(subscription, PULL_MOST)
            ack_ids = [each.ack_id for each in received]
            back.add(ack_ids)
            new = [each for each in received if each.message.message_id not in seen]
            seen.update(each.message.message_id for each in new)
            nothing = 0 if new else nothing + 1
            if new:
                wire.extend(subscription, ack_ids, _READ_S)
                yield new

    # ---- the rest
    def steer(self, *, paused: bool | None = None, stop: bool = False) -> None:
        """Minions can't be told anything here."""
        self._check()
        raise NotSupported(
            f"{self.url} can't tell its minions anything: send them TERM to stop them"
        )

    def minions(self) -> Sequence[MinionInfo]:
        """The service does not know who pulls."""
        self._check()
        return []

    def stats(self) -> Stats:
        """The service's counts come minutes late and by another way: none are known here."""
        self._check()
        return Stats()

    def policies(self) -> Sequence[Policy]:
        """See contracts.engine.TellsPolicies."""
        wire = self._wire
        found: dict[Policy, None] = {}
        for place, subscription in enumerate(described(wire)):
            own = place == 0 and getattr(subscription, "name", "") == self._names.subscription
            found.update(dict.fromkeys(policies_of(subscription, self._names, own=own)))
        return list(found)

    def close(self) -> None:
        """Let go of the connection."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    @property
    def _wire(self) -> Wire:
        if self._opened is None:
            self._opened = Wire(self._names, self._options.env, _RPC_S)
        return self._opened

    def _check(self) -> Wire:
        """The wire to a queue that is there. NoSuchQueue."""
        if not self._complete:
            checked(self._wire)
            complete(self._wire, deadline_of(self._options.lease_s), create=False)
            self._complete = True
        return self._wire

    def _not_listed(self, state: State) -> NotSupported:
        return NotSupported(
            f"{self.url} can't list {state.value} params: Pub/Sub shows a message only to who "
            "takes it; minion failures lists the dead ones"
        )


class _Back:
    """Messages that are only looked at, and given back when that is over."""

    def __init__(self, queue: PubsubQueue, subscription: str | None = None) -> None:
        self._queue = queue
        self._subscription = subscription or queue._names.dead
        self._ack_ids: dict[str, None] = {}

    def add(self, ack_ids: Iterable[str]) -> None:
        """These are leased now."""
        self._ack_ids.update(dict.fromkeys(ack_ids))

    def gone(self, ack_ids: Sequence[str]) -> None:
        """These are not wanted any more."""
        self._queue._wire.ack(self._subscription, ack_ids)
        for ack_id in ack_ids:
            self._ack_ids.pop(ack_id, None)

    def end(self) -> None:
        """All others are to be had again."""
        if self._ack_ids:
            self._queue._wire.extend(self._subscription, list(self._ack_ids), 0)
            self._ack_ids.clear()

"""A person's face of a queue in Pulsar: fill it, look into it, steer it."""

from __future__ import annotations

import contextlib
import tempfile
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager

import pulsar

from minionize.contracts.engine import EngineOptions
from minionize.engines.envelope import MARK, VERSION
from minionize.engines.pulsar.connection import connect
from minionize.engines.pulsar.counting import FEEDER, Counter
from minionize.engines.pulsar.dead import DeadLetters
from minionize.engines.pulsar.orders import read_orders, to_letter
from minionize.engines.pulsar.place import TRAITS, place_of
from minionize.engines.pulsar.policies import asked_policies
from minionize.engines.pulsar.sending import LARGE, Letter, Sender, in_batches
from minionize.engines.pulsar.topics import (
    check_exists,
    exists,
    make_all,
    make_subscription,
    missing,
    short,
)
from minionize.engines.pulsar.waiting import drop_waiting
from minionize.errors import NoSuchQueue, NotSupported
from minionize.values import Entry, MinionInfo, Orders, Param, Policy, State, Stats, to_texts

_HEARD_S = 0.25
"""Within this all minions that are connected have heard of an order."""
_SEND_S = 30.0
_POLICIES_S = 60.0
"""For so long who looks again and again goes by the last answer."""
_IN_MEMORY = 1 << 20
_OURS = {MARK: VERSION}
_ROOMY = {**_OURS, "mz_room": " " * 1500}
"""What a large param is put with: a copy of it has more properties than it had, and must not be
larger than the broker takes."""


class PulsarQueue:
    """A person's face."""

    def __init__(self, address: str, options: EngineOptions) -> None:
        self._place = place_of(address)
        self.traits = TRAITS
        self.url = self._place.url
        self.inbox = f"{self._place.service} {self._place.topic}"
        self.made: list[str] = []
        self._options = options
        self._counter = Counter(self._place, options.env)
        self._client: pulsar.Client | None = None
        self._sender: Sender | None = None
        self._is_made = False
        self._policies: tuple[float, Sequence[Policy]] | None = None
        """When they were asked for last."""

    def put(self, params: Iterable[Param]) -> int:
        return self.put_texts(to_texts(params))

    def put_texts(self, texts: Iterable[str]) -> int:
        # All are seen before the first is sent: what was sent can't be taken back.
        with tempfile.SpooledTemporaryFile(_IN_MEMORY) as spool:
            count = 0
            for text in texts:
                spool.write(text.encode() + b"\n")
                count += 1
            sender = self._make()
            spool.seek(0)
            letters = (Letter(line[:-1], _OURS if len(line) < LARGE else _ROOMY) for line in spool)
            for batch in in_batches(letters):
                sender.send(self._place.topic, batch)
        return count

    @contextmanager
    def feeding(self) -> Iterator[None]:
        sender = self._make()
        # Its connection shows that we are there, for as long as we are.
        sender.close(self._place.topic)
        sender.open(self._place.topic, f"{FEEDER}{uuid.uuid4().hex[:12]}")
        try:
            yield
        finally:
            if self._sender is sender:
                sender.close(self._place.topic)

    def scan(self, state: State) -> Iterator[Entry]:
        self._existing()
        if state is not State.DEAD:
            raise NotSupported(
                f"{self.url}: Pulsar can't list {state.value} params, only dead ones: "
                "minion list --state dead"
            )
        return self._dead().entries()

    def look_up(self, ids: Collection[str]) -> dict[str, Entry]:
        """Those among the dead: no other can be found."""
        self._existing()
        wanted = set(ids)
        if not wanted:
            return {}
        return {entry.id: entry for entry in self._dead().entries() if entry.id in wanted}

    def requeue(self, ids: Collection[str] | None = None, state: State = State.DEAD) -> int:
        self._existing()
        if state is not State.DEAD:
            raise NotSupported(f"{self.url}: Pulsar keeps no {state.value} params to run again")
        if ids is None or ids:
            # A broker that deletes inactive topics may have left none to send them to.
            for topic in (self._place.topic, self._place.beside("back")):
                make_subscription(self._connected(), self._place, topic)
        return self._dead().requeue(None if ids is None else set(ids))

    def purge(self, state: State | None = None) -> int:
        self._existing()
        drops: dict[State, Callable[[], int]] = {
            State.WAITING: lambda: drop_waiting(self._connected(), self._place),
            State.DEAD: lambda: self._dead().purge(),
        }
        if state is None:
            return sum(drop() for drop in drops.values())
        if state not in drops:
            raise NotSupported(
                f"{self.url}: Pulsar can't drop {state.value} params: purge the waiting or the "
                "dead ones"
            )
        return drops[state]()

    def steer(self, *, paused: bool | None = None, stop: bool = False) -> None:
        self._existing()
        client, place = self._connected(), self._place
        assert self._sender is not None
        make_subscription(client, place, place.beside("orders"))
        found = read_orders(client, place)
        told = Orders(found.paused if paused is None else paused, found.stops + stop)
        if told != found:
            self._sender.send(place.beside("orders"), [to_letter(told)])
            time.sleep(_HEARD_S)

    def minions(self) -> Sequence[MinionInfo]:
        self._existing()
        return self._counter.minions()

    def stats(self) -> Stats:
        self._existing()
        paused = read_orders(self._connected(), self._place).paused
        return self._counter.stats()._replace(paused=paused)

    def policies(self) -> Sequence[Policy]:
        """See contracts.engine.TellsPolicies."""
        now_s = time.monotonic()
        if self._policies is None or now_s - self._policies[0] > _POLICIES_S:
            answer, lease_s = self._counter.answer, self._options.lease_s
            self._policies = now_s, asked_policies(self._place, answer, lease_s)
        return self._policies[1]

    def close(self) -> None:
        client, self._client, self._sender = self._client, None, None
        self._is_made = False
        if client is not None:
            with contextlib.suppress(pulsar.PulsarException):
                client.close()

    def _connected(self) -> pulsar.Client:
        if self._client is None:
            self._client = connect(self._place, self._options.env)
            self._sender = Sender(self._client, self._place, patience_s=_SEND_S)
        return self._client

    def _existing(self) -> None:
        """NoSuchQueue if it is missing."""
        if not self._is_made:
            check_exists(self._connected(), self._place)

    def _make(self) -> Sender:
        """Make what is missing, if we may; what to send with."""
        client = self._connected()
        assert self._sender is not None
        if not self._is_made:
            place = self._place
            if not self._options.create:
                self._check_complete()
            else:
                if not exists(client, place):
                    self.made.append(f"topic {short(place.topic)}")
                    self.made.append(f"subscription {place.subscription}")
                make_all(client, place)
            self._is_made = True
        return self._sender

    def _check_complete(self) -> None:
        """NoSuchQueue if something is missing that would have to be made."""
        lacks = self._counter.missing()
        if lacks is None:
            lacks = missing(self._connected(), self._place)
        if lacks:
            raise NoSuchQueue(
                f"no queue {self.url}, or not all of it: {', '.join(lacks)} missing: feed without "
                "--no-create, or have an administrator make them"
            )

    def _dead(self) -> DeadLetters:
        client = self._connected()
        assert self._sender is not None
        return DeadLetters(client, self._place, self._sender)

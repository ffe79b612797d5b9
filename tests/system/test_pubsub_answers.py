"""Answers of Pub/Sub that get lost or come late: no minion keeps what it does not run."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from services.processes import until
from services.proxy import Proxy
from services.pubsub import Pubsub, fresh

from minionize.contracts.engine import EngineOptions
from minionize.engines.pubsub import PubsubEngine, PubsubQueue, open_engine, open_queue
from minionize.engines.pubsub.wire import Letter
from minionize.errors import EngineUnavailable
from minionize.values import Lease, State


class Room:
    """A queue of its own, and engines that reach it by a proxy."""

    def __init__(self, server: Pubsub, proxy: Proxy, parameters: str = "") -> None:
        name = fresh("queue")
        self.proxy = proxy
        self.address = f"//tests/{name}?subscription={name}-sub{parameters}"
        self._straight = EngineOptions(env=server.env)
        self._through = {"PUBSUB_EMULATOR_HOST": f"127.0.0.1:{proxy.port}"}
        self.queue: PubsubQueue = open_queue(self.address, self._straight)
        self._engines: list[PubsubEngine] = []

    def engine(self, lease_s: float) -> PubsubEngine:
        options = EngineOptions(lease_s=lease_s, minion_id="here", env=self._through)
        engine = open_engine(self.address, options)
        self._engines.append(engine)
        return engine

    def cut_at(self, engine: PubsubEngine, procedure: str) -> None:
        """The connection is cut just before the engine calls that procedure, about something."""
        wire = engine.wire
        call: Callable[..., Any] = getattr(wire, procedure)

        def cut(name: str, about: Sequence[object], *more: Any) -> Any:
            if about:
                setattr(wire, procedure, call)
                self.proxy.cut()
            return call(name, about, *more)

        setattr(wire, procedure, cut)

    def close(self) -> None:
        self.proxy.mend()
        for engine in self._engines:
            engine.abandon()
        self.queue.close()


@pytest.fixture
def room(pubsub_server: Pubsub) -> Iterator[Room]:
    with (
        Proxy("127.0.0.1", pubsub_server.port) as proxy,
        contextlib.closing(Room(pubsub_server, proxy)) as room,
    ):
        yield room


def leases_of(engine: PubsubEngine, count: int, timeout_s: float = 180.0) -> list[Lease]:
    """So many leases; the way to the server may be broken at first."""
    leases: list[Lease] = []

    def all_came() -> bool:
        with contextlib.suppress(EngineUnavailable):
            leases.extend(engine.lease(count - len(leases), 0.2))
        return len(leases) == count

    until(all_came, lambda: f"only {leases}", timeout_s=timeout_s)
    return leases


def acked(engine: PubsubEngine, leases: list[Lease]) -> None:
    """They are, for sure."""
    engine.ack(leases)

    def told() -> bool:
        with contextlib.suppress(EngineUnavailable):
            engine.stats()
            return True
        return False

    until(told, "the server was not reached again")


def test_what_came_and_could_not_be_renewed_is_handed_out(room: Room) -> None:
    """A subscription whose deadline is another than our lease: each message is renewed before it
    is run. The service would bring it again and again, to a minion that takes it for held."""
    wire, names = room.queue._wire, room.queue._names
    wire.call("create_topic", names.topic, wire.types.Topic(name=names.topic))
    made = wire.types.Subscription(
        name=names.subscription, topic=names.topic, ack_deadline_seconds=10
    )
    wire.call("create_subscription", names.subscription, made)
    room.queue.put(range(3))
    engine = room.engine(60.0)
    room.cut_at(engine, "extend")

    with pytest.raises(EngineUnavailable, match="can't be reached"):
        for _ in range(100):
            assert not engine.lease(3, 1.0)
    room.proxy.mend()
    leases = leases_of(engine, 3, 60.0)
    assert {lease.param for lease in leases} == {0, 1, 2}
    acked(engine, leases)


def test_a_message_that_cant_be_buried_now_holds_up_no_other(pubsub_server: Pubsub) -> None:
    with (
        Proxy("127.0.0.1", pubsub_server.port) as proxy,
        contextlib.closing(Room(pubsub_server, proxy, "&decoder=json")) as room,
    ):
        room.queue.put([1])
        names = room.queue._names
        room.queue._wire.publish(names.topic, [Letter(b"no {json", {}), Letter(b"2", {})])
        engine = room.engine(60.0)
        room.cut_at(engine, "publish")
        leases: list[Lease] = []

        def all_came() -> bool:
            try:
                leases.extend(engine.lease(3 - len(leases), 0.2))
            except EngineUnavailable:
                proxy.mend()
            return len(leases) == 2

        # What came with it needs not wait until its lease is over.
        until(all_came, lambda: f"only {leases}", timeout_s=50)
        assert sorted(lease.text for lease in leases) == ["1", "2"]
        assert not [lease for lease in leases if lease.suspect]
        acked(engine, leases)


def test_a_mark_whose_answer_was_lost_charges_nobody(room: Room) -> None:
    """Its claim is there all the same, and would be taken for a run that ended in a crash."""
    room.queue.put(["long"])
    engine = room.engine(20.0)  # answers may take 5 s
    leases = leases_of(engine, 1)
    room.proxy.slow(6.0)
    with pytest.raises(EngineUnavailable, match="no answer in time"):
        engine.started(leases)
    room.proxy.mend()

    def marked() -> bool:
        try:
            engine.started(leases)
        except EngineUnavailable:
            assert not engine.extend(leases)
            return False
        return True

    until(marked, "it could not be marked")
    acked(engine, leases)
    # What nobody holds is taken for an orphan after a quarter of the lease.
    end = time.monotonic() + 10.0
    while time.monotonic() < end:
        assert not engine.lease(1, 0.2)
    assert not list(room.queue.scan(State.DEAD))

"""A Pulsar broker that refuses, by its limits: one clear line and 69, and work goes on when there
is room again."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pulsar
import pytest
from services.minions import MINION_MAIN, Minions
from services.processes import until
from services.pulsar import Broker, lacking

from minionize.contracts.engine import EngineOptions
from minionize.engines.pulsar import PulsarQueue, open_queue
from minionize.engines.pulsar.sending import Letter
from minionize.engines.registry import open_engine
from minionize.errors import BadParam, EngineUnavailable
from minionize.values import Failure, Lease, State

QUOTA = 1_000_000
"""Bytes. The broker looks each second, so a topic may grow beyond it."""
MESSAGE = 200_000
"""Bytes that a message may have."""


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker | str]:
    if reason := lacking():
        yield reason
        return
    settings = {"backlogQuotaCheckIntervalInSeconds": "1", "maxMessageSize": str(MESSAGE)}
    broker = Broker(tmp_path_factory.mktemp("limits"), settings)
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def broker(started: Broker | str, needs_server: Callable[[str], NoReturn]) -> Broker:
    if isinstance(started, str):
        needs_server(started)
    return started


class Limited(Minions):
    """A queue in a namespace of its own, whose limits a test sets."""

    def __init__(self, folder: Path, broker: Broker) -> None:
        self.space = f"public/{re.sub(r'[^a-z0-9]', '', folder.name)}"
        self.broker = broker
        broker.ask(f"namespaces/{self.space}", "PUT")
        super().__init__(folder, f"{broker.url}/{self.space}/q?admin={broker.admin}")

    def limit(self, name: str, value: object) -> None:
        self.broker.ask(f"namespaces/{self.space}/{name}", "POST", value)

    def quota(self, policy: str) -> None:
        quota = {"limitSize": QUOTA, "limitTime": -1, "policy": policy}
        self.limit("backlogQuota?backlogQuotaType=destination_storage", quota)

    def queue(self) -> contextlib.closing[PulsarQueue]:
        return contextlib.closing(open_queue(self.url, EngineOptions()))

    def command(self, *args: str) -> tuple[int, str]:
        return self.ended(self.start(MINION_MAIN, *args, "-q", self.url))


@pytest.fixture
def limited(tmp_path: Path, broker: Broker) -> Iterator[Limited]:
    limited = Limited(tmp_path, broker)
    yield limited
    limited.close()


def refusal(attempt: Callable[[], object]) -> str:
    """What it says when it is refused at last, as a broker that looks each second does."""
    said = ""

    def is_refused() -> bool:
        nonlocal said
        try:
            attempt()
        except EngineUnavailable as error:
            said = str(error)
        return bool(said)

    until(is_refused, "it is never refused", every_s=0.2)
    return said


FULL = "the topic's backlog quota is full: let minions empty it, or raise the quota"


@pytest.mark.parametrize("policy", ["producer_exception", "producer_request_hold"])
def test_a_full_topic_refuses_feeders_until_minions_made_room(
    limited: Limited, policy: str
) -> None:
    limited.quota(policy)
    with limited.queue() as queue, queue.feeding():
        said = refusal(lambda: queue.put(["x" * 10_000] * 30))
        assert FULL in said
        waits = queue.stats().waiting
    status, said = limited.command("feed", "--grid", "a=1")
    assert (status, said.count("\n"), FULL in said) == (69, 1, True), said
    minion = limited.script('echo "${#1}" >>runs', "-j", "4")
    status, said = limited.ended(minion)
    assert status == 0, said
    assert limited.ran() == {"10000": waits}

    def fed() -> bool:
        return limited.command("feed", "--grid", "a=1")[0] == 0

    until(fed, "there is room again")
    status, said = limited.ended(limited.script("true"))
    assert (status, "1 done" in said) == (0, True), said


@pytest.mark.parametrize("policy", ["producer_exception", "producer_request_hold"])
def test_a_topic_that_becomes_full_under_a_feeder(limited: Limited, policy: str) -> None:
    """It has no answer to what is on its way then."""
    limited.quota(policy)
    with limited.queue() as queue, queue.feeding():
        assert FULL in refusal(lambda: queue.put(["x" * 10_000] * 10_000))


def test_dead_letters_without_room_end_the_minion_and_can_be_purged(limited: Limited) -> None:
    limited.put(["a"])
    dead = f"persistent://{limited.space}/q-minions-dead"
    letter = Letter(b'"old"', {"mz_v": "1", "mz_room": " " * 50_000})
    with limited.queue() as queue:
        sender = queue._make()
        limited.quota("producer_exception")
        assert FULL in refusal(lambda: sender.send(dead, [letter] * 10))
        filled = queue.stats().dead
    assert filled
    options = ("--max-attempts", "1", "--lease", "8", "--reconnect", "1")
    status, said = limited.ended(limited.script("exit 3", *options))
    assert (status, FULL in said) == (69, True), said
    status, said = limited.command("purge", "--dead", "--yes")
    assert (status, f"{filled} " in said) == (0, True), said

    def done() -> bool:
        """As soon as the broker has looked again."""
        status, said = limited.ended(limited.script("exit 3", *options))
        assert status in (69, 1), said
        return status == 1

    until(done, "there is room again")
    assert [entry.text for entry in limited.dead()] == ['"a"']


@pytest.mark.parametrize(
    ("limit", "value", "says"),
    [
        ("maxConsumersPerTopic", 1, "raise maxConsumersPerTopic"),
        ("maxProducersPerTopic", 1, "raise maxProducersPerTopic"),
        ("maxTopicsPerNamespace", 2, "see its limits, maxTopicsPerNamespace for one"),
    ],
)
def test_limits_of_a_namespace_are_named(
    limited: Limited, limit: str, value: int, says: str
) -> None:
    if limit != "maxTopicsPerNamespace":
        limited.put([])
    with limited.queue() as holder:
        if limit == "maxProducersPerTopic":
            for kind in ("", "-minions-held"):
                holder._make().open(f"persistent://{limited.space}/q{kind}")
        elif limit == "maxConsumersPerTopic":
            topic = f"persistent://{limited.space}/q"
            holder._connected().subscribe(topic, "minions", pulsar.ConsumerType.Shared)
        limited.limit(limit, value)
        status, said = limited.command("feed", "--grid", "a=1")
        assert (status, said.count("\n"), says in said) == (69, 1, True), said
        if limit == "maxProducersPerTopic":
            return
        options = ("--lease", "8", "--reconnect", "1")
        status, said = limited.ended(limited.script("true", *options))
        assert status == 69, said
        assert says in said.splitlines()[-1]
        assert len(said.splitlines()) <= 2, said


def test_what_can_only_be_half_settled_is_put_once(limited: Limited) -> None:
    """A new message is put, and the old one can't be acked: tried again, only that is done."""
    limited.put(["back", "dead", "done"])
    limit, held = "maxConsumersPerTopic", f"persistent://{limited.space}/q-minions-held"
    with (
        limited.queue() as queue,
        contextlib.closing(open_engine(limited.url, EngineOptions(lease_s=60.0))) as engine,
    ):
        leases: list[Lease] = []
        while len(leases) < 3:
            leases += engine.lease(3 - len(leases), 1.0)
        back, dead, done = sorted(leases, key=lambda lease: lease.text)
        engine.started([done])
        limited.limit(limit, 1)
        client = queue._connected()

        def reaches_one_more() -> bool:
            with contextlib.suppress(pulsar.ConsumerBusy):
                client.subscribe(held, "minions", pulsar.ConsumerType.Shared).close()
                return True
            return False

        def settle() -> None:
            engine.nack([back])
            engine.bury([dead], Failure("exit 1"))
            engine.ack([done])

        until(lambda: not reaches_one_more(), "the limit comes into force")
        attempts: list[Callable[[], object]] = [
            lambda: engine.nack([back]),
            lambda: engine.bury([dead], Failure("exit 1")),
            lambda: engine.ack([done]),
        ]
        for attempt in attempts:
            for _ in range(3):
                with pytest.raises(EngineUnavailable, match=limit):
                    attempt()
        limited.limit(limit, 0)
        until(reaches_one_more, "the limit is lifted")
        settle()
        settle()  # and once more changes nothing

        def counted() -> tuple[int | None, ...]:
            stats = queue.stats()
            return (stats.waiting, stats.delayed, stats.running, stats.dead)

        until(lambda: counted() == (1, 0, 0, 1), lambda: f"{counted()}", timeout_s=60)


def test_a_param_as_large_as_a_message_can_fail_and_come_back(limited: Limited) -> None:
    """Its copies have more beside it: the count of attempts, what the program said."""
    with limited.queue() as queue:
        largest = MESSAGE
        while True:
            try:
                queue.put(["x" * largest])
                break
            except BadParam as error:
                assert "maxMessageSize" in str(error)
                largest -= 200
        assert largest > MESSAGE - 2500
        tail = "head -c 30000 /dev/zero | tr '\\0' y >&2"
        script = f"wc -c >>runs; {tail}; test -e mended"
        minion = limited.script(script, "--stdin", "--max-attempts", "2")
        status, said = limited.ended(minion)
        assert status == 1, said[-2000:]
        (entry,) = queue.scan(State.DEAD)
        assert len(entry.text) == largest + 2
        assert entry.failure is not None
        assert entry.failure.reason == "exit 1"
        assert queue.requeue() == 1
        (limited.folder / "mended").touch()
        status, said = limited.ended(limited.script(script, "--stdin"))
        assert status == 0, said[-2000:]
        assert len(limited.ran()) == 1
        assert limited.ran().total() == 3

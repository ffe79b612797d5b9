"""`minion cp` from and to real brokers: what arrives, what stays, and what a kill leaves."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pulsar
import pytest
import redis
from services.command_line import copied
from services.minions import ROOT
from services.processes import until
from services.pubsub import Pubsub, fresh
from services.pulsar import Shared
from services.redis import RedisServer, lacking

from minionize.contracts.engine import EngineOptions
from minionize.engines.pubsub import PubsubQueue
from minionize.engines.pubsub.wire import Letter
from minionize.engines.registry import open_engine, open_queue
from minionize.errors import EngineUnavailable, UsageError
from minionize.values import Failure, Param, State

PARAMS: list[Param] = [
    "", "é\n\t\u2028\0", "\U0001f600", "x" * 100_000, "null", 0, -1, 2**70, 1.5, 1e300, True, False,
    None, [], {}, [[[]]], {"": {"a b": [1, {"é": None}]}}, *({"x": n} for n in range(1500)),
]  # fmt: skip
IDLE_S = "3"
"""How long nothing comes from a broker that can't count before it is taken for empty."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINION_IDLE", IDLE_S)
    return tmp_path


@pytest.fixture
def in_pulsar(pulsar_broker: Shared, tmp_path: Path) -> str:
    topic = re.sub(r"\W", "-", str(tmp_path))
    return f"{pulsar_broker.url}/public/default/{topic}?admin={pulsar_broker.admin}"


@pytest.fixture
def in_pubsub(pubsub_server: Pubsub, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in pubsub_server.env.items():
        monkeypatch.setenv(name, value)
    name = fresh("cp")
    return f"pubsub://tests/{name}?subscription={name}-sub"


@pytest.fixture
def in_redis(tmp_path: Path, needs_server: Callable[[str], NoReturn]) -> Iterator[str]:
    kind = "redis7" if not lacking("redis7") else "valkey"
    if why := lacking(kind):
        needs_server(why)
    with RedisServer(tmp_path / "redis", kind) as server:
        yield server.url("cp")


@pytest.fixture
def queues(in_pulsar: str, in_pubsub: str, in_redis: str) -> dict[str, str]:
    """A URL of each kind; none is made yet."""
    return {"file": "here", "pulsar": in_pulsar, "pubsub": in_pubsub, "redis": in_redis}


def options() -> EngineOptions:
    return EngineOptions(minion_id=fresh("test"), env=os.environ)


def put(url: str, params: list[Param]) -> None:
    with contextlib.closing(open_queue(url, options())) as queue:
        queue.put(params)


def texts(params: list[Param]) -> Counter[str]:
    return Counter(json.dumps(param, sort_keys=True) for param in params)


def taken(url: str, count: int) -> Counter[str]:
    """The params of a queue, as texts that compare, taken out of it: once `count` came, all that
    comes beside."""
    found: Counter[str] = Counter()
    with contextlib.closing(open_engine(url, options())) as engine:

        def more(wait_s: float) -> bool:
            leases = engine.lease(1000, wait_s)
            found.update(texts([lease.param for lease in leases]))
            engine.ack(leases)
            return bool(leases)

        until(lambda: found.total() >= count or (more(0.2) and False),
              lambda: f"{found.total()} of {count}")  # fmt: skip
        while more(1.0):
            pass
    return found


def dead(url: str) -> Counter[str]:
    with contextlib.closing(open_queue(url, options())) as queue:
        return texts([entry.param for entry in queue.scan(State.DEAD)])


@pytest.mark.parametrize(
    ("source", "target"),
    [("file", "pulsar"), ("pulsar", "file"), ("redis", "pubsub"), ("pubsub", "file"),
     ("pulsar", "pubsub")],
)  # fmt: skip
def test_all_that_waits_arrives_as_it_was(queues: dict[str, str], source: str, target: str) -> None:
    from_, to = queues[source], queues[target]
    put(from_, PARAMS)
    if source in ("pulsar", "pubsub"):
        with pytest.raises(UsageError, match=r"can't list (its )?waiting params.*--move takes out"):
            copied(from_, to)
        with pytest.raises(UsageError, match="no queue"):
            open_engine(to, options())
        said = copied("--move", from_, to)
        assert f"{len(PARAMS):,} params moved: " in said
        assert "held by minions" not in said
        assert not taken(from_, 0)
    else:
        said = copied(from_, to)
        assert f"{len(PARAMS):,} params copied: " in said
        assert taken(from_, len(PARAMS)) == texts(PARAMS), "the source has them still"
    assert ("minion cp: made topic " in said) == (target != "file")
    assert taken(to, len(PARAMS)) == texts(PARAMS)


@pytest.mark.parametrize("kind", ["pulsar", "pubsub"])
def test_two_subscriptions_of_one_topic_are_not_moved_into_each_other(
    queues: dict[str, str], kind: str
) -> None:
    """What is put into a topic comes to both: it would go round for ever."""
    one = queues[kind].partition("?")[0]
    put(f"{one}?subscription=one", ["a"])
    for other in (f"{one}?subscription=other", f"{one}?subscription=one&decoder=json"):
        with pytest.raises(UsageError, match="name two queues that have no topic in common"):
            copied("--move", f"{one}?subscription=one", other)


def publish(url: str, bodies: list[bytes]) -> None:
    """As somebody else's plain client does. The queue is there."""
    if url.startswith("redis:"):
        with contextlib.closing(redis.Redis.from_url(url.partition("?")[0])) as server:
            for body in bodies:
                server.xadd("cp", {"theirs": body})
    elif url.startswith("pulsar:"):
        service, _, path = url.partition("/public/default/")
        quiet = pulsar.FileLogger(pulsar.LoggerLevel.Error, "/dev/null")
        with contextlib.closing(pulsar.Client(service, logger=quiet)) as client:
            producer = client.create_producer(path.partition("?")[0])
            for body in bodies:
                producer.send(body)
    else:
        with contextlib.closing(open_queue(url, options())) as queue:
            assert isinstance(queue, PubsubQueue)
            queue._wire.publish(queue._names.topic, [Letter(body, {}) for body in bodies])


@pytest.mark.parametrize(
    ("source", "target"), [("pulsar", "pubsub"), ("pubsub", "file"), ("redis", "pulsar")]
)
def test_messages_of_others_are_read_as_the_source_says(
    queues: dict[str, str], source: str, target: str
) -> None:
    """What can't be read stays behind, as a dead letter; the queue it goes to has a decoder of
    its own, and does not use it: what is moved is a param by now."""
    from_ = queues[source] + "&decoder=json"
    put(from_, ["ours"])
    publish(from_, [b'{"n": 1}', b"no json", b"\xff", b"[]"])
    assert "3 params moved: " in copied("--move", from_, queues[target])
    assert taken(queues[target], 3) == texts(["ours", {"n": 1}, []])
    assert dead(from_) == texts(["no json", "\\xff"])


@pytest.mark.parametrize("source", ["pulsar", "pubsub"])
def test_dead_letters_are_copied_and_stay(queues: dict[str, str], source: str) -> None:
    from_ = queues[source]
    put(from_, ["a", "b", "c"])
    with contextlib.closing(open_engine(from_, options())) as engine:
        for _ in range(3):
            leases = until(lambda: engine.lease(1, 0.2))
            engine.bury(leases, Failure("exit 3"))
    assert "3 params copied: " in copied("--state", "dead", from_, queues["file"])
    assert taken(queues["file"], 3) == dead(from_) == texts(["a", "b", "c"])


# ---- killed half-way

KILLED = """
import os, signal, sys
from minionize.engines import registry

at, call = sys.argv.pop(1), int(sys.argv.pop(1))

def deadly(thing, name, when):
    inner, calls = getattr(thing, name), []
    def deadly_call(some):
        some = list(some)
        if some:
            calls.append(1)
        if at == f"before {name}" and len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = inner(some)
        if at == f"after {name}" and len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer
    setattr(thing, name, deadly_call)
    return thing

engine, queue = registry.open_engine, registry.open_queue
registry.open_engine = lambda *args: deadly(engine(*args), "ack", at)
registry.open_queue = lambda *args: deadly(queue(*args), "put_texts", at)
from minionize.cli.minion import main
main()
"""
MANY: list[Param] = [{"x": n} for n in range(3500)]


LEASE_S = "3"


def killed(at: str, *args: str, call: int = 2) -> None:
    """`minion cp ARGS`, killed with -9 at its second batch."""
    env = {**os.environ, "PYTHONPATH": ROOT, "MINION_LEASE": LEASE_S}
    ran = subprocess.run(
        [sys.executable, "-c", KILLED, at, str(call), "cp", *args], env=env, timeout=180,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == -signal.SIGKILL, ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("source", "target", "at"),
    [("pulsar", "file", "before put_texts"), ("pulsar", "file", "after put_texts"),
     ("pubsub", "file", "after ack"), ("redis", "pubsub", "after put_texts"),
     ("file", "pulsar", "after put_texts")],
)  # fmt: skip
def test_a_move_that_is_killed_loses_nothing(
    queues: dict[str, str], source: str, target: str, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The promise of docs/brokers.md: what was not put is in the source still, once the leases
    are over, and what is in both is no more than was under way."""
    from_, to = queues[source], queues[target]
    put(from_, MANY)
    killed(at, "--move", from_, to)
    monkeypatch.setenv("MINION_LEASE", LEASE_S)
    monkeypatch.setenv("MINION_IDLE", "8")

    interrupted = [at]

    def moved() -> bool:
        try:
            said = copied("--move", from_, to)
        except EngineUnavailable as error:  # a busy broker; it takes no more than a kill does
            interrupted.append(str(error))
            return False
        # What the killed one held is nobody's until its leases are over, and that is said.
        return "held by minions" not in said

    until(moved, "what was held never came back", every_s=0.5)
    found = taken(to, len(MANY))
    assert set(found) == set(texts(MANY))
    # Acks travel 0.1 s late in Pulsar: those of the batch before may be lost with it.
    twice = len(interrupted) * (2000 if source == "pulsar" else 1000)
    assert found.total() <= len(MANY) + twice, interrupted
    assert not taken(from_, 0)


@pytest.mark.parametrize(("source", "target"), [("file", "pulsar"), ("redis", "pubsub")])
def test_a_copy_that_is_killed_takes_nothing_from_the_source(
    queues: dict[str, str], source: str, target: str
) -> None:
    from_, to = queues[source], queues[target]
    put(from_, MANY)
    killed("after put_texts", from_, to, call=1)
    assert taken(from_, len(MANY)) == texts(MANY)
    assert taken(to, len(MANY)) == texts(MANY)

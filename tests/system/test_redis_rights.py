"""The least rights that docs/redis.md gives to each role suffice, and none of them can be left out;
TLS with an own CA and client certificates."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from services.authority import Authority
from services.processes import free_port
from services.redis import RedisServer, lacking

from minionize.contracts.engine import EngineOptions
from minionize.engines.redis import open_engine, open_queue
from minionize.engines.redis.feeding import Feeder
from minionize.engines.redis.minion import RedisEngine
from minionize.engines.redis.people import RedisQueue
from minionize.errors import EngineUnavailable, MinionizeError
from minionize.values import Failure, State

PAGE = Path(__file__).parents[2] / "docs" / "redis.md"


def documented() -> dict[str, list[str]]:
    """The rules of each role, as the page has them."""
    rules: dict[str, list[str]] = {}
    for role, text in re.findall(r"ACL SETUSER (\w+) on >\S+ ((?:.*\\\n)*.*)", PAGE.read_text()):
        rules[role] = text.replace("\\\n", " ").split()
    return rules


ROLES = documented()


def commands(role: str) -> list[str]:
    return [rule for rule in ROLES[role] if rule.startswith("+")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    kind = "redis7" if not lacking("redis7") else "valkey"
    if why := lacking(kind):
        pytest.skip(f"needs a server: {why}")
    with RedisServer(tmp_path_factory.mktemp("rights"), kind) as server:
        yield server


class Rights:
    """A stream `NAME` as the page calls it, and users."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.admin: Any = server.client()
        self.admin.flushall()
        self.admin.script_flush()
        self.opened: list[RedisEngine | RedisQueue] = []

    def grant(self, role: str, without: str = "") -> None:
        rules = [rule for rule in ROLES[role] if rule != without]
        self.admin.execute_command("ACL", "SETUSER", role, "reset")
        self.admin.execute_command("ACL", "SETUSER", role, "on", ">word", *rules)

    def env(self, role: str) -> dict[str, str]:
        return {"REDIS_USER": role, "REDIS_PASSWORD": "word"} if role else {}

    def queue(self, role: str = "") -> RedisQueue:
        options = EngineOptions(minion_id="person", env=self.env(role))
        queue = open_queue(self.server.url("NAME"), options)
        self.opened.append(queue)
        return queue

    def engine(self, role: str = "", lease_s: float = 60.0) -> RedisEngine:
        name = f"minion-{len(self.opened)}"
        options = EngineOptions(minion_id=name, lease_s=lease_s, env=self.env(role))
        engine = open_engine(self.server.url("NAME"), options)
        self.opened.append(engine)
        return engine

    def close(self) -> None:
        for each in self.opened:
            each.abandon()
        self.admin.close()

    def lag(self) -> int | None:
        (group,) = self.admin.xinfo_groups("NAME")
        lag: int | None = group["lag"]
        return lag

    def sees_policies(self, queue: RedisQueue) -> None:
        assert not queue.policies()
        self.admin.expire("{NAME}:meta", 100)
        assert [policy.setting for policy in queue.policies()] == ["EXPIRE {NAME}:meta"]

    # ---- what each role does

    def feeder(self) -> None:
        queue = self.queue("feeder")
        with queue.feeding():
            queue.put([1, 2])
            queue.put(range(2500))
            with pytest.raises(ZeroDivisionError):
                queue.put(1 / (2600 - n) for n in range(3000))
            assert not self.admin.keys("{NAME}:feed:*")
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Feeder, "_unload", lambda self: None)
                queue.put(range(2500))
                queue.put(range(2500))
        assert queue.stats().put == 7502
        self.sees_policies(queue)

    def minion(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Feeder, "_unload", lambda self: None)
            self.queue().put(["x"] * 2500)
        engine = self.engine("minion", lease_s=0.3)
        assert not engine.policies()
        leases = list(engine.lease(20, 0.1))
        engine.nack([leases.pop()])
        assert self.lag() is not None
        engine.started(leases[:2])
        engine.ack(leases[:5])
        engine.nack(leases[5:7])
        engine.nack(leases[7:9], delay_s=0.01)
        engine.bury(leases[9:10], Failure("no"))
        engine.abandon()
        self.admin.xadd("NAME", {"of": "others"})
        engine = self.engine("minion", lease_s=2.0)
        left = 2495
        until_s = time.monotonic() + 20.0
        while left:
            assert time.monotonic() < until_s
            some = engine.lease(1000, 0.05)
            engine.ack(some)
            left -= len(some)
        self.admin.xgroup_createconsumer("NAME", "minions", "somebody")
        self.admin.hdel("{NAME}:meta", "swept")
        engine.extend([])
        self.admin.hincrby("{NAME}:meta", "put", 1)
        assert engine.stats().drained
        assert engine.stats().dead == 2, "the letter about what was lost"
        assert engine.idle_before(1) == 0
        assert engine._wire.run("lost", engine._consumer, "1-0")
        engine.close()

    def watcher(self) -> None:
        queue = self.queue()
        queue.put(range(10))
        engine = self.engine()
        leases = engine.lease(4, 0.1)
        engine.nack(leases[:1], delay_s=60.0)
        engine.bury(leases[1:2], Failure("no"))
        engine.nack(leases[2:3])
        engine.extend(leases[3:])
        looks = self.queue("watcher")
        stats = looks.stats()
        assert (stats.waiting, stats.delayed, stats.running, stats.dead) == (7, 1, 1, 1)
        for state, count in zip(
            (State.WAITING, State.DELAYED, State.RUNNING, State.DEAD), (7, 1, 1, 1), strict=True
        ):
            assert len(list(looks.scan(state))) == count
        ids = [lease.id for lease in leases]
        assert set(looks.look_up(ids)) == set(ids)
        assert [each.id for each in looks.minions()] == ["minion-1"]
        self.sees_policies(looks)

    def keeper(self) -> None:
        self.queue().put(range(10))
        engine = self.engine()
        leases = engine.lease(5, 0.1)
        engine.nack(leases[:1], delay_s=0.001)
        engine.nack(leases[1:2], delay_s=60.0)
        engine.bury(leases[2:4], Failure("no"))
        queue = self.queue("keeper")
        ids = [lease.id for lease in leases]
        assert set(queue.look_up(ids)) == set(ids)
        engine.ack(leases[4:])
        engine.extend([])
        assert len(queue.minions()) == 1
        queue.steer(paused=True)
        queue.steer(paused=False, stop=True)
        assert queue.requeue([leases[2].id]) == 1
        assert queue.requeue() == 1
        assert len(list(queue.scan(State.WAITING))) in (7, 8)
        foreign = self.queue()
        foreign.put(range(2500))
        self.admin.xadd("NAME", {"of": "others"})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Feeder, "_unload", lambda self: None)
            foreign.put(range(2500))
        assert queue.purge() == 9 + 5001
        assert queue.stats().drained
        foreign.put(range(3))
        held = engine.lease(1, 0.1)
        assert queue.purge() == 2
        foreign.put(range(4))
        assert self.lag() == 4
        engine.ack(held)


@pytest.fixture
def rights(server: RedisServer) -> Iterator[Rights]:
    rights = Rights(server)
    yield rights
    rights.close()


@pytest.mark.parametrize("role", ["feeder", "minion", "watcher", "keeper"])
def test_the_rights_of_a_role_suffice(rights: Rights, role: str) -> None:
    rights.grant(role)
    getattr(rights, role)()


@pytest.mark.parametrize(
    ("role", "without"), [(role, rule) for role in ROLES for rule in commands(role)]
)
def test_none_can_be_left_out(rights: Rights, role: str, without: str) -> None:
    rights.grant(role, without)
    try:
        getattr(rights, role)()
    except MinionizeError as error:
        assert "this user may not do that" in str(error)
        assert error.exit_status == 69
    except AssertionError:
        pass  # what it could not read it did not count
    else:
        pytest.fail(f"{role} does not need {without}")


def test_other_keys_are_out_of_reach(rights: Rights) -> None:
    for role in ROLES:
        rights.grant(role)
        options = EngineOptions(env=rights.env(role))
        queue = open_queue(rights.server.url("OTHER"), options)
        with pytest.raises(MinionizeError, match="this user may not do that"):
            queue.stats()
        queue.close()


# ---- TLS


def test_tls_with_an_own_ca_and_client_certificates(
    tmp_path: Path, needs_server: Callable[[str], NoReturn]
) -> None:
    if why := lacking("redis7"):
        needs_server(why)
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server")
    mine, my_key = authority.issue("minion")
    port = free_port()
    server = RedisServer(
        tmp_path / "server", "redis7", "--tls-port", str(port), "--tls-cert-file", str(certificate),
        "--tls-key-file", str(key), "--tls-ca-cert-file", str(authority.ca[0]),
        "--tls-auth-clients", "yes",
    )  # fmt: skip
    server.port = 0
    with server:
        url = f"rediss://127.0.0.1:{port}/0?stream=q"
        env = {
            "REDIS_CA_FILE": str(authority.ca[0]),
            "REDIS_CERT_FILE": str(mine),
            "REDIS_KEY_FILE": str(my_key),
        }
        queue = open_queue(url, EngineOptions(env=env))
        queue.put(range(3000))
        engine = open_engine(url, EngineOptions(minion_id="m", env=env))
        leases = engine.lease(3000, 1.0)
        assert len(leases) == 3000
        engine.ack(leases)
        assert engine.stats().drained
        engine.close()
        queue.close()
        for lacks in ("REDIS_CA_FILE", "REDIS_CERT_FILE"):
            less = {name: path for name, path in env.items() if name != lacks}
            if lacks == "REDIS_CERT_FILE":
                del less["REDIS_KEY_FILE"]
            queue = open_queue(url, EngineOptions(env=less))
            with pytest.raises(EngineUnavailable, match=r"TLS failed .*see REDIS_CA_FILE"):
                queue.stats()
            queue.close()
        plain = open_queue(url.replace("rediss", "redis"), EngineOptions(env=env))
        with pytest.raises(EngineUnavailable):
            plain.stats()
        plain.close()

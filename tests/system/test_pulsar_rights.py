"""The least rights that docs/pulsar.md gives to each role suffice, and none of them can be left
out; client certificates."""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from services.authority import Authority
from services.minions import MAIN, MINION_MAIN, Minions
from services.processes import free_ports, until
from services.pulsar import Broker, jwt, lacking

from minionize.contracts.engine import EngineOptions
from minionize.engines.pulsar import PulsarEngine, PulsarQueue, open_engine, open_queue
from minionize.engines.pulsar.sending import Letter
from minionize.errors import QueueRefused
from minionize.values import Failure, Lease, State

PAGE = Path(__file__).parents[2] / "docs" / "pulsar.md"
KINDS = ("", "held", "back", "dead", "orders")
Rights = dict[str, tuple[str, ...]]


def documented() -> dict[str, Rights]:
    """Role → topic (as it is called beside the queue's own, which is empty) → permissions."""
    head, *rows = re.findall(r"^\| (role|\w+er|minion) \| (.*) \|$", PAGE.read_text(), re.M)
    topics = [name.strip("`…-").replace("TOPIC", "") for name in head[1].split(" | ")]
    assert topics == [*KINDS]
    return {
        role: {
            topic: tuple(re.findall(r"produce|consume", cell))
            for topic, cell in zip(topics, re.split(r" ?\| ?", cells), strict=True)
        }
        for role, cells in rows
    }


ROLES = documented()
NO = Failure("exit 3")


def path_of(topic: str, kind: str) -> str:
    """Where the admin API has it."""
    return f"persistent/public/default/{topic}{kind and f'-minions-{kind}'}"


class Guarded:
    """A broker that asks who comes, by token at one port, by certificate too at another."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.key = os.urandom(32)
        (folder / "key").write_bytes(self.key)
        certificate, key = self.authority.issue("broker")
        admin = jwt(self.key, "admin")
        self.tls_port, web_port = free_ports(2)
        provider = "org.apache.pulsar.broker.authentication.AuthenticationProvider"
        self.broker = Broker(folder / "broker", token=admin, settings={
            "authenticationEnabled": "true",
            "authorizationEnabled": "true",
            "superUserRoles": "admin",
            "authenticationProviders": f"{provider}Token,{provider}Tls",
            "tokenSecretKey": f"file://{folder}/key",
            "brokerClientAuthenticationPlugin":
                "org.apache.pulsar.client.impl.auth.AuthenticationToken",
            "brokerClientAuthenticationParameters": f"token:{admin}",
            "brokerServicePortTls": str(self.tls_port),
            "webServicePortTls": str(web_port),
            "tlsCertificateFilePath": str(certificate),
            "tlsKeyFilePath": str(key),
            "tlsTrustCertsFilePath": str(self.authority.ca[0]),
            "tlsRequireTrustedClientCertOnConnect": "true",
        })  # fmt: skip
        self.tls_admin = f"https://127.0.0.1:{web_port}"
        self.broker.start()

    def make(self, topic: str) -> None:
        """As an administrator does: permissions are of topics that are there."""
        for kind in KINDS:
            self.broker.ask(path_of(topic, kind), "PUT")

    def grant(self, topic: str, role: str, rights: Rights) -> None:
        for kind, actions in rights.items():
            if actions:
                path = f"{path_of(topic, kind)}/permissions/{role}"
                self.broker.ask(path, "POST", list(actions))


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded | str]:
    if reason := lacking():
        yield reason
        return
    guarded = Guarded(tmp_path_factory.mktemp("guarded"))
    yield guarded
    guarded.broker.stop()


@pytest.fixture
def guarded(started: Guarded | str, needs_server: Callable[[str], NoReturn]) -> Guarded:
    if isinstance(started, str):
        needs_server(started)
    return started


class Acting:
    """A queue of its own, and what each role does with it."""

    def __init__(self, guarded: Guarded) -> None:
        self.guarded = guarded
        self.topic = f"rights-{uuid.uuid4().hex}"
        broker = guarded.broker
        self.url = f"{broker.url}/public/default/{self.topic}?admin={broker.admin}"
        self.opened: list[PulsarEngine | PulsarQueue] = []
        guarded.make(self.topic)

    def options(self, role: str) -> EngineOptions:
        token = jwt(self.guarded.key, f"{role}-{self.topic}" if role else "admin")
        return EngineOptions(
            minion_id=f"m{len(self.opened)}", lease_s=20.0, env={"PULSAR_TOKEN": token}
        )

    def queue(self, role: str = "") -> PulsarQueue:
        queue = open_queue(self.url, self.options(role))
        self.opened.append(queue)
        return queue

    def engine(self, role: str = "") -> PulsarEngine:
        engine = open_engine(self.url, self.options(role))
        self.opened.append(engine)
        return engine

    def grant(self, role: str, rights: Rights) -> None:
        self.guarded.grant(self.topic, f"{role}-{self.topic}", rights)

    def close(self) -> None:
        for each in reversed(self.opened):
            with contextlib.suppress(QueueRefused):  # to give back takes a right, too
                each.close()

    def some(self, engine: PulsarEngine, count: int) -> list[Lease]:
        leases: list[Lease] = []

        def all_came() -> bool:
            leases.extend(engine.lease(count - len(leases), 0.5))
            return len(leases) == count

        until(all_came, lambda: f"only {leases}")
        return leases

    # ---- what each role does

    def feeder(self) -> None:
        queue = self.queue("feeder")
        with queue.feeding():
            assert queue.put([1, 2]) == 2
            assert queue.put(range(2500)) == 2500

    def minion(self) -> None:
        self.queue().put(range(6))
        engine = self.engine("minion")
        leases = self.some(engine, 6)
        engine.started(leases[:1])
        engine.nack(leases[1:2])
        engine.nack(leases[2:3], delay_s=0.1, charge=False, later=True)
        engine.bury(leases[3:4], NO)
        assert not engine.extend([leases[0], *leases[4:]])
        engine.ack(leases[:1])
        engine.ack(leases[4:])
        engine.ack(self.some(engine, 2))
        until(lambda: engine.stats().drained, engine.stats)
        assert engine.stats().dead == 1

    def watcher(self) -> None:
        queue = self.queue()
        queue.put(range(5))
        engine = self.engine()
        leases = self.some(engine, 2)
        engine.bury(leases[:1], NO)
        engine.nack(leases[1:], delay_s=300)
        queue.steer(paused=True)
        looks = self.queue("watcher")
        until(lambda: looks.stats().waiting == 4 - 1 and looks.stats().delayed == 1,
              looks.stats, timeout_s=5)  # fmt: skip
        assert (looks.stats().dead, looks.stats().paused) == (1, True)
        assert [entry.id for entry in looks.scan(State.DEAD)] == [leases[0].id]
        assert set(looks.look_up([leases[0].id])) == {leases[0].id}
        assert [each.id for each in looks.minions()] == ["m1"]

    def keeper(self) -> None:
        admin = self.queue()
        admin.put(range(6))
        engine = self.engine()
        leases = self.some(engine, 3)
        engine.bury(leases[:2], NO)
        engine.nack(leases[2:], charge=False)
        # What is no param is retried as it came, in the queue's own topic.
        admin._make().send(f"persistent://public/default/{self.topic}", [Letter(b"\xff", {})])

        def is_buried() -> bool:
            engine.nack(engine.lease(10, 0.2), charge=False)
            return admin.stats().dead == 3

        until(is_buried, admin.stats)
        engine.close()
        queue = self.queue("keeper")
        queue.stats()
        queue.steer(paused=True)
        queue.steer(paused=False, stop=True)
        (raw,) = (entry.id for entry in queue.scan(State.DEAD) if entry.failure != NO)
        assert queue.requeue([leases[0].id, raw]) == 2
        assert queue.purge(State.DEAD) == 1
        assert queue.purge(State.WAITING) == 6
        until(lambda: queue.stats().drained, queue.stats, timeout_s=5)


@pytest.fixture
def acting(guarded: Guarded) -> Iterator[Acting]:
    acting = Acting(guarded)
    yield acting
    acting.close()


@pytest.mark.parametrize("role", ROLES)
def test_the_rights_of_a_role_suffice(acting: Acting, role: str) -> None:
    acting.grant(role, ROLES[role])
    getattr(acting, role)()


EACH = [
    (role, kind, action)
    for role, rights in ROLES.items()
    for kind, actions in rights.items()
    for action in actions
]


@pytest.mark.parametrize(("role", "kind", "action"), EACH)
def test_none_can_be_left_out(acting: Acting, role: str, kind: str, action: str) -> None:
    rights = dict(ROLES[role])
    rights[kind] = tuple(each for each in rights[kind] if each != action)
    acting.grant(role, rights)
    with pytest.raises(QueueRefused) as caught:
        getattr(acting, role)()
    said = str(caught.value)
    assert "refuse" in said and "\n" not in said
    assert caught.value.exit_status == 69


# ---- client certificates


def test_a_clients_certificate_is_its_role(
    guarded: Guarded, tmp_path: Path, acting: Acting
) -> None:
    """Commands, over TLS both ways, each with the certificate of its role."""
    url = f"pulsar+ssl://127.0.0.1:{guarded.tls_port}/public/default/{acting.topic}"
    url += f"?admin={guarded.tls_admin}"
    trust = {"PULSAR_TLS_CA": str(guarded.authority.ca[0])}

    def shown(name: str, authority: Authority = guarded.authority) -> dict[str, str]:
        certificate, key = authority.issue(f"{name}-{acting.topic}")
        return {**trust, "PULSAR_TLS_CERT": str(certificate), "PULSAR_TLS_KEY": str(key)}

    for role in ("feeder", "minion", "watcher"):
        acting.grant(role, ROLES[role])
    minions = Minions(tmp_path, url)

    def ran(main: str, *args: str, env: dict[str, str]) -> tuple[int, str]:
        return minions.ended(minions.start(main, *args, **env))

    feed = ("feed", "-q", url, "--grid", "x=1:4")
    # With a short lease it has less patience.
    options = ("-q", url, "--lease", "8", "--reconnect", "1", "--max-attempts", "1")
    once = (*options, "test", "{x}", "!=", "2")
    try:
        status, said = ran(MINION_MAIN, *feed, env=shown("feeder"))
        assert status == 0, said
        assert said.endswith(f"3 params put: {url}\n"), "what waits it may not know"
        status, said = ran(MAIN, *once, env=shown("minion"))
        assert (status, "2 done, 1 dead" in said) == (1, True), said
        status, said = ran(MINION_MAIN, "status", "-q", url, env=shown("watcher"))
        assert (status, "waiting 0" in said, "dead 1" in said) == (0, True, True), said
        # A token goes before the certificate, which the broker wants to see nevertheless.
        token = jwt(guarded.key, f"watcher-{acting.topic}")
        env = {**shown("stranger"), "PULSAR_TOKEN": token}
        status, said = ran(MINION_MAIN, "failures", "-q", url, env=env)
        assert (status, "exit 1: 1 dead" in said) == (0, True), said

        (tmp_path / "other").mkdir()
        for wrong, why in (
            (shown("stranger"), "the broker refuses it"),
            (trust, "PULSAR_TLS_CERT"),
            (shown("minion", Authority(tmp_path / "other")), "PULSAR_TLS_CERT"),
            ({**shown("minion"), "PULSAR_TLS_CA": ""}, "PULSAR_TLS_CA"),
        ):
            status, said = ran(MAIN, *once, env=wrong)
            assert status == 69, said
            assert why in said.splitlines()[-1], said
            assert len(said.splitlines()) <= 2, "that it tries again, and that it gave up"
        status, said = ran(MINION_MAIN, *feed, env=shown("stranger"))
        assert (status, said.count("\n"), "refuses it" in said) == (69, 1, True), said
        half = {**shown("minion"), "PULSAR_TLS_KEY": ""}
        status, said = ran(MAIN, *once, env=half)
        assert (status, "belong together: set both" in said) == (2, True), said
    finally:
        minions.close()

"""The least rights that docs/pubsub.md gives to each role suffice, and none of them can be left
out; credentials of each kind are used. Google isn't here: services.gateway stands for it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from services.authority import Authority
from services.gateway import EVERYTHING, Gateway, Rights, Tokens
from services.minions import MINION_MAIN, Minions
from services.processes import until
from services.pubsub import Pubsub, fresh

from minionize.contracts.engine import EngineOptions
from minionize.engines.pubsub import PubsubEngine, PubsubQueue, open_engine, open_queue
from minionize.engines.pubsub.wire import Letter
from minionize.errors import QueueRefused
from minionize.values import Failure, Lease, State

PAGE = Path(__file__).parents[2] / "docs" / "pubsub.md"
NO = Failure("exit 3")
Granted = dict[str, tuple[str, ...]]
"""Role of Google's → what it is given on, with TOPIC and NAME for the queue's own."""


def documented() -> dict[str, Granted]:
    """Role of ours → what it has."""
    found: dict[str, Granted] = {}
    for role, *cells in re.findall(
        r"^\| (\w+er|minion) \| (.*?) ?\| (.*?) ?\| (.*?) ?\|$", PAGE.read_text(), re.M
    ):
        topics, subscriptions, project = (re.findall(r"`([\w/.-]+)`", cell) for cell in cells)
        found[role] = {
            "roles/pubsub.publisher": tuple(f"topics/{name}" for name in topics),
            "roles/pubsub.subscriber": tuple(f"subscriptions/{name}" for name in subscriptions),
            **dict.fromkeys(project, ("*",)),
        }
    return found


ROLES = documented()


class Acting:
    """A queue of its own, and what each role does with it."""

    def __init__(self, server: Pubsub) -> None:
        self.server = server
        self.topic = fresh("rights")
        self.address = f"//tests/{self.topic}?subscription={self.topic}-sub"
        self.opened: list[PubsubEngine | PubsubQueue | Gateway] = []
        self.address_of = {"": server.address}

    def grant(self, role: str, rights: Granted) -> None:
        def real(name: str) -> str:
            return name.replace("TOPIC", self.topic).replace("NAME", f"{self.topic}-sub")

        given: Rights = {each: [*map(real, names)] for each, names in rights.items()}
        gateway = Gateway(self.server.address, lambda token: given)
        self.opened.append(gateway)
        self.address_of[role] = gateway.address

    def options(self, role: str) -> EngineOptions:
        env = {"PUBSUB_EMULATOR_HOST": self.address_of[role]}
        return EngineOptions(lease_s=20.0, minion_id=f"m{len(self.opened)}", env=env)

    def queue(self, role: str = "") -> PubsubQueue:
        queue = open_queue(self.address, self.options(role))
        self.opened.append(queue)
        return queue

    def engine(self, role: str = "") -> PubsubEngine:
        engine = open_engine(self.address, self.options(role))
        self.opened.append(engine)
        return engine

    def some(self, engine: PubsubEngine, count: int) -> list[Lease]:
        leases: list[Lease] = []

        def all_came() -> bool:
            leases.extend(engine.lease(count - len(leases), 0.2))
            return len(leases) == count

        until(all_came, lambda: f"only {leases}")
        return leases

    def close(self) -> None:
        for each in reversed(self.opened):
            with contextlib.suppress(QueueRefused):  # to give back takes a right, too
                each.close()

    # ---- what each role does

    def maker(self) -> None:
        queue = self.queue("maker")
        assert queue.put([1, 2]) == 2
        assert len(queue.made) == 6
        self.some(self.engine(), 2)

    def feeder(self) -> None:
        self.queue().put([])
        queue = self.queue("feeder")
        with queue.feeding():
            assert queue.put(range(2500)) == 2500
        assert queue.made == []

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
        engine.stats()
        engine.close()

    def watcher(self) -> None:
        self.queue().put([1])
        engine = self.engine()
        (lease,) = self.some(engine, 1)
        engine.bury([lease], NO)
        queue = self.queue("watcher")
        queue.stats()
        assert [entry.id for entry in queue.scan(State.DEAD)] == [lease.id]
        assert set(queue.look_up([lease.id])) == {lease.id}

    def keeper(self) -> None:
        admin = self.queue()
        admin.put(range(5))
        engine = self.engine()
        leases = self.some(engine, 3)
        engine.bury(leases[:2], NO)
        engine.nack(leases[2:], delay_s=300)
        admin._wire.publish(admin._names.dead_topic, [Letter(b"\xff", {})])
        queue = self.queue("keeper")
        assert queue.requeue([leases[0].id]) == 1
        assert queue.purge(State.DEAD) == 2
        assert queue.purge() >= 3


@pytest.fixture
def acting(pubsub_server: Pubsub) -> Iterator[Acting]:
    acting = Acting(pubsub_server)
    yield acting
    acting.close()


@pytest.mark.parametrize("role", ROLES)
def test_the_rights_of_a_role_suffice(acting: Acting, role: str) -> None:
    acting.grant(role, ROLES[role])
    getattr(acting, role)()


EACH = [
    (role, right, name)
    for role, granted in ROLES.items()
    for right, names in granted.items()
    for name in names
]


@pytest.mark.parametrize(("role", "right", "name"), EACH)
def test_none_can_be_left_out(acting: Acting, role: str, right: str, name: str) -> None:
    granted = dict(ROLES[role])
    granted[right] = tuple(each for each in granted[right] if each != name)
    acting.grant(role, granted)
    with pytest.raises(QueueRefused) as caught:
        getattr(acting, role)()
    said = str(caught.value)
    assert said.endswith(f"the account needs {right} on it") or right.endswith("editor"), said
    assert "not allowed to" in said
    assert "\n" not in said
    assert caught.value.exit_status == 69


# ---- credentials


class Cloud:
    """A gateway with TLS before the emulator, and where tokens come from."""

    def __init__(self, folder: Path, server: Pubsub) -> None:
        self.tokens = Tokens(folder)
        authority = Authority(folder)
        self.gateway = Gateway(server.address, self._rights, authority.issue("google"))
        topic = fresh("cloud")
        url = f"pubsub://tests/{topic}?endpoint=127.0.0.1:{self.gateway.port}"
        env = {
            "PUBSUB_EMULATOR_HOST": "",
            "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(authority.ca[0]),
            # No machine of Google's is asked for its identity, unless a test says so.
            "NO_GCE_CHECK": "true",
            "HOME": str(folder),
        }
        self.minions = Minions(folder, url, env)

    def _rights(self, token: str) -> Rights | None:
        return EVERYTHING if token in self.tokens.asked else None

    def close(self) -> None:
        self.minions.close()
        self.gateway.close()
        self.tokens.close()


@pytest.fixture
def cloud(tmp_path: Path, pubsub_server: Pubsub) -> Iterator[Cloud]:
    cloud = Cloud(tmp_path, pubsub_server)
    yield cloud
    cloud.close()


def account(cloud: Cloud) -> dict[str, str]:
    return {"GOOGLE_APPLICATION_CREDENTIALS": str(cloud.tokens.service_account())}


def workload(cloud: Cloud) -> dict[str, str]:
    return {"GOOGLE_APPLICATION_CREDENTIALS": str(cloud.tokens.workload_identity())}


def machine(cloud: Cloud) -> dict[str, str]:
    address = cloud.tokens.address
    return {"NO_GCE_CHECK": "", "GCE_METADATA_HOST": address, "GCE_METADATA_IP": address}


@pytest.mark.parametrize("kind", [account, workload, machine])
def test_credentials_of_each_kind_are_used(
    cloud: Cloud, kind: Callable[[Cloud], dict[str, str]]
) -> None:
    minions, env = cloud.minions, kind(cloud)
    feed = minions.start(MINION_MAIN, "feed", "-q", minions.url, "--grid", "x=1:4", **env)
    status, said = minions.ended(feed)
    assert (status, "3 params put" in said) == (0, True), said
    status, said = minions.ended(minions.minion("--idle", "1", "true", **env))
    assert (status, "3 done" in said) == (0, True), said
    assert cloud.gateway.tokens == {f"of-the-{kind.__name__}"}


def test_credentials_that_are_refused_are_one_line(cloud: Cloud) -> None:
    minions = cloud.minions
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    forged = str(cloud.tokens.service_account(other))
    env = {"GOOGLE_APPLICATION_CREDENTIALS": forged}
    minion = minions.minion("--reconnect", "1", "true", **env)
    status, said = minions.ended(minion)
    assert status == 69, said
    assert len(said.splitlines()) <= 2, said
    assert "credentials" in said.splitlines()[-1]
    assert not cloud.gateway.tokens

    cloud.tokens.asked = _Nothing()
    status, said = minions.ended(minions.minion("true", **account(cloud)))
    assert (status, said.count("\n")) == (69, 1), said
    assert "Google did not take the credentials" in said
    assert "of-the-account" not in said


class _Nothing(list[str]):
    """A service that takes none of the tokens."""

    def __contains__(self, key: object) -> bool:
        return False

"""Minions on a Pulsar queue while the broker, the connection or they themselves break."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from services.minions import SEEN, Minions, assert_not_reached
from services.processes import free_ports, until
from services.proxy import Proxy
from services.pulsar import Broker, Shared, jwt, lacking

from minionize.contracts.engine import EngineOptions
from minionize.engines.registry import open_engine
from minionize.errors import EngineUnavailable

NOTE = 'echo "$1" >>runs; '
TOPIC = "public/default/faults"
LEASE = "5"
"""Seconds. On a machine that is busy otherwise a shorter one is lost by being late."""


@pytest.fixture
def own(tmp_path: Path, needs_server: Callable[[str], NoReturn]) -> Iterator[Broker]:
    """A broker that nobody else uses; not started."""
    reason = lacking()
    if reason:
        needs_server(reason)
    broker = Broker(tmp_path / "broker")
    yield broker
    broker.stop()


@pytest.fixture
def minions(tmp_path: Path, pulsar_broker: Shared) -> Iterator[Minions]:
    """Minions on a queue of the shared broker."""
    topic = re.sub(r"\W", "-", str(tmp_path))
    url = f"{pulsar_broker.url}/public/default/{topic}?admin={pulsar_broker.admin}"
    minions = Minions(tmp_path, url)
    yield minions
    minions.close()


def test_a_broker_that_is_killed_and_started_again(own: Broker, tmp_path: Path) -> None:
    own.start()
    minions = Minions(tmp_path, f"{own.url}/{TOPIC}?admin={own.admin}")
    try:
        minions.put(map(str, range(200)))
        options = ("--lease", "5", "-j", "2")
        both = [minions.script(f"{SEEN}{NOTE}sleep 0.05", *options) for _ in range(2)]
        minions.until_each_ran(2)
        minions.until_ran(60)
        own.kill()
        time.sleep(1)
        own.start()
        for minion in both:
            status, said = minions.ended(minion, 120)
            assert status == 0, said
        ran = minions.ran()
        assert set(ran) == set(map(str, range(200)))
        # What they held (half a second of work each) went on, and could not be told in time.
        assert ran.total() < 250, "no more than what was in hand is repeated"
        assert minions.stats().drained
    finally:
        minions.close()


@pytest.fixture
def behind(own: Broker, tmp_path: Path) -> Iterator[tuple[Minions, Proxy, str]]:
    """(minions, a proxy before their broker, the queue's URL through it). The broker names the
    proxy as its address to whoever comes through it."""
    (port,) = free_ports(1)
    with Proxy("127.0.0.1", port) as proxy:
        own.settings |= {
            "advertisedListeners": f"internal:{own.url},far:pulsar://127.0.0.1:{proxy.port}",
            "internalListenerName": "internal",
            "bindAddresses": f"far:pulsar://127.0.0.1:{port}",
            "advertisedAddress": "",
        }
        own.start()
        minions = Minions(tmp_path, f"{own.url}/{TOPIC}?admin={own.admin}")
        try:
            far = f"pulsar://127.0.0.1:{proxy.port}/{TOPIC}?admin={own.admin}"
            yield minions, proxy, far
        finally:
            minions.close()


@pytest.mark.parametrize("how", ["cut", "stall"])
def test_a_connection_away_for_less_than_a_lease(
    behind: tuple[Minions, Proxy, str], how: str
) -> None:
    minions, proxy, far = behind
    minions.put(["long", *map(str, range(30))])
    script = f'{NOTE}if test "$1" = long; then sleep 6; else sleep 0.05; fi; echo "$1" >>done'
    minion = minions.script(script, "--lease", "20", "-j", "2", url=far)
    minions.until_ran(5)
    getattr(proxy, how)()
    time.sleep(3)
    proxy.mend()
    status, said = minions.ended(minion)
    assert status == 0, said
    assert minions.ran()["long"] == 1, "it kept its lease"
    assert set(minions.ran()) == {"long", *map(str, range(30))}
    assert minions.ran().total() <= 36, "an ack that was on its way may be lost, no more"
    stats = minions.stats()
    assert stats.drained, (stats, minions.ran(), said)


def test_a_minion_that_holds_nothing_sees_that_it_is_away(
    behind: tuple[Minions, Proxy, str],
) -> None:
    minions, proxy, far = behind
    minions.put([])
    assert_not_reached(far, {}, proxy)


@pytest.fixture
def patient(own: Broker) -> None:
    """A broker that takes a slow connection for a living one."""
    own.settings["keepAliveIntervalSeconds"] = "60"


def test_a_mark_whose_answer_came_late_charges_nobody(
    patient: None, behind: tuple[Minions, Proxy, str]
) -> None:
    """Its copy is there all the same, and comes back as a run that ended in a crash would."""
    minions, proxy, far = behind
    minions.put(["one"])
    options = EngineOptions(lease_s=16.0, minion_id="one")  # answers may take 4 s
    with contextlib.closing(open_engine(far, options)) as engine:
        leases = until(lambda: engine.lease(1, 1.0), "nothing came")
        proxy.slow(5.0)
        with pytest.raises(EngineUnavailable, match="cannot send"):
            engine.started(leases)
        proxy.mend()

        def marked() -> bool:
            try:
                engine.started(leases)
            except EngineUnavailable:
                return False
            return True

        until(marked, "it can't be marked")
        assert not engine.extend(leases)
        engine.ack(leases)

        def drained() -> bool:
            with contextlib.suppress(EngineUnavailable):
                assert not engine.lease(1, 0.5)
                return engine.stats().drained is True
            return False

        assert engine.stats().running, "the copy that nobody wants"
        until(drained, lambda: f"{engine.stats()}")


def test_a_connection_cut_for_more_than_a_lease(behind: tuple[Minions, Proxy, str]) -> None:
    minions, proxy, far = behind
    minions.put(["long"])
    script = f"{NOTE}echo $$ >>begun; sleep 20; echo $$ >>done"
    one = minions.script(script, "--lease", LEASE, url=far)
    minions.until_ran(1)
    time.sleep(2)  # let it be marked as begun
    proxy.cut()
    other = minions.script(script, "--lease", LEASE)
    minions.until_ran(2)
    proxy.mend()
    status, said = minions.ended(other)
    assert status == 0, said
    status, said = minions.ended(one)
    assert status == 0, said
    assert "lost the lease of" in said
    begun = (minions.folder / "begun").read_text().split()
    done = (minions.folder / "done").read_text().split()
    assert done, "somebody else did it"
    assert begun[0] not in done, "the first run was killed"
    assert minions.stats().drained


def test_a_minion_that_is_killed(minions: Minions) -> None:
    minions.put(map(str, range(20)))
    script = f"{NOTE}sleep 0.7"
    victim = minions.script(script, "--lease", LEASE, "-j", "4")
    minions.until_ran(9)  # so the acks of the first four are told
    victim.kill()
    status, said = minions.ended(minions.script(script, "--lease", LEASE, "-j", "4"))
    assert status == 0, said
    ran = minions.ran()
    assert set(ran) == set(map(str, range(20)))
    assert ran.total() <= 32, "only what it held, and acked in the last moment, is repeated"
    assert minions.stats().drained
    assert not minions.dead()


def test_a_minion_that_is_frozen_loses_what_it_runs(minions: Minions) -> None:
    minions.put(["one"])
    script = f"{NOTE}sleep 10"
    frozen = minions.script(script, "--lease", LEASE)
    minions.until_ran(1)
    frozen.send_signal(signal.SIGSTOP)
    try:
        # Its connection lives, as far as the broker can tell, for half a minute or more.
        other = minions.script(script, "--lease", LEASE)
        status, said = minions.ended(other, 60)
        assert status == 0, said
    finally:
        frozen.send_signal(signal.SIGCONT)
    status, said = minions.ended(frozen)
    assert status == 0, said
    assert "1 lost to other minions" in said
    assert minions.stats().drained


def test_a_poison_dies_and_no_innocent_pays(minions: Minions) -> None:
    minions.put([*map(str, range(5)), "poison", *map(str, range(5, 10))])
    script = f'{NOTE}test "$1" != poison || {{ kill -9 $PPID; exec sleep 600; }}'
    options = ("--lease", LEASE, "--max-crashes", "2")
    kills = 0
    while (ended := minions.ended(minions.script(script, *options)))[0] == -signal.SIGKILL:
        kills += 1
        assert kills <= 3
    status, said = ended
    assert status == 1, said
    (dead,) = minions.dead()
    assert (dead.text, dead.crashes, dead.attempt) == ('"poison"', 2, 1)
    assert dead.failure is not None
    assert dead.failure.reason == "crashed its minion 2 times"
    assert set(minions.ran()) == {"poison", *map(str, range(10))}
    assert minions.ran()["poison"] <= 3


def test_a_poison_in_fast_work_is_charged_only_by_minions_that_begin(minions: Minions) -> None:
    """The case that Pulsar leaves open: at more than 100 a second nothing is claimed, so the first
    death is nobody's; a minion that begins claims what it takes, and so finds the poison."""
    (minions.folder / "fast.py").write_text(
        "import os, signal, time\n"
        "_log = os.open('runs', os.O_WRONLY | os.O_APPEND)\n"
        "def run(number):\n"
        "    os.write(_log, b'%d\\n' % number)\n"
        "    if number == 3000:\n"
        "        os.kill(int(os.environ['MINION_ID'].rsplit('-', 2)[1]), signal.SIGKILL)\n"
        "        time.sleep(600)\n"
    )
    minions.put(range(4000))
    options = ("--lease", LEASE, "--max-crashes", "2", "--call", "fast:run")
    deaths = 0
    while (ended := minions.ended(minions.minion(*options)))[0] == -signal.SIGKILL:
        deaths += 1
        assert deaths <= 6
    status, said = ended
    assert status == 1, said
    (dead,) = minions.dead()
    assert (dead.text, dead.crashes) == ("3000", 2)
    assert deaths >= 2
    assert set(minions.ran()) == set(map(str, range(4000)))


def test_a_dead_broker_at_the_start_is_said_in_one_line(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    minions = Minions(tmp_path, f"pulsar://127.0.0.1:{port}/{TOPIC}")
    try:
        status, said = minions.ended(minions.script("true", "--reconnect", "1"))
    finally:
        minions.close()
    assert status == 69, said
    lines = said.splitlines()
    assert len(lines) <= 2, said
    assert all(f"pulsar://127.0.0.1:{port}/{TOPIC}: cannot" in line for line in lines), said
    assert "is the broker up?" in lines[-1]


def test_a_broker_that_dies_for_good_ends_its_minions(own: Broker, tmp_path: Path) -> None:
    own.start()
    minions = Minions(tmp_path, f"{own.url}/{TOPIC}")
    try:
        minions.put(range(1000))
        minion = minions.script(f"{NOTE}sleep 0.05", "--lease", "3", "--reconnect", "3")
        minions.until_ran(10)
        own.kill()
        status, said = minions.ended(minion)
        assert status == 69, said
        assert "see --reconnect" in said
    finally:
        minions.close()


def test_tokens(own: Broker, tmp_path: Path) -> None:
    """Without rights, with a wrong token, with none: 69 and a line. A file with the right one
    does, for feeding, working and watching, with the rights that docs/pulsar.md names."""
    key = os.urandom(32)
    (tmp_path / "key").write_bytes(key)
    admin = jwt(key, "admin")
    own.token = admin
    own.settings |= {
        "authenticationEnabled": "true",
        "authorizationEnabled": "true",
        "superUserRoles": "admin",
        "authenticationProviders":
            "org.apache.pulsar.broker.authentication.AuthenticationProviderToken",
        "tokenSecretKey": f"file://{tmp_path}/key",
        "brokerClientAuthenticationPlugin":
            "org.apache.pulsar.client.impl.auth.AuthenticationToken",
        "brokerClientAuthenticationParameters": f"token:{admin}",
    }  # fmt: skip
    own.start()
    own.ask("namespaces/public/default/permissions/worker", "POST", ["produce", "consume"])
    (tmp_path / "token").write_text(jwt(key, "worker") + "\n")
    url = f"{own.url}/{TOPIC}?admin={own.admin}"
    minions = Minions(tmp_path, url, {"PULSAR_TOKEN_FILE": str(tmp_path / "token")})
    try:
        minions.put(["one", "two"])
        once = ("--reconnect", "1", "true")
        stranger, wrong = jwt(key, "stranger"), jwt(b"another key", "worker")
        for token in (stranger, wrong):
            minion = minions.minion(*once, PULSAR_TOKEN=token)
            status, said = minions.ended(minion)
            assert status == 69, said
            assert "token" in said.lower() and "cannot" in said.splitlines()[-1]
            assert token not in said
        worker = minions.script(f'{NOTE}test "$1" = one', "--max-attempts", "1")
        status, said = minions.ended(worker)
        assert status == 1, said
        assert [entry.text for entry in minions.dead()] == ['"two"']
        stats = minions.stats()
        assert (stats.drained, stats.dead) == (True, 1)
    finally:
        minions.close()

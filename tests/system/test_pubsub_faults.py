"""What minions on Pub/Sub do when things break: the service, the way to it, minions.

The emulator keeps nothing on a disk: killed, it has lost its queues. So what can be shown of that
is how minions end; Google's service has no such restart.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from services import pubsub
from services.minions import SEEN, Minions, assert_not_reached
from services.processes import free_port, until
from services.proxy import Proxy
from services.pubsub import Pubsub, fresh

NOTE = 'echo "$1" >>runs; sleep 0.02'


@pytest.fixture
def proxy(pubsub_server: Pubsub) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", pubsub_server.port) as proxy:
        yield proxy


@pytest.fixture
def minions(pubsub_server: Pubsub, tmp_path: Path) -> Iterator[Minions]:
    """Straight to the server."""
    name = fresh("queue")
    url = f"pubsub://tests/{name}?subscription={name}-sub"
    with contextlib.closing(Minions(tmp_path, url, pubsub_server.env)) as minions:
        yield minions


def through(proxy: Proxy) -> dict[str, str]:
    return {"PUBSUB_EMULATOR_HOST": f"127.0.0.1:{proxy.port}"}


def test_no_server_is_one_clear_line_soon(minions: Minions) -> None:
    began = time.monotonic()
    minion = minions.minion(
        "--reconnect", "1", "true", PUBSUB_EMULATOR_HOST=f"127.0.0.1:{free_port()}"
    )
    status, said = minions.ended(minion)
    assert status == 69
    assert time.monotonic() - began < 20
    lines = said.splitlines()
    assert len(lines) <= 2  # that it tries again, and that it gave up
    assert all(line.startswith(f"minionize: {minions.url}: can't be reached") for line in lines)


def test_no_credentials_is_one_clear_line(minions: Minions) -> None:
    minion = minions.minion(
        "true", PUBSUB_EMULATOR_HOST="", NO_GCE_CHECK="true",
        GOOGLE_APPLICATION_CREDENTIALS=str(minions.folder / "none.json"),
    )  # fmt: skip
    status, said = minions.ended(minion)
    assert status == 69, said
    assert said.count("\n") == 1
    assert "no credentials for Google Cloud" in said
    assert "GOOGLE_APPLICATION_CREDENTIALS" in said


def test_what_answers_is_no_pubsub(minions: Minions, proxy: Proxy) -> None:
    proxy.answer(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    status, said = minions.ended(minions.minion("--reconnect", "1", "true", **through(proxy)))
    assert status == 69, said
    assert all("can't be reached" in line for line in said.splitlines()), said


def test_a_missing_queue_is_2(minions: Minions) -> None:
    status, said = minions.ended(minions.minion("true"))
    assert status == 2
    assert said.count("\n") == 1
    assert "minion feed makes it" in said


def test_a_killed_server_ends_minions_with_69(tmp_path: Path, pubsub_server: Pubsub) -> None:
    own = pubsub.start(tmp_path)
    try:
        with contextlib.closing(Minions(tmp_path, "pubsub://tests/killed", own.env)) as minions:
            minions.put(range(1000))
            working = [
                minions.script(SEEN + NOTE, "--lease", "4", "--reconnect", "3", "--idle", "3")
                for _ in range(2)
            ]
            minions.until_each_ran(2)  # one that joins words a break otherwise
            minions.until_ran(20)
            own.kill()
            for minion in working:
                status, said = minions.ended(minion)
                assert status == 69, said
                assert "can't be reached" in said
                assert "see --reconnect" in said
                # Not a word of gRPC's own about what it lost.
                assert all(line.startswith("minionize: ") for line in said.splitlines()), said
            # It comes back without its queues: that is said, too.
            again = pubsub.start(tmp_path, own.port)
            try:
                status, said = minions.ended(minions.script("true"))
                assert status == 2
                assert "no queue pubsub://tests/killed" in said
            finally:
                again.stop()
    finally:
        own.stop()


def test_a_minion_that_holds_nothing_sees_that_it_is_away(
    minions: Minions, pubsub_server: Pubsub, proxy: Proxy
) -> None:
    minions.put([])
    assert_not_reached(minions.url, {**pubsub_server.env, **through(proxy)}, proxy)


@pytest.mark.parametrize("how", ["stall", "cut"])
def test_a_fault_shorter_than_a_lease_costs_nothing(
    minions: Minions, proxy: Proxy, how: str
) -> None:
    minions.put(range(200))
    minion = minions.minion("--lease", "20", "--idle", "2", "sh", "-c", NOTE, "x", **through(proxy))
    minions.until_ran(20)
    getattr(proxy, how)()
    time.sleep(1.5)  # how long the fault is
    proxy.mend()
    status, said = minions.ended(minion)
    assert status == 0, said
    wanted = {str(number) for number in range(200)}
    if set(minions.ran()) != wanted:
        # The answer to a pull was lost on its way: the server takes it for held until the
        # subscription's own deadline, the 60 s of who made it, is over.
        status, more = minions.ended(minions.script(NOTE, "--lease", "20", "--idle", "75"))
        assert status == 0, more
    assert set(minions.ran()) == wanted
    assert "dead" not in said


def test_a_cut_longer_than_a_lease_loses_nothing(minions: Minions, proxy: Proxy) -> None:
    minions.put(range(60))
    slow = minions.minion(
        "--lease", "2", "--idle", "6", "sh", "-c", 'echo "$1" >>runs; sleep 0.5', "x",
        **through(proxy),
    )  # fmt: skip
    minions.until_ran(4)
    proxy.cut()
    other = minions.script(NOTE, "--lease", "2", "--idle", "6")
    minions.until_ran(55)  # the other one works meanwhile, and the lease is over
    time.sleep(3.0)  # more than a lease
    proxy.mend()
    for minion in (slow, other):
        status, said = minions.ended(minion)
        assert status == 0, said
    ran = minions.ran()
    assert set(ran) == {str(number) for number in range(60)}
    assert minions.dead() == []


def test_killed_minions_lose_nothing(minions: Minions) -> None:
    minions.put(range(150))
    killed = [minions.script(NOTE, "--lease", "2", "--idle", "8") for _ in range(2)]
    minions.until_ran(20)
    for minion in killed:
        minion.kill()
        minion.wait()
    last = minions.script(NOTE, "--lease", "2", "--idle", "8")
    until(lambda: len(minions.ran()) == 150, lambda: f"{len(minions.ran())} of 150")
    status, said = minions.ended(last)
    assert status == 0, said
    assert minions.dead() == []
    assert sum(minions.ran().values()) <= 150 + 2 * 60  # what they held and had just acked

"""Queues in Pulsar as people use them: over a real broker, mostly with real commands."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import pulsar
import pytest
from services.minions import MAIN, MINION_MAIN, Minions
from services.processes import free_ports, until
from services.proxy import Proxy
from services.pulsar import Broker, Shared, ask, lacking

from minionize.contracts.engine import EngineOptions
from minionize.engines.pulsar import PulsarQueue
from minionize.engines.pulsar.decoding import envelope, letter
from minionize.engines.pulsar.minion import PulsarEngine
from minionize.engines.registry import open_engine, open_queue
from minionize.errors import NoSuchQueue, NotSupported, UsageError
from minionize.values import Failure, Lease, State

NOTE = 'echo "$1" >>runs'


@pytest.fixture
def topic(tmp_path: Path) -> str:
    return re.sub(r"\W", "-", str(tmp_path))


@pytest.fixture
def minions(tmp_path: Path, topic: str, pulsar_broker: Shared) -> Iterator[Minions]:
    url = f"{pulsar_broker.url}/public/default/{topic}?admin={pulsar_broker.admin}"
    minions = Minions(tmp_path, url)
    yield minions
    minions.close()


@pytest.fixture
def client(pulsar_broker: Shared) -> Iterator[pulsar.Client]:
    """A plain client, as somebody else has it."""
    quiet = pulsar.FileLogger(pulsar.LoggerLevel.Error, "/dev/null")
    client = pulsar.Client(pulsar_broker.url, logger=quiet)
    yield client
    client.close()


def said(minions: Minions, *args: str, main: str = MINION_MAIN) -> str:
    """What a command said, that ended well."""
    status, text = minions.ended(minions.start(main, *args))
    assert status == 0, text
    return text


def test_the_settings_of_0_2_1(
    minions: Minions, topic: str, pulsar_broker: Shared, client: pulsar.Client
) -> None:
    (minions.folder / ".env").write_text(
        "# which engine (queue implementation) to use\n"
        "MINION_ENGINE=pulsar\n"
        "# Pulsar\n"
        f"PULSAR_CONNECTION={pulsar_broker.url}\n"
        f"PULSAR_TOPIC={topic}\n"
        "PULSAR_DECODER=identity\n"
        "MINION_REPORTER=null # json, stdout\n"
    )
    # As its users put params, once minions had subscribed.
    client.subscribe(topic, "minions", pulsar.ConsumerType.Shared).close()
    producer = client.create_producer(topic)
    for number in range(10):
        producer.send(str(number).encode())
    text = said(minions, "--idle", "1", "echo", "a", main=MAIN)
    assert sorted(text.splitlines())[:10] == [f"a {number}" for number in range(10)]


def test_commands(minions: Minions) -> None:
    queue = ("-q", minions.url)
    text = said(minions, "feed", *queue, "--grid", "x=1:6")
    assert re.search(r"made topic public/default/\S+, subscription minions\n", text)
    assert "5 params put" in text and "5 waiting" in text
    assert "made" not in said(minions, "feed", *queue, "--grid", "x=7")
    worker = minions.minion("--max-attempts", "1", "test", "{x}", "-ne", "3")
    status, text = minions.ended(worker)
    assert (status, "5 done, 1 dead (1 new)" in text) == (1, True), text
    assert '{"x":3}' in said(minions, "list", *queue)
    assert "exit 1" in said(minions, "failures", *queue)
    dead_id = minions.dead()[0].id
    assert "exit 1" in said(minions, "show", *queue, dead_id)
    assert "waiting 0" in said(minions, "status", *queue)
    assert "1 dead letter back to work" in said(minions, "retry", *queue)
    status, text = minions.ended(minions.minion("true"))
    assert (status, "1 done" in text) == (0, True), text
    assert minions.stats().drained


def test_nothing_is_made_where_that_is_not_wanted(
    minions: Minions, topic: str, pulsar_broker: Shared
) -> None:
    """Neither the queue nor what is beside it; all that is missing is named."""
    admin = pulsar_broker.admin
    kinds = ("", *(f"-minions-{kind}" for kind in ("held", "back", "dead", "orders")))
    made: set[str] = set()

    def there() -> set[str]:
        topics = ask(admin, "persistent/public/default")
        assert isinstance(topics, list)
        return {one for one in topics if re.search(rf"/{topic}(-minions-\w+)?$", one)}

    def refused(url: str) -> str:
        with (
            closing(open_queue(url, EngineOptions(create=False))) as queue,
            pytest.raises(NoSuchQueue, match="feed without --no-create, or have an admin") as error,
        ):
            queue.put([1])
        assert there() == made
        return str(error.value)

    feeder = minions.start(MINION_MAIN, "feed", "-q", minions.url, "--no-create", "--grid", "x=1")
    status, text = minions.ended(feeder)
    assert (status, text.count("\n")) == (2, 1), text
    for kind in kinds:
        for url in (minions.url, minions.url.partition("?")[0]):
            text = refused(url)
            assert f"topic public/default/{topic}{kind}" in text
        path = f"persistent/public/default/{topic}{kind}"
        ask(admin, path, "PUT")
        made.add(f"persistent://public/default/{topic}{kind}")
        assert f"subscription minions of public/default/{topic}{kind}" in refused(minions.url)
        ask(admin, f"{path}/subscription/minions", "PUT", {"ledgerId": -1, "entryId": -1})
    for url in (minions.url, minions.url.partition("?")[0]):
        said(minions, "feed", "-q", url, "--no-create", "--grid", "x=1:3")
    assert there() == made
    assert minions.stats().waiting == 4


def test_counts_and_minions_come_from_the_admin_api(minions: Minions) -> None:
    minions.put(range(5))
    options = EngineOptions(minion_id="one", host="here", pid=7, slots=3)
    with (
        closing(open_queue(minions.url, EngineOptions())) as queue,
        closing(open_engine(minions.url, options)) as engine,
    ):
        leases = engine.lease(3, 5.0)
        while len(leases) < 3:
            leases = [*leases, *engine.lease(3 - len(leases), 5.0)]
        one, two, three = leases
        engine.bury([one], Failure("exit 1"))
        engine.nack([two], delay_s=60.0)

        def counted() -> tuple[object, ...]:
            stats = queue.stats()
            return (stats.waiting, stats.delayed, stats.running, stats.dead, stats.minions)

        until(lambda: counted() == (2, 1, 1, 1, 1), lambda: f"counts: {counted()}", timeout_s=10)
        assert queue.stats().drained is False
        (info,) = queue.minions()
        assert (info.id, info.host, info.pid, info.slots) == ("one", "here", 7, 3)
        with queue.feeding():
            assert queue.stats().feeders == 1
        until(lambda: queue.stats().feeders == 0, "the feeder left", timeout_s=10)
        engine.ack([three])
        assert queue.purge(State.WAITING) == 2
        with pytest.raises(NotSupported, match="can't drop delayed"):
            queue.purge(State.DELAYED)
        with pytest.raises(NotSupported, match="can't list waiting"):
            queue.scan(State.WAITING)
        until(lambda: counted() == (0, 1, 0, 1, 1), lambda: f"counts: {counted()}", timeout_s=10)


def test_an_admin_api_that_is_silent_for_a_moment_makes_no_queue_drained(
    minions: Minions, topic: str, pulsar_broker: Shared
) -> None:
    """A minion that was idle for long would end, though it knew that something was left."""
    minions.put(["one"])
    with Proxy("127.0.0.1", int(pulsar_broker.admin.rpartition(":")[2])) as proxy:
        url = f"{pulsar_broker.url}/public/default/{topic}?admin=http://127.0.0.1:{proxy.port}"
        with closing(open_engine(url, EngineOptions(minion_id="one"))) as engine:
            assert engine.stats().drained is False
            proxy.cut()
            assert engine.stats().drained is False
            with closing(open_engine(url, EngineOptions(minion_id="two"))) as other:
                assert other.stats().drained is None, "it never knew"
            proxy.mend()
            assert engine.stats().waiting == 1


def test_a_busy_minion_keeps_nothing_of_a_topic_with_partitions(
    minions: Minions, topic: str, pulsar_broker: Shared
) -> None:
    """Such a topic needs a receiver queue, whose messages are nobody's while a run goes on."""
    ask(pulsar_broker.admin, f"persistent/public/default/{topic}/partitions", "PUT", 4)
    minions.put(range(12))
    with (
        closing(open_engine(minions.url, EngineOptions(minion_id="busy"))) as busy,
        closing(open_engine(minions.url, EngineOptions(minion_id="idle"))) as idle,
    ):
        one = until(lambda: busy.lease(1, 1.0), "nothing came")
        others: list[Lease] = []

        def all_came() -> bool:
            assert not busy.extend(one)
            assert not idle.extend(others)
            others.extend(idle.lease(11 - len(others), 1.0))
            return len(others) == 11

        until(all_came, lambda: f"{len(others)} of 11", timeout_s=60)
        assert minions.stats().minions == 2
        busy.ack(one)
        idle.ack(others[1:])
        idle.nack(others[:1], charge=False)
        idle.close()
        busy.ack(until(lambda: busy.lease(1, 1.0), "it takes nothing any more"))
        until(lambda: busy.stats().drained, lambda: f"{busy.stats()}")


@pytest.mark.parametrize("by", ["itself", "another"])
def test_what_was_lost_and_is_done_is_not_given_back_at_the_end(minions: Minions, by: str) -> None:
    """It said that the queue is drained, and put a param into it when it left."""
    minions.put(["one"])
    with (
        closing(open_engine(minions.url, EngineOptions(minion_id="one", lease_s=1.0))) as engine,
        closing(open_engine(minions.url, EngineOptions(minion_id="two"))) as two,
    ):
        until(lambda: engine.lease(1, 1.0), "nothing came")
        other = engine if by == "itself" else two
        other.ack(until(lambda: other.lease(1, 1.0), "it did not come back"))
        until(lambda: other.stats().drained, lambda: f"{other.stats()}")
        assert engine.stats().drained
        engine.close()
        assert two.stats().drained


def test_what_was_claimed_just_now_is_not_claimed_anew(minions: Minions) -> None:
    """Each time there are two copies for a moment, and who dies then leaves both."""
    lease_s = 8.0
    minions.put(["one"])
    options = EngineOptions(minion_id="one", lease_s=lease_s)
    with closing(open_engine(minions.url, options)) as engine:
        assert isinstance(engine, PulsarEngine)
        leases = until(lambda: engine.lease(1, 1.0), "nothing came")
        came_s = time.monotonic()
        (held,) = engine._holding
        copy = held.message_id
        asked_s: list[float] = []
        while held.message_id is copy:
            asked_s.append(time.monotonic() - came_s)
            assert not engine.extend(leases)
        spare_s = engine._claims.spare_s
        assert len(asked_s) > 1 or asked_s[0] > spare_s
        assert max(asked_s[:-1], default=0.0) <= spare_s < lease_s / 8, "it must be renewed"
        engine.ack(leases)


def test_a_double_of_what_is_held_is_dropped(minions: Minions) -> None:
    """An answer that was lost leaves one, and the worker knows a param by its id."""
    minions.put(["one"])
    with (
        closing(open_engine(minions.url, EngineOptions(minion_id="one"))) as engine,
        closing(open_queue(minions.url, EngineOptions())) as queue,
    ):
        assert isinstance(queue, PulsarQueue)
        (lease,) = until(lambda: engine.lease(1, 1.0), "nothing came")
        back = queue._place.beside("back")
        queue._make().send(back, [letter(envelope(lease))] * 2)

        def dropped() -> bool:
            assert not engine.lease(3, 0.5)
            return queue.stats()[1:4] == (0, 0, 1)

        until(dropped, lambda: f"{queue.stats()}")
        engine.ack([lease])
        until(lambda: engine.stats().drained, lambda: f"{engine.stats()}")


def test_dead_letters(minions: Minions) -> None:
    failure = Failure("exit 3", "tail\n\x1b[31m\ud800 red")
    minions.put({"n": number} for number in range(5))
    with (
        closing(open_engine(minions.url, EngineOptions(minion_id="one"))) as engine,
        closing(open_queue(minions.url, EngineOptions())) as queue,
    ):
        gone: list[str] = []
        while len(gone) < 5:
            for lease in engine.lease(5, 5.0):
                engine.nack([lease])
                gone.append(lease.id)
        leases: list[Lease] = []
        while len(leases) < 5:
            leases += engine.lease(5, 5.0)
        engine.bury(leases, failure)
        for _ in range(2):  # looking changes nothing
            entries = list(queue.scan(State.DEAD))
            assert sorted(entry.id for entry in entries) == sorted(gone)
            assert {entry.failure for entry in entries} == {failure}
            assert {(entry.attempt, entry.crashes) for entry in entries} == {(2, 0)}
        assert set(queue.look_up([gone[0], "no-such-id"])) == {gone[0]}
        assert queue.requeue([]) == 0
        # On a busy broker a reader that comes right after another may miss a letter, which stays.
        moved: list[int] = []

        def both_moved() -> bool:
            moved.append(queue.requeue([gone[0], gone[1], "no-such-id"]))
            return sum(moved) == 2

        until(both_moved, lambda: f"{moved}")
        assert queue.requeue([gone[0]]) == 0
        back: list[Lease] = []
        while len(back) < 2:
            back += engine.lease(5, 5.0)
        assert sorted(lease.id for lease in back) == sorted(gone[:2])
        assert {(lease.attempt, lease.suspect) for lease in back} == {(1, False)}
        engine.ack(back)
        assert queue.purge(State.DEAD) == 3
        assert list(queue.scan(State.DEAD)) == []


@pytest.mark.parametrize("batching", [False, True])
def test_what_others_put_is_params_too(
    minions: Minions, topic: str, client: pulsar.Client, batching: bool
) -> None:
    url = f"{minions.url}&decoder=json"
    with closing(open_queue(url, EngineOptions())) as queue:
        queue.put([])
        producer = client.create_producer(
            topic, batching_enabled=batching, batching_max_publish_delay_ms=50
        )
        for number in range(40):
            producer.send_async(b'{"n": %d}' % number, lambda result, id: None)
        producer.send_async(b"\xff no JSON", lambda result, id: None, properties={"from": "Ada"})
        producer.flush()
        status, text = minions.ended(minions.script(NOTE, url=url))
        assert status == 1, text
        assert set(minions.log.read_text().splitlines()) == {f'{{"n":{n}}}' for n in range(40)}
        (dead,) = queue.scan(State.DEAD)
        assert dead.text == '"\\\\xff no JSON"'
        assert dead.failure is not None
        assert dead.failure.reason == "message is not UTF-8"
        # Put back as it came, it is no param once more.
        assert queue.requeue([dead.id]) == 1
        assert minions.ended(minions.script(NOTE, url=url))[0] == 1
        assert len(list(queue.scan(State.DEAD))) == 1


def test_a_topic_with_partitions_is_a_queue_and_is_counted(
    minions: Minions, topic: str, pulsar_broker: Shared
) -> None:
    ask(pulsar_broker.admin, f"persistent/public/default/{topic}/partitions", "PUT", 3)
    minions.put(range(60))
    assert minions.stats().waiting == 60
    # The last one: were it given back by who is killed just then, it might be there twice.
    script = f'{NOTE}; test "$1" != 59 || exit 3; sleep 0.1'
    killed = minions.script(script, "--lease", "5")
    minions.until_ran(5)
    killed.kill()
    status, text = minions.ended(minions.script(script, "-j", "4", "--max-attempts", "2"))
    # It knows that nothing is left: what the dead one held was waited for.
    assert (status, "1 dead" in text) == (1, True), text
    assert set(minions.ran()) == set(map(str, range(60)))
    stats = minions.stats()
    assert (stats.drained, stats.dead) == (True, 1)
    with closing(open_queue(minions.url, EngineOptions())) as queue:
        with queue.feeding():
            assert queue.stats().feeders == 1
        assert queue.requeue() == 1
        until(lambda: queue.stats().waiting == 1, queue.stats, timeout_s=10)
        assert queue.purge() == 1


def test_partitions_of_the_other_topics_are_refused(
    minions: Minions, topic: str, pulsar_broker: Shared
) -> None:
    """As a broker makes them that has allowAutoTopicCreationType=partitioned."""
    space = f"namespaces/public/{topic}"
    ask(pulsar_broker.admin, space, "PUT")
    settings = {"allowAutoTopicCreation": True, "topicType": "partitioned",
                "defaultNumPartitions": 2}  # fmt: skip
    ask(pulsar_broker.admin, f"{space}/autoTopicCreation", "POST", settings)
    url = f"{pulsar_broker.url}/public/{topic}/q"
    feed = minions.start(MINION_MAIN, "feed", "-q", url, "--grid", "a=1")
    for command in (feed, minions.minion("true", url=url)):
        status, text = minions.ended(command)
        assert (status, text.count("\n")) == (2, 1), text
        assert "has partitions, which only the queue's own topic may have" in text


def test_a_busy_minion_keeps_nothing_from_the_others(minions: Minions) -> None:
    """With a receiver queue it would have fetched one more, for as long as its run takes."""
    minions.put(["long", "a", "b", "c"])
    script = f'{NOTE}; test "$1" != long || sleep 300'
    busy = minions.script(script, "--grace", "0.5")
    until(lambda: "long" in minions.ran(), "the long run began")
    other = minions.script(script, "--grace", "0.5")
    until(lambda: set(minions.ran()) == {"long", "a", "b", "c"}, lambda: f"ran: {minions.ran()}")
    assert minions.ran()["long"] == 1
    for minion in (busy, other):
        assert minion.poll() is None
        minion.terminate()
    assert {minions.ended(busy)[0], minions.ended(other)[0]} == {75}


def test_a_param_put_on_an_idle_queue_starts_soon(minions: Minions) -> None:
    minions.put([])
    worker = minions.script("date +%s.%N >>runs", "--until", "forever")
    until(lambda: minions.stats().minions == 1, "the minion came")
    with closing(open_queue(minions.url, EngineOptions())) as queue:
        took_s: list[float] = []
        while len(took_s) < 20 and min(took_s, default=1.0) > 0.05:
            number = len(took_s)
            time.sleep(0.5)  # idle again
            queue.put([number])
            put_s = time.time()
            minions.until_ran(number + 1)
            took_s.append(float(minions.log.read_text().split()[-1]) - put_s)
    worker.terminate()
    minions.ended(worker)
    # A busy machine takes some tenths of a second to start a program.
    assert min(took_s) < 0.5, took_s


def test_tls(tmp_path: Path, needs_server: Callable[[str], NoReturn]) -> None:
    reason = lacking()
    if reason:
        needs_server(reason)
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    broker = Broker(tmp_path / "broker")
    tls_port, web_port = free_ports(2)
    broker.settings |= {
        "brokerServicePortTls": str(tls_port),
        "webServicePortTls": str(web_port),
        "tlsCertificateFilePath": str(certificate),
        "tlsKeyFilePath": str(key),
        "tlsTrustCertsFilePath": str(certificate),
    }
    broker.start()
    url = f"pulsar+ssl://127.0.0.1:{tls_port}/public/default/tls?admin=https://127.0.0.1:{web_port}"
    trusting = Minions(tmp_path, url, {"PULSAR_TLS_CA": str(certificate)})
    try:
        trusting.put([1, 2])
        status, text = trusting.ended(trusting.script(NOTE))
        assert status == 0, text
        assert sorted(trusting.ran()) == ["1", "2"]
        status, text = trusting.ended(trusting.minion("--reconnect", "1", "true", PULSAR_TLS_CA=""))
        assert (status, "cannot" in text) == (69, True), text
    finally:
        trusting.close()
        broker.stop()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("pulsar://", "names no topic"),
        ("pulsar://host:6650/a/b", "names no topic"),
        ("pulsar://ada:S3cret@host/q", "put the token into PULSAR_TOKEN"),
        ("pulsar://host/q?admin=host:8080", "admin must be the URL"),
        ("pulsar://host/q?decoder=yaml", "no decoder 'yaml'"),
        ("pulsar://host/q?subscriptoin=s", "did you mean subscription?"),
    ],
)
def test_urls_that_name_no_queue(url: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_queue(url, EngineOptions())
    assert message in str(caught.value)
    assert "S3cret" not in str(caught.value)


def test_a_file_that_is_not_there_is_named() -> None:
    env = {"PULSAR_TOKEN_FILE": "/no/such/token"}
    queue = open_queue("pulsar://localhost/q", EngineOptions(env=env))
    with pytest.raises(UsageError, match="PULSAR_TOKEN_FILE=/no/such/token can't be read"):
        queue.stats()

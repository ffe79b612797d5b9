"""Minions on Google Pub/Sub, over its emulator: what a person types, and what others published."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from services.minions import MINION_MAIN, Minions
from services.processes import until
from services.pubsub import Pubsub, emulator_jar, fresh

from minionize.contracts.engine import EngineOptions
from minionize.engines.pubsub import PubsubEngine, PubsubQueue, open_engine, open_queue
from minionize.engines.pubsub.wire import Letter
from minionize.errors import BadParam, NoSuchQueue, NotSupported, UsageError
from minionize.values import Failure, Lease, State

LEASE_S = 2.0


class Here:
    """A queue of its own, and what a test does with it."""

    def __init__(self, server: Pubsub, parameters: str = "") -> None:
        name = fresh("queue")
        self.address = f"//tests/{name}?subscription={name}-sub{parameters}"
        self.url = f"pubsub:{self.address}"
        self.options = EngineOptions(lease_s=LEASE_S, minion_id="here", env=server.env)
        self.queue = open_queue(self.address, self.options)
        self.names = self.queue._names
        self.engines: list[PubsubEngine] = []

    def engine(self) -> PubsubEngine:
        engine = open_engine(self.address, self.options)
        self.engines.append(engine)
        return engine

    def publish(self, *bodies: bytes, **attributes: str) -> None:
        """As somebody else's plain client would."""
        self.queue._wire.publish(self.names.topic, [Letter(body, attributes) for body in bodies])

    def make_by_hand(self, **fields: Any) -> None:
        """Topic and subscription, as gcloud makes them."""
        wire = self.queue._wire
        wire.call("create_topic", self.names.topic, wire.types.Topic(name=self.names.topic))
        fields = {"name": self.names.subscription, "topic": self.names.topic, **fields}
        wire.call("create_subscription", self.names.subscription, wire.types.Subscription(**fields))

    def close(self) -> None:
        for engine in self.engines:
            engine.close()
        self.queue.close()


@pytest.fixture
def here(pubsub_server: Pubsub) -> Iterator[Here]:
    with contextlib.closing(Here(pubsub_server)) as here:
        yield here


def get(engine: PubsubEngine, count: int) -> list[Lease]:
    leases: list[Lease] = []

    def all_came() -> bool:
        leases.extend(engine.lease(count - len(leases), 0.2))
        return len(leases) == count

    until(all_came, lambda: f"only {leases}")
    return leases


def nothing(engine: PubsubEngine) -> bool:
    return not [lease for _ in range(3) for lease in engine.lease(10, 0.1)]


# ---- dead letters


def test_dead_letters_are_listed_put_back_and_dropped(here: Here) -> None:
    queue = here.queue
    queue.put([{"n": number} for number in range(6)])
    engine = here.engine()
    leases = get(engine, 6)
    engine.bury(leases[:4], Failure("exit 3", "boom\nred"))
    engine.ack(leases[4:])
    for _ in range(2):  # looking takes nothing away
        entries = list(queue.scan(State.DEAD))
        assert {entry.id: entry.text for entry in entries} == {
            lease.id: lease.text for lease in leases[:4]
        }
        assert {entry.failure for entry in entries} == {Failure("exit 3", "boom\nred")}
    found = queue.look_up([leases[0].id, leases[5].id, "none"])
    assert list(found) == [leases[0].id]
    assert queue.requeue([leases[0].id, leases[0].id, "none"]) == 1
    assert queue.requeue([leases[0].id]) == 0
    assert queue.requeue([]) == 0
    (back,) = get(engine, 1)
    assert (back.id, back.param, back.attempt, back.crashes, back.suspect) == (
        leases[0].id, leases[0].param, 1, 0, False,
    )  # fmt: skip
    assert queue.purge(State.DEAD) == 3
    assert list(queue.scan(State.DEAD)) == []
    engine.bury([back], Failure("again"))
    assert queue.requeue() == 1
    engine.ack(get(engine, 1))
    assert nothing(engine)


def test_what_pubsub_cant_do_is_said_in_one_line(here: Here) -> None:
    queue = here.queue
    queue.put([1])
    asked: list[Callable[[], object]] = [
        lambda: list(queue.scan(State.WAITING)),
        lambda: queue.requeue(None, State.DONE),
        lambda: queue.purge(State.DELAYED),
        lambda: queue.steer(paused=True),
    ]
    for ask in asked:
        with pytest.raises(NotSupported) as caught:
            ask()
        assert str(caught.value).startswith(here.url)
    assert queue.minions() == []


def test_purge_drops_what_waits_and_not_what_runs(here: Here) -> None:
    queue = here.queue
    queue.put(range(10))
    engine = here.engine()
    running, marked, dead = get(engine, 3)
    engine.started([marked])
    engine.bury([dead], Failure("exit 1"))
    assert queue.purge() == 8
    assert not engine.extend([running, marked])
    engine.abandon()
    other = here.engine()
    back = get(other, 2)
    assert {lease.id: lease.crashes for lease in back} == {running.id: 0, marked.id: 1}


# ---- what others published


def test_plain_messages_are_params(here: Here) -> None:
    here.queue.put([])
    here.publish(b"some text", b"", b"two\nlines", theirs="x")
    engine = here.engine()
    leases = get(engine, 3)
    assert {lease.param for lease in leases} == {"some text", "", "two\nlines"}
    engine.nack(leases)
    again = get(engine, 3)
    assert {(lease.id, lease.param) for lease in again} == {
        (lease.id, lease.param) for lease in leases
    }
    assert {lease.attempt for lease in again} == {2}


def test_what_cant_be_decoded_is_a_dead_letter_and_comes_back_as_it_was(
    pubsub_server: Pubsub,
) -> None:
    with contextlib.closing(Here(pubsub_server, "&decoder=json")) as here:
        here.queue.put([])
        here.publish(b'{"a": 1}', b"{no json", theirs="x")
        engine = here.engine()
        (good,) = get(engine, 1)
        assert good.param == {"a": 1}
        engine.ack([good])
        assert nothing(engine)
        (entry,) = here.queue.scan(State.DEAD)
        assert entry.failure is not None
        assert entry.failure.reason == "message is no JSON"
        assert entry.param == "{no json"
        assert here.queue.requeue() == 1
        plain = open_engine(here.address.replace("decoder=json", "decoder=identity"), here.options)
        here.engines.append(plain)
        assert [lease.param for lease in get(plain, 1)] == ["{no json"]


def test_a_param_may_have_almost_ten_megabytes_and_no_more(here: Here) -> None:
    here.queue.put(["before"])
    with pytest.raises(BadParam, match=r"param 2 has 10,000,002 bytes.*put it into a file"):
        here.queue.put(["small", "x" * 10_000_000])
    engine = here.engine()
    engine.ack(get(engine, 1))
    assert nothing(engine)
    if emulator_jar() is not None:  # Go's fake takes 4 MB
        here.queue.put(["x" * 9_900_000])
        (lease,) = get(engine, 1)
        assert len(lease.text) == 9_900_002
        engine.nack([lease])  # with what it needs beside it
        engine.ack(get(engine, 1))


# ---- subscriptions of all kinds


@pytest.mark.skipif(emulator_jar() is None, reason="only the emulator knows exactly-once delivery")
def test_exactly_once_a_lease_that_the_service_calls_lost_is_lost(pubsub_server: Pubsub) -> None:
    with contextlib.closing(Here(pubsub_server, "&exactly_once=1")) as here:
        here.queue.put(range(4))
        slow, other = here.engine(), here.engine()
        leases = get(slow, 4)
        kept, acked, failed, held = leases
        # As after a long network fault that our clock did not see: others have them now.
        slow.wire.extend(here.names.subscription, [lease.token.ack_id for lease in leases[1:]], 0)
        theirs = get(other, 3)
        assert {lease.id for lease in theirs} == {lease.id for lease in leases[1:]}
        slow.nack([failed])
        slow.ack([acked])
        assert slow.extend([kept, held]) == [held]
        assert not other.extend(theirs)
        other.ack(theirs)
        slow.ack([kept])
        slow.stats()
        assert nothing(other)
        assert nothing(slow)


def test_without_a_dead_letter_policy_short_crashes_are_not_seen_and_marked_ones_are(
    here: Here,
) -> None:
    """The case that is left open: the service then tells nobody what it delivered before."""
    here.make_by_hand(ack_deadline_seconds=10)
    here.publish(b"1")
    engine = here.engine()
    assert not engine.traits.counts_crashes
    (lease,) = get(engine, 1)
    engine.abandon()
    second = here.engine()
    (lease,) = get(second, 1)
    assert (lease.crashes, lease.suspect) == (0, False)
    second.started([lease])  # as for every run that outlasts a beat
    second.abandon()
    third = here.engine()
    (lease,) = get(third, 1)
    assert (lease.crashes, lease.suspect) == (1, True)
    third.nack([lease], charge=False)
    (lease,) = get(third, 1)
    assert lease.crashes == 1
    third.ack([lease])


def test_a_minion_that_dies_in_the_middle_of_a_mark_leaves_two_copies(here: Here) -> None:
    """As docs/pubsub.md says: both are run, and are known as the same param."""
    here.queue.put(["twice"])
    engine = here.engine()
    (lease,) = get(engine, 1)
    assert len(engine._aside.claimed([lease.token])) == 1  # the claim is there, nothing is acked
    engine.abandon()
    other = here.engine()
    for _ in range(2):
        (copy,) = get(other, 1)
        assert (copy.id, copy.param) == (lease.id, "twice")
        other.ack([copy])
        other.stats()
    assert nothing(other)


def test_a_subscription_that_minions_cant_use_is_refused(here: Here, pubsub_server: Pubsub) -> None:
    with pytest.raises(NoSuchQueue):
        here.engine()
    here.queue.put([1])
    topic, subscription = here.names.topic, here.names.subscription.rpartition("/")[2]
    other = Here(pubsub_server)
    other.queue.put([1])
    elsewhere = f"//tests/{other.names.topic.rpartition('/')[2]}?subscription={subscription}"
    with pytest.raises(UsageError, match=f"is one of {topic}: mend the URL"):
        open_engine(elsewhere, here.options)
    with pytest.raises(UsageError, match="mend the URL"):
        open_queue(elsewhere, here.options).put([1])
    other.close()
    pushed = Here(pubsub_server)
    pushed.make_by_hand(push_config={"push_endpoint": "http://127.0.0.1:9/"})
    with pytest.raises(UsageError, match="can't be pulled from"):
        pushed.engine()
    pushed.close()


def test_nothing_is_made_where_that_is_not_wanted(here: Here) -> None:
    options = here.options._replace(create=False)
    with contextlib.closing(open_queue(here.address, options)) as queue:
        with pytest.raises(NoSuchQueue):
            queue.put([1])
        assert queue.made == []
    here.make_by_hand(ack_deadline_seconds=10)
    with (
        contextlib.closing(open_queue(here.address, options)) as queue,
        pytest.raises(NoSuchQueue, match="is not complete: there is no subscription"),
    ):
        queue.put([1])
    here.queue.put([1])
    assert len(here.queue.made) == 4
    with contextlib.closing(PubsubQueue(here.names, options)) as queue:
        assert queue.put([2]) == 1
    engine = here.engine()
    assert sorted(lease.param for lease in get(engine, 2)) == [1, 2]


# ---- whole minions


@pytest.fixture
def minions(here: Here, pubsub_server: Pubsub, tmp_path: Path) -> Iterator[Minions]:
    with contextlib.closing(Minions(tmp_path, here.url, pubsub_server.env)) as minions:
        yield minions


def test_the_old_readmes_settings_as_written(here: Here, minions: Minions) -> None:
    here.make_by_hand(ack_deadline_seconds=10)
    here.publish(b"0", b"1", b"2")
    _, project, _, topic = here.names.topic.split("/")
    subscription = here.names.subscription.rpartition("/")[2]
    minions.folder.joinpath(".env").write_text(
        "MINION_ENGINE=google\n"
        f"GOOGLE_PROJECT_ID={project}\nGOOGLE_TOPIC_ID={topic}\n"
        f"GOOGLE_SUBSCRIPTIOn={subscription}\n"
        "GOOGLE_APPLICATION_CREDENTIALS=/mandatory/\nGOOGLE_DECODER=identity\n"
    )
    minion = minions.start(
        "from minionize.cli.minionize import main; main()", "--idle", "1", "echo", "hello"
    )
    status, said = minions.ended(minion)
    assert status == 0, said
    assert {line for line in said.splitlines() if line.startswith("hello")} == {
        "hello 0",
        "hello 1",
        "hello 2",
    }


def test_a_campaign_as_a_person_types_it(minions: Minions) -> None:
    (minions.folder / "params").write_text("1\n2\n3\n")
    feed = minions.start(MINION_MAIN, "feed", "-q", minions.url, "--typed", "params")
    status, said = minions.ended(feed)
    assert status == 0
    assert "made topic " in said
    assert "3 params put" in said
    fails = 'echo "$1" >>runs; test "$1" != 2 || { echo no two >&2; exit 4; }'
    minion = minions.script(fails, "--idle", "1", "--max-attempts", "2")
    status, said = minions.ended(minion)
    assert status == 1, said
    assert "2 done, 1 dead" in said
    # Nothing else on the terminal: gRPC and Google's libraries are quiet.
    assert all(line.startswith(("minionize: ", "no two")) for line in said.splitlines()), said
    assert minions.ran() == {"1": 1, "2": 2, "3": 1}
    status, said = minions.ended(minions.start(MINION_MAIN, "failures", "-q", minions.url))
    assert "exit 4: 1 dead" in said
    status, said = minions.ended(minions.start(MINION_MAIN, "retry", "-q", minions.url))
    assert (status, "1 dead letter back to work" in said) == (0, True)
    status, said = minions.ended(minions.script("true", "--idle", "1"))
    assert "minionize: 1 done" in said
    for command, status in (("stop", 2), ("wait", 2), ("pause", 2)):
        ended = minions.ended(minions.start(MINION_MAIN, command, "-q", minions.url))
        assert ended[0] == status
        assert ended[1].count("\n") == 1, ended


def test_functions_in_child_processes_say_nothing_of_grpc(minions: Minions) -> None:
    (minions.folder / "work.py").write_text(
        "import os\n"
        "def work(n):\n"
        "    if n == 7: os.kill(os.getpid(), 9)\n"
        "    open('runs', 'a').write(f'{n}\\n')\n"
    )
    minions.put(range(500))
    minion = minions.minion("--idle", "1", "--max-attempts", "1", "--call", "work:work")
    status, said = minions.ended(minion)
    assert status == 1, said
    assert "499 done, 1 dead" in said
    assert len(minions.ran()) == 499
    assert all(line.startswith("minionize: ") for line in said.splitlines()), said


def test_a_poison_ends_as_a_dead_letter_and_no_other_param_does(
    here: Here, minions: Minions
) -> None:
    minions.put(range(12))
    script = 'echo "$1" >>runs; test "$1" != 5 || kill -9 $PPID; sleep 0.05'
    options = ("--lease", "2", "--idle", "6", "--max-crashes", "2")
    end = time.monotonic() + 90
    while time.monotonic() < end:
        minion = minions.script(script, *options)
        status, said = minions.ended(minion)
        if status in (0, 1):
            break
    assert status == 1, said
    (dead,) = minions.dead()
    assert dead.param == 5
    assert dead.failure is not None
    assert "crashed its minion" in dead.failure.reason
    ran = minions.ran()
    assert set(ran) == {str(number) for number in range(12)}
    # Once unseen, since nobody suspected it, and then --max-crashes times.
    assert ran["5"] == 3
    assert nothing(here.engine())

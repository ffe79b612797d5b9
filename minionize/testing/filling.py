"""Sentences about putting params and looking at them."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from minionize.contracts.engine import Engine, Queue
from minionize.errors import BadParam, MinionizeError, NoSuchQueue
from minionize.testing.backend import Backend
from minionize.testing.settling import EXIT_3
from minionize.values import Param, State, to_text

AWKWARD: list[Param] = [
    "",
    " leading and trailing ",
    "two\nlines\r\nand\ttab",
    "\0 and \x1b[31m and \x7f \x85 \u2028",
    "; rm -rf / $(true) `true` 'q' \"q\" \\ -x {}",
    "snowman ☃, astral 𝄞, lone \ud800, bytes of no UTF-8 \udcff\udc80",
    "x" * 2**20,
    None,
    True,
    0,
    -1,
    10**30,
    0.1,
    1e300,
    [],
    {},
    [[1, [2, {"a": []}]], "é"],
    {"": 0, "nested": {"ключ": [None, True]}, "{name}": "{}"},
]


class Filling:
    """Part of EngineContract."""

    def test_put_says_how_many(self, backend: Backend) -> None:
        queue = backend.queue()
        assert queue.put(range(5)) == 5
        assert queue.put(iter(["x", "y"])) == 2
        assert queue.put([]) == 0
        assert queue.put_texts(['{"a": 1}', '"z"']) == 2
        stats = queue.stats()
        assert stats.put in (9, None)
        assert stats.waiting in (9, None)
        leases = backend.get(backend.engine(), 9)
        assert {to_text(lease.param) for lease in leases} == {
            *map(str, range(5)),
            '"x"',
            '"y"',
            '"z"',
            '{"a":1}',
        }

    def test_every_json_value_comes_out_as_it_went_in(self, backend: Backend) -> None:
        backend.filled({"number": n, "value": value} for n, value in enumerate(AWKWARD))
        engine = backend.engine()
        leases = backend.get(engine, len(AWKWARD))
        seen = {lease.param["number"]: lease.param["value"] for lease in leases}
        for number, value in enumerate(AWKWARD):
            assert json.dumps(seen[number]) == json.dumps(value)
        for lease in leases:
            assert "\n" not in lease.text
            assert "\r" not in lease.text
        engine.nack(leases)
        again = backend.get(engine, len(AWKWARD))
        assert {lease.id: lease.text for lease in again} == {
            lease.id: lease.text for lease in leases
        }

    @pytest.mark.parametrize("param", ["", None, [], {}, 0, "a\nb", False, [[]]], ids=repr)
    def test_a_param_may_be_any_value_by_itself(self, backend: Backend, param: Param) -> None:
        backend.filled([param])
        (lease,) = backend.get(backend.engine(), 1)
        assert lease.param == param
        assert type(lease.param) is type(param)

    def test_all_or_nothing(self, backend: Backend) -> None:
        queue = backend.filled(["first"])

        def breaks() -> Iterator[Param]:
            for number in range(5000):
                yield f"param {number}"
            raise OSError("the disk is gone")

        with pytest.raises(OSError, match="the disk is gone"):
            queue.put(breaks())
        with pytest.raises(OSError, match="the disk is gone"):
            queue.put_texts(map(to_text, breaks()))
        assert queue.stats().put in (1, None)
        engine = backend.engine()
        assert [lease.param for lease in backend.get(engine, 1)] == ["first"]
        backend.nothing(engine, [])

    @pytest.mark.parametrize(
        "bad",
        [object(), float("nan"), {1, 2}, b"bytes", {(1, 2): 3}],
        ids=lambda bad: str(type(bad)),
    )
    def test_what_is_no_json_is_a_bad_param(self, backend: Backend, bad: object) -> None:
        queue = backend.filled(["good"])
        with pytest.raises(BadParam):
            queue.put(["good too", bad])
        assert queue.stats().put in (1, None)

    def test_put_streams(self, backend: Backend) -> None:
        if not backend.streams:
            pytest.skip("this engine holds its params in memory")
        queue = backend.queue()
        queue.put(["warm up"])
        tracemalloc.start()
        try:
            queue.put({"n": n, "ballast": "x" * 20_000} for n in range(1500))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 12_000_000, "held all 30 MB"

    def test_a_missing_queue_is_an_error_when_it_is_read(self, backend: Backend) -> None:
        queue = backend.queue()
        reads: list[Callable[[], object]] = [
            queue.stats,
            queue.minions,
            queue.requeue,
            queue.purge,
            lambda: queue.look_up(["1"]),
            lambda: list(queue.scan(State.WAITING)),
            lambda: queue.steer(paused=True),
        ]
        for read in reads:
            with pytest.raises(MinionizeError) as caught:
                read()
            assert isinstance(caught.value, NoSuchQueue) or not queue.traits.scans, read
        queue.put([1])
        assert queue.stats().put in (1, None)

    def test_many_feeders_one_after_another(self, backend: Backend) -> None:
        for number in range(12):
            backend.queue().put([f"{number} a", f"{number} b"])
        leases = backend.get(backend.engine(), 24)
        assert len({lease.id for lease in leases}) == 24

    def test_a_feeder_keeps_the_queue_undrained(self, backend: Backend) -> None:
        queue, engine = undrained(backend)
        with queue.feeding():
            assert queue.stats().feeders == 1
            assert engine.stats().drained is False
            queue.put(["more"])
            engine.ack(backend.get(engine, 1))
            queue.put([])
            assert engine.stats().drained is False
        assert engine.stats().drained is True

    def test_a_feeder_makes_the_queue(self, backend: Backend) -> None:
        queue = backend.queue()
        with queue.feeding():
            engine = backend.engine()
            backend.nothing(engine)
            queue.put([1])
            backend.get(engine, 1)

    def test_a_feeder_that_puts_now_and_then_is_not_forgotten(self, backend: Backend) -> None:
        queue, engine = undrained(backend)
        with queue.feeding():
            for _ in range(8):
                backend.pass_time(backend.lease_s / 4 - 0.01, (engine, []))
                queue.put([])
                assert engine.stats().drained is False

    def test_a_dead_feeder_is_forgotten(self, backend: Backend) -> None:
        queue, engine = undrained(backend)
        feeding = queue.feeding()
        feeding.__enter__()
        assert engine.stats().drained is False
        backend.kill(queue)
        try:
            backend.outlast_lease((engine, []))
            backend.nothing(engine)
            assert engine.stats().drained is True
        finally:
            with suppress(Exception):  # it has to be closed somewhere, whatever that does now
                feeding.__exit__(None, None, None)

    def test_scan_lists_each_state(self, backend: Backend) -> None:
        queue, ids = one_in_each_state(backend)
        for state in (State.WAITING, State.DELAYED, State.RUNNING, State.DEAD):
            entries = list(queue.scan(state))
            assert [entry.id for entry in entries] == ids[state], state
            assert {entry.state for entry in entries} == {state}
        (running,) = queue.scan(State.RUNNING)
        assert running.holder in ("minion-2", "")
        (dead,) = queue.scan(State.DEAD)
        assert dead.failure == EXIT_3
        (delayed,) = queue.scan(State.DELAYED)
        assert delayed.attempt == 2
        if queue.traits.delays:
            assert delayed.due_in_s is not None
            assert 0 < delayed.due_in_s <= backend.lease_s

    def test_done_ones_are_listed_where_they_are_kept(self, backend: Backend) -> None:
        queue, ids = one_in_each_state(backend)
        if not queue.traits.keeps_done:
            pytest.skip("what is done is not kept")
        (done,) = queue.scan(State.DONE)
        assert (done.id, done.state) == (ids[State.DONE][0], State.DONE)

    def test_look_up_finds_params_by_id(self, backend: Backend) -> None:
        queue, ids = one_in_each_state(backend)
        wanted = [id for some in ids.values() for id in some]
        found = queue.look_up([*wanted, "no-such-id", "99999999"])
        for state, some in ids.items():
            for id in some:
                if state is State.DONE and not queue.traits.keeps_done:
                    continue
                assert found[id].id == id
                assert found[id].state is state
                assert found[id].text
        assert set(found) <= set(wanted)
        assert queue.look_up([]) == {}


def undrained(backend: Backend) -> tuple[Queue, Engine]:
    """A queue whose only param is done, and its minion."""
    queue = backend.filled(["first"])
    engine = backend.engine()
    engine.ack(backend.get(engine, 1))
    if engine.stats().drained is None:
        pytest.skip("this broker can't tell when it is drained")
    assert engine.stats().drained is True
    return queue, engine


def one_in_each_state(backend: Backend) -> tuple[Queue, dict[State, list[str]]]:
    """A queue with one param in each state."""
    queue = backend.queue()
    if not queue.traits.scans:
        pytest.skip("this broker can't list")
    queue.put(f"param {number}" for number in range(5))
    engine = backend.engine()
    done, dead, delayed, running, waiting = backend.get(engine, 5)
    engine.ack([done])
    engine.bury([dead], EXIT_3)
    engine.nack([delayed], delay_s=backend.lease_s)
    engine.nack([waiting], charge=False)
    engine.extend([running])
    return queue, {
        State.WAITING: [waiting.id],
        State.DELAYED: [delayed.id],
        State.RUNNING: [running.id],
        State.DEAD: [dead.id],
        State.DONE: [done.id],
    }

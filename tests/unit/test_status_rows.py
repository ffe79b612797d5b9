"""Rows of results: params and results of any shape, repeats, dead letters, collisions."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from minionize.contracts.engine import EngineOptions, Queue
from minionize.engines import memory
from minionize.events import Event, Kind
from minionize.reporters.json_lines import JsonReporter
from minionize.reporters.record import Source
from minionize.status.read import Faults
from minionize.status.rows import OURS, Want, make_row, result_rows
from minionize.values import Failure, State, SystemClock

BEGAN = 1_700_000_000.0


def ours(**more: Any) -> dict[str, Any]:
    return {**dict.fromkeys(OURS), **more}


def row(param: Any, result: Any = ...) -> dict[str, Any]:
    """The row without our own columns."""
    made = make_row(json.dumps(param), None if result is ... else json.dumps(result), ours(_id="1"))
    assert made.pop("_id") == "1"
    return {key: value for key, value in made.items() if key not in OURS}


@pytest.mark.parametrize(
    ("param", "result", "expected"),
    [
        ({"lr": 0.1, "seed": 3}, 0.5, {"lr": 0.1, "seed": 3, "result": 0.5}),
        ({"lr": 0.1}, {"loss": 1, "acc": None}, {"lr": 0.1, "loss": 1, "acc": None}),
        ("name", ..., {"param": "name"}),
        (None, None, {"param": None, "result": None}),
        ([1, 2], [3], {"param": [1, 2], "result": [3]}),
        ({"deep": {"a": [1]}}, {"b": {}}, {"deep": {"a": [1]}, "b": {}}),
        ({}, {}, {}),
        # The param keeps its name; what is equal stands there once.
        ({"lr": 0.1}, {"lr": 0.1, "loss": 1}, {"lr": 0.1, "loss": 1}),
        ({"x": 1}, {"x": 2}, {"x": 1, "result.x": 2}),
        ({"x": 1}, {"x": True}, {"x": 1, "result.x": True}),
        ({"x": 1, "result.x": 5}, {"x": 2}, {"x": 1, "result.x": 5, "result.result.x": 2}),
        ({"result": 1}, 2, {"result": 1, "result.result": 2}),
        (7, {"param": 8}, {"param": 7, "result.param": 8}),
        # Our names are ours.
        ({"_id": 9}, {"_seconds": 3}, {"param._id": 9, "result._seconds": 3}),
        ({"_id": 9}, {"_id": 9}, {"param._id": 9, "result._id": 9}),
    ],
)
def test_a_row(param: Any, result: Any, expected: dict[str, Any]) -> None:
    assert row(param, result) == expected


def test_our_columns_come_last() -> None:
    assert list(make_row('{"b":1,"a":2}', "3", ours())) == ["b", "a", "result", *OURS]


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    name = tmp_path.name
    queue = memory.open_queue(name, EngineOptions())
    yield queue
    queue.close()
    memory.drop(name)


class Reports:
    """Minions that report into one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def say(self, host: str, *events: Event) -> None:
        reporter = JsonReporter(
            str(self.folder),
            Source(f"{host}-1-a", host, 1, 1, "true", BEGAN),
            clock=SystemClock(),
            warn=pytest.fail,
        )
        reporter.report(events)
        reporter.close()

    def rows(self, queue: Queue | None, want: Want = Want()) -> list[dict[str, Any]]:  # noqa: B008
        return list(result_rows(queue, self.folder, want))


@pytest.fixture
def reports(tmp_path: Path) -> Reports:
    return Reports(tmp_path / "report")


def ack(id_: str, at_s: float = 1.0, **more: Any) -> Event:
    return Event(Kind.ACK, BEGAN + at_s, id_, 1, 0, 0.25, 0, 0.1, 10, **more)


def all_done(queue: Queue, params: Sequence[Any]) -> None:
    """Put these, and do them."""
    queue.put(params)
    engine = memory.open_engine(queue.url.removeprefix("memory:"), EngineOptions(minion_id="m"))
    engine.ack(engine.lease(len(params), 0.0))
    engine.close()


def test_params_come_from_the_queue(queue: Queue, reports: Reports) -> None:
    all_done(queue, [{"x": 1}, "two", 3])
    reports.say("h", ack("1", result="10"), ack("3"), ack("2"))
    assert reports.rows(queue) == [
        {
            "x": 1,
            "result": 10,
            **ours(_id="1", _status="done", _attempt=1, _seconds=0.25, _host="h"),
        },
        {"param": 3, **ours(_id="3", _status="done", _attempt=1, _seconds=0.25, _host="h")},
        {"param": "two", **ours(_id="2", _status="done", _attempt=1, _seconds=0.25, _host="h")},
    ]


def test_params_come_from_the_events_where_they_are(reports: Reports) -> None:
    reports.say("h", ack("m:1".replace(":", "-"), param='{"x":[1]}'), ack("2"))
    assert [(r["_id"], r.get("x")) for r in reports.rows(None)] == [("m-1", [1]), ("2", None)]


@pytest.mark.parametrize("ids", [("7", "8"), ("a-7", "a-8"), ("07", "7"), ("99999999999", "8")])
def test_the_last_ack_of_an_id_wins(reports: Reports, ids: tuple[str, str]) -> None:
    once, twice = ids
    reports.say("a", ack(twice, 5.0, result="2"), ack(once, 1.0, result="1"))
    reports.say("b", ack(twice, 4.0, result="3"))
    rows = reports.rows(None)
    assert sorted((r["_id"], r["result"], r["_host"]) for r in rows) == sorted(
        [(once, 1, "a"), (twice, 2, "a")]
    )


def test_other_events_are_no_rows(reports: Reports) -> None:
    reports.say(
        "a",
        Event(Kind.BEGIN, BEGAN),
        Event(Kind.GIVE_BACK, BEGAN, "1", charged=True, reason="exit 1"),
        Event(Kind.DEAD, BEGAN, "1", reason="exit 1"),
        Event(Kind.LOST, BEGAN, "2"),
        ack("3"),
        Event(Kind.END, BEGAN),
    )
    assert [r["_id"] for r in reports.rows(None)] == ["3"]


def test_dead_letters_come_from_the_queue_with_what_the_report_knows(
    queue: Queue, reports: Reports
) -> None:
    queue.put([{"x": n} for n in range(1, 5)])
    engine = memory.open_engine(queue.url.removeprefix("memory:"), EngineOptions(minion_id="m"))
    for lease, failure in zip(
        engine.lease(3, 0), (Failure("exit 1"), Failure("crashed 5 minions"), None), strict=True
    ):
        if failure is None:
            engine.ack([lease])
        else:
            engine.bury([lease], failure)
    engine.close()
    reports.say(
        "h",
        Event(Kind.DEAD, BEGAN, "1", 3, 0, 2.5, 1, reason="exit 1", detail="boo", stderr="boo"),
        ack("3"),
        # Was dead and was retried: the queue does not list it any more.
        Event(Kind.DEAD, BEGAN, "4", 3, 0, 2.5, 1, reason="exit 1"),
    )
    assert [(r["x"], r["_status"]) for r in reports.rows(queue)] == [(3, "done")]
    rows = reports.rows(queue, Want(dead=True, output=True))
    shown = [(r["x"], r["_status"], r["_reason"], r["_seconds"], r["_stderr"]) for r in rows]
    assert shown == [
        (3, "done", None, 0.25, None),
        (1, "dead", "exit 1", 2.5, "boo"),
        (2, "dead", "crashed 5 minions", None, None),
    ]


def test_dead_letters_without_a_queue_to_list_them(reports: Reports) -> None:
    reports.say(
        "h",
        Event(Kind.DEAD, BEGAN + 1, "1", reason="exit 1", param="5"),
        Event(Kind.DEAD, BEGAN + 1, "2", reason="exit 1", param="6"),
        Event(Kind.DEAD, BEGAN + 2, "2", reason="exit 2", param="6"),
        Event(Kind.DEAD, BEGAN + 1, "3", reason="exit 1"),
        ack("3", 9.0),
        ack("4", 1.0),
        Event(Kind.DEAD, BEGAN + 2, "4", reason="exit 1"),
    )
    rows = reports.rows(None, Want(dead=True))
    shown = [(r["_id"], r["_status"], r.get("param"), r["_reason"]) for r in rows]
    assert sorted(shown) == [
        ("1", "dead", 5, "exit 1"),
        ("2", "dead", 6, "exit 2"),
        ("3", "done", None, None),
        ("4", "dead", None, "exit 1"),
    ]


def test_output_and_what_it_says(reports: Reports) -> None:
    reports.say(
        "h",
        ack("1", stdout='{"energy": -1.5}\n', stderr=""),
        ack("2", stdout="step 1\nstep 2\n3.5\n", stderr="warned"),
        ack("3", stdout="no json\n"),
        ack("4", stdout='{\n"energy": 2\n}\n', result="9"),
        ack("5", stdout=""),
    )
    rows = reports.rows(None, Want(parse_output=True))
    assert [(r.get("energy"), r.get("result")) for r in rows] == [
        (-1.5, None),
        (None, 3.5),
        (None, None),
        (None, 9),
        (None, None),
    ]
    assert "_stdout" not in rows[0]
    rows = reports.rows(None, Want(output=True))
    assert [(r["_stdout"], r["_stderr"]) for r in rows][:2] == [
        ('{"energy": -1.5}\n', ""),
        ("step 1\nstep 2\n3.5\n", "warned"),
    ]


def test_many_rows_and_repeats_far_apart(queue: Queue, reports: Reports) -> None:
    count = 5000
    all_done(queue, range(1, count + 1))
    reports.say("a", *[ack(str(n), 1.0) for n in range(1, count + 1)])
    reports.say("b", *[ack(str(n), 2.0) for n in range(1, count + 1, 1000)])
    rows = reports.rows(queue)
    assert sorted(r["param"] for r in rows) == list(range(1, count + 1))
    assert [r["_host"] for r in rows].count("b") == 5


def test_faults_are_passed_on(reports: Reports) -> None:
    reports.say("a", ack("1"))
    with open(reports.folder / "a-1-a.0001.jsonl", "a") as file:
        file.write('["a"\n["a",1')
    faults = Faults()
    assert len(list(result_rows(None, reports.folder, faults=faults))) == 1
    assert (faults.broken, faults.torn) == (1, 1)


@pytest.mark.parametrize(
    ("want", "missing", "cut", "no_json"),
    [(Want(), 0, 0, 0), (Want(output=True), 1, 0, 0), (Want(parse_output=True), 1, 1, 1)],
)
def test_output_that_is_missing_or_no_json_is_counted_where_it_is_asked_for(
    reports: Reports, want: Want, missing: int, cut: int, no_json: int
) -> None:
    reports.say(
        "h",
        ack("1", stdout="1\n"),
        ack("2", stdout="no json\n"),
        ack("3", stdout="[1,\n[... 70 bytes left out ...]\n3]\n"),
        ack("4"),
        ack("5", stdout="no json\n", result="5"),
    )
    faults = Faults()
    assert len(list(result_rows(None, reports.folder, want, faults=faults))) == 5
    assert (faults.without_output, faults.cut, faults.no_json) == (missing, cut, no_json)


@pytest.mark.parametrize("times", [1, 2])
def test_what_was_put_back_to_work_has_no_row_until_it_is_done_again(
    queue: Queue, reports: Reports, times: int
) -> None:
    all_done(queue, [10, 20, 30, 40])
    for host in "ab"[:times]:
        reports.say(host, *[ack(str(n)) for n in range(1, 5)])
    queue.requeue(["2", "3"], State.DONE)
    assert sorted(row["param"] for row in reports.rows(queue)) == [10, 40]
    engine = memory.open_engine(queue.url.removeprefix("memory:"), EngineOptions(minion_id="m"))
    (lease,) = engine.lease(1, 0.0)
    queue.purge(State.WAITING)
    engine.ack([lease])
    engine.close()
    reports.say("c", ack(lease.id, 9.0))
    rows = reports.rows(queue, Want(dead=True))
    assert sorted(row["param"] for row in rows) == sorted([10, 40, lease.param])


def test_a_row_is_there_though_a_clock_that_was_wrong_said_later_that_it_is_dead(
    queue: Queue, reports: Reports
) -> None:
    """It was put back to work since, and done by a host whose clock is right."""
    reports.say("ahead", Event(Kind.DEAD, BEGAN + 3600, "1", 1, 0, 0.25, 1, reason="exit 1"))
    all_done(queue, [10])
    reports.say("right", ack("1"))
    for want in (Want(), Want(dead=True)):
        (row,) = reports.rows(queue, want)
        assert (row["param"], row["_status"]) == (10, "done")

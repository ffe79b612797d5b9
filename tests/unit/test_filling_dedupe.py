"""What counts as the same param, and an index that no crash can make wrong."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minionize.contracts.engine import EngineOptions, Queue
from minionize.engines.registry import open_queue
from minionize.errors import EngineUnavailable, NotSupported
from minionize.filling.canonical import canonical, content_hash
from minionize.filling.dedupe import INDEX, LOCK, Deduper
from minionize.values import State

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip

names = count()


@pytest.fixture(params=["file", "memory"])
def queue(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Queue]:
    name = str(tmp_path / "q") if request.param == "file" else f"dedupe-{next(names)}"
    opened = open_queue(f"{request.param}:{name}", EngineOptions())
    yield opened
    opened.close()


@pytest.fixture
def file_queue(tmp_path: Path) -> Iterator[Queue]:
    opened = open_queue(str(tmp_path / "q"), EngineOptions())
    yield opened
    opened.close()


def texts(queue: Queue) -> list[str]:
    return [entry.text for entry in queue.scan(State.WAITING)]


def shuffle_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: shuffle_keys(value[key]) for key in reversed(value)}
    return [shuffle_keys(one) for one in value] if isinstance(value, list) else value


@given(JSON, st.booleans(), st.sampled_from([None, 2]))
def test_however_it_is_written_it_is_the_same(value: Any, ascii_only: bool, indent: Any) -> None:
    other = json.dumps(shuffle_keys(value), ensure_ascii=ascii_only, indent=indent)
    assert content_hash(json.dumps(value)) == content_hash(other)


@given(JSON, JSON)
def test_what_differs_is_not_the_same(one: Any, other: Any) -> None:
    def norm(value: Any) -> Any:
        """Python takes True for 1; JSON does not."""
        if isinstance(value, bool):
            return ("bool", value)
        if isinstance(value, list):
            return [norm(item) for item in value]
        return {k: norm(v) for k, v in value.items()} if isinstance(value, dict) else value

    same = canonical(json.dumps(one)) == canonical(json.dumps(other))
    assert same == (norm(one) == norm(other))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("1", "1.0", True), ("1", "1e0", True), ("0", "-0.0", True), ("10", "1E1", True),
        ("0.1", "0.10", True), ("1", '"1"', False), ("1", "true", False), ("0", "null", False),
        ('"\\u00e9"', '"é"', True), ('"é"', '"e\\u0301"', False), ('"/"', '"\\/"', True),
        ("0.5", "0", False), ("-1.5", "-1", False),
        ("9007199254740991", "9007199254740991.0", True),
        ("9007199254740993", "9007199254740992", False), ('{"a":1,"b":2}', '{"b":2.0,"a":1}', True),
        ("[1,2]", "[2,1]", False), ("1e400", "1e401", True), ('"\\ud800"', '"\\ud801"', False),
        ("1" * 5000, "1" * 5001, False),
    ],
)  # fmt: skip
def test_what_is_the_same(one: str, other: str, same: bool) -> None:
    assert (content_hash(one) == content_hash(other)) is same


def test_only_new_ones_are_put(queue: Queue) -> None:
    deduper = Deduper(queue)
    assert deduper.put(["1", "2", "1.0", '"a"']) == 3
    assert deduper.skipped == 1
    queue.put_texts(["3"])
    assert Deduper(queue).put(["3", "2", "4"]) == 1
    assert texts(queue) == ["1", "2", '"a"', "3", "4"]


def test_what_is_done_dead_or_running_was_put_too(queue: Queue) -> None:
    from minionize.engines.registry import open_engine
    from minionize.values import Failure

    queue.put_texts(["1", "2", "3", "4"])
    url = queue.url
    if url.startswith("file:"):
        url = f"file:{queue.traits.folder}"
    engine = open_engine(url, EngineOptions(minion_id="m"))
    leases = list(engine.lease(3, 1.0))
    while len(leases) < 3:
        leases += engine.lease(3 - len(leases), 1.0)
    engine.ack(leases[:1])
    engine.bury(leases[1:2], Failure("no"))
    engine.stats()
    assert Deduper(queue).put(["4", "3", "2", "1"]) == 0
    engine.close()


def test_a_put_that_fails_leaves_no_trace(queue: Queue) -> None:
    def broken() -> Iterator[str]:
        yield "1"
        raise RuntimeError("the source broke")

    queue.put_texts(["0"])
    deduper = Deduper(queue)
    with pytest.raises(RuntimeError, match="the source broke"):
        deduper.put(broken())
    assert deduper.skipped == 0
    assert texts(queue) == ["0"]
    assert deduper.put(["0", "1"]) == 1


@pytest.mark.parametrize("moment", ["before the put", "in the put", "after the put"])
def test_killed_at_any_moment_it_neither_loses_nor_wrongly_skips(
    file_queue: Queue, moment: str
) -> None:
    file_queue.put_texts(["0"])
    pid = os.fork()
    if not pid:
        queue = open_queue(str(file_queue.traits.folder), EngineOptions())
        put_texts = queue.put_texts

        def die() -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        def dying(new: Any) -> int:
            if moment == "before the put":
                die()
            put = put_texts(text for text in new if moment != "in the put" or die())  # type: ignore[func-returns-value]
            die()
            return put

        queue.put_texts = dying  # type: ignore[assignment,method-assign]
        Deduper(queue).put(["0", "1", "2"])
        os._exit(1)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
    put = 2 if moment == "after the put" else 0
    assert file_queue.stats().put == 1 + put
    assert Deduper(file_queue).put(["2", "1", "0"]) == 2 - put
    assert sorted(texts(file_queue)) == ["0", "1", "2"]


def test_two_at_once_put_each_param_once(file_queue: Queue) -> None:
    file_queue.put_texts(["-1"])
    folder = str(file_queue.traits.folder)
    children = []
    for _ in range(3):
        pid = os.fork()
        if not pid:
            status = 1
            try:
                queue = open_queue(folder, EngineOptions())
                for start in range(0, 60, 20):
                    Deduper(queue).put([str(place) for place in range(start, start + 20)])
                status = 0
            finally:
                os._exit(status)
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0, 0, 0]
    assert sorted(texts(file_queue), key=int) == [str(place) for place in range(-1, 60)]


@pytest.mark.parametrize("content", [b"", b"noise" * 2000, None])
def test_an_index_that_is_lost_is_read_from_the_queue_again(
    file_queue: Queue, content: bytes | None
) -> None:
    Deduper(file_queue).put(["1", "2"])
    Deduper(file_queue).put(["3"])
    path = Path(str(file_queue.traits.folder)) / INDEX
    assert path.stat().st_size
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    assert Deduper(file_queue).put(["3", "2", "1", "4"]) == 1


def test_an_index_of_another_queue_is_not_believed(file_queue: Queue) -> None:
    Deduper(file_queue).put(["1"])
    Deduper(file_queue).put(["2"])
    path = Path(str(file_queue.traits.folder)) / INDEX
    index = sqlite3.connect(path)
    index.execute("UPDATE place SET through = 1000")
    index.execute("INSERT INTO seen VALUES (?)", (content_hash("3"),))
    index.commit()
    index.close()
    assert Deduper(file_queue).put(["1", "2", "3"]) == 1


def test_who_waits_too_long_says_for_whom(file_queue: Queue) -> None:
    file_queue.put_texts(["1"])
    path = os.path.join(str(file_queue.traits.folder), LOCK)
    told, tell = os.pipe()
    held, hold = os.pipe()
    pid = os.fork()
    if not pid:
        import fcntl

        os.close(hold)
        fcntl.lockf(os.open(path, os.O_RDWR | os.O_CREAT), fcntl.LOCK_EX)
        os.write(tell, b"1")
        os.read(held, 1)
        os._exit(0)
    os.close(held)
    os.read(told, 1)
    waits = []
    deduper = Deduper(file_queue, on_wait=lambda: waits.append(1), wait_s=0.5)
    with pytest.raises(EngineUnavailable, match="another feed --dedupe"):
        deduper.put(["2"])
    assert waits
    os.close(hold)
    os.waitpid(pid, 0)
    assert deduper.put(["2"]) == 1
    os.close(told)
    os.close(tell)


def test_a_queue_that_forgets_refuses() -> None:
    forgetful = open_queue(f"memory:dedupe-{next(names)}?keep=0", EngineOptions())
    with pytest.raises(NotSupported, match="forgets what was put"):
        Deduper(forgetful)
    forgetful.close()


def test_a_long_queue_is_read_with_signs_of_life(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or this feeder would be forgotten meanwhile, and its put refused."""
    monkeypatch.setattr("minionize.filling.dedupe.PERIOD_S", 0.0)
    queue.put_texts(str(place) for place in range(5000))
    signs = []
    assert Deduper(queue, on_wait=lambda: signs.append(1)).put(["7", '"x"']) == 1
    assert len(signs) == 5
    assert Deduper(queue).put(["7", '"y"']) == 1


def test_an_index_that_was_written_once_is_understood_for_ever() -> None:
    """What stands in it are these bytes."""
    assert content_hash('{"b": 1.0, "a": "é"}').hex() == "2e585e3b7cb7cc91f2b973ee7099707b"


@pytest.mark.parametrize(("below", "unknown"), [(0, 0), (1, 0), (4, 3), (6, 5)])
def test_how_many_were_forgotten_before_the_index_knew_them(
    file_queue: Queue, below: int, unknown: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_queue.put(range(5))
    monkeypatch.setattr(type(file_queue), "forgotten_below", lambda queue: below)
    first, again = Deduper(file_queue), Deduper(file_queue)
    first.put(["77"])
    assert first.unknown == unknown
    again.put(["78"])
    assert again.unknown == 0, "the index knows them now"

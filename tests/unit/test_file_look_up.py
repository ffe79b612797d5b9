"""Params by their ids: found wherever their segments begin, and each segment is opened once."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minionize.contracts.engine import EngineOptions
from minionize.engines.file.people import FileQueue
from minionize.engines.file.room import Room
from minionize.engines.file.scanning import near_together
from minionize.engines.file.texts import Texts
from minionize.status.rows import result_rows
from minionize.values import State


@given(st.sets(st.integers(1, 400)), st.integers(1, 60))
def test_pieces_hold_what_is_near_together(numbers: set[int], most: int) -> None:
    ordered = sorted(numbers)
    pieces = [*near_together(ordered, most)]
    held = [number for begin, end in pieces for number in range(begin, end) if number in numbers]
    assert held == ordered
    for begin, end in pieces:
        assert begin in numbers and end - 1 in numbers
        inside = [number for number in ordered if begin <= number < end]
        assert all(high - low <= most for low, high in pairwise(inside))
    assert all(begin - end >= most for (_, end), (begin, _) in pairwise(pieces))


def filled(folder: Path, sizes: list[int]) -> FileQueue:
    """A queue with segments of these sizes; each param is its id."""
    queue = FileQueue(Room(str(folder), EngineOptions(minion_id="feeder")))
    put = 0
    with queue.feeding():
        for size in sizes:
            queue.put(range(put + 1, put + size + 1))
            put += size
    return queue


@pytest.fixture(scope="module")
def queue(tmp_path_factory: pytest.TempPathFactory) -> FileQueue:
    """60 segments, of 1 to 300 params."""
    return filled(tmp_path_factory.mktemp("q") / "q", [1, 1, 300, *([1, 2, 5] * 18), 40, 1, 1])


@given(st.data())
def test_ids_are_found_in_any_segment(queue: FileQueue, data: st.DataObject) -> None:
    put = queue.stats().put
    assert put is not None
    wanted = data.draw(st.sets(st.integers(0, put + 2), max_size=50))
    found = queue.look_up([str(number) for number in wanted])
    expected = {str(number) for number in wanted if 1 <= number <= put}
    assert found.keys() == expected
    for id_, entry in found.items():
        assert (entry.id, entry.text, entry.state) == (id_, id_, State.WAITING)


@given(st.data())
def test_a_segment_is_found_from_any_before_it(queue: FileQueue, data: st.DataObject) -> None:
    with queue.room.head as head:
        put, segments = head.put, head.segments
    texts = Texts(queue.room)
    number = data.draw(st.integers(1, put))
    right = texts.search(number, segments)
    assert right.first <= number < right.first + right.length
    low = data.draw(st.integers(1, right.number))
    assert texts.search(number, segments, low).number == right.number


def test_each_segment_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the number of segments; a binary search for each id opened a dozen."""
    queue = filled(tmp_path / "q", [7] * 200)
    opened: list[str] = []
    real = queue.room.calls.open

    def counting(path: str, **how: bool) -> int:
        opened.append(path)
        return real(path, **how)

    monkeypatch.setattr(queue.room.calls, "open", counting)
    ids = [str(number) for number in range(1400, 0, -1)]
    assert len(queue.look_up(ids)) == 1400
    segments = [path for path in opened if "/params/" in path]
    assert len(segments) <= 1.1 * 200
    assert len([*result_rows(queue, tmp_path / "none")]) == 0

"""Files of lines: ranges come back, damage and strangers are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minionize.engines.file.batches import (
    Batches,
    NotVisible,
    Record,
    dead_line,
    encode,
    parse_dead,
    parse_record,
)
from minionize.engines.file.calls import Calls
from minionize.errors import BadParam, ForeignVersion, QueueDamaged

texts = st.lists(
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\n"), max_size=300),
    min_size=1,
    max_size=400,
)


def written(folder: Path, lines: list[str], number: int = 7) -> str:
    path = folder / "file.jsonl"
    path.write_bytes(encode(lines, kind="p", owner="m", number=number, first=11))
    return str(path)


@settings(max_examples=60, deadline=None)
@given(texts, st.data())
def test_any_range_comes_back(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], data: st.DataObject
) -> None:
    path = written(tmp_path_factory.mktemp("batch"), lines)
    batches = Batches(Calls())
    index = batches.index(path, 7)
    assert (index.first, index.length, index.owner) == (11, len(lines), "m")
    begin = data.draw(st.integers(0, len(lines) - 1))
    end = data.draw(st.integers(begin + 1, len(lines)))
    assert batches.lines(index, begin, end) == lines[begin:end]
    upto = index.lines_within(begin, end, 1000)
    assert begin < upto <= end
    batches.close()


def test_a_range_reads_about_as_much_as_it_is_long(tmp_path: Path) -> None:
    lines = [f'"{number:090}"' for number in range(16000)]
    path = written(tmp_path, lines)
    calls = Calls()
    batches = Batches(calls)
    index = batches.index(path, 7)
    before = calls.bytes_read
    assert batches.lines(index, 8000, 8010) == lines[8000:8010]
    assert calls.bytes_read - before < 20_000
    batches.close()


@pytest.mark.parametrize("damage", ["empty", "cut", "flip", "noise", "header", "other", "longer"])
def test_damage_is_named(tmp_path: Path, damage: str) -> None:
    lines = [str(number) for number in range(5000)]
    path = written(tmp_path, lines)
    content = Path(path).read_bytes()
    changed = {
        "empty": b"",
        "cut": content[:-100],
        "flip": content[:-100] + bytes([content[-100] ^ 1]) + content[-99:],
        "noise": b"\xff\x00\n" * 100,
        "header": b"{}\n" + content,
        "other": encode(lines, kind="p", owner="m", number=8),
        "longer": content + b"5000\n",
    }[damage]
    Path(path).write_bytes(changed)
    batches = Batches(Calls())
    with pytest.raises(QueueDamaged, match=path):
        batches.lines(batches.index(path, 7), 4000, 5000)
    batches.close()


def test_a_newer_format_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, ["1"])
    content = Path(path).read_bytes().replace(b'"minionize":1', b'"minionize":9')
    Path(path).write_bytes(content)
    with pytest.raises(ForeignVersion, match="format 9"):
        Batches(Calls()).index(path, 7)


def test_what_does_not_appear_is_waited_for(tmp_path: Path) -> None:
    with pytest.raises(NotVisible):
        Batches(Calls()).index(str(tmp_path / "later"), 1)


def test_a_draft_learns_its_number_under_the_lock(tmp_path: Path) -> None:
    batches = Batches(Calls())
    draft, path = str(tmp_path / "draft"), str(tmp_path / "1")
    batches.draft(draft, encode(["1", "2"], kind="p", owner="m", number=1, first=1))
    batches.renumber(draft, 12, 345)
    batches.link(draft, path)
    batches.link(draft, path)  # a repeated request
    index = batches.index(path, 12)
    assert (index.number, index.first, batches.lines(index, 0, 2)) == (12, 345, ["1", "2"])
    batches.draft(draft + "2", encode(["3"], kind="p", owner="n", number=12, first=1))
    batches.forget(path)
    batches.link(draft + "2", path)  # over an orphan
    assert batches.index(path, 12).owner == "n"
    batches.close()


@pytest.mark.parametrize("line", ["1\n2", "\n", "\ud800"])
def test_a_text_that_is_no_line_is_refused(line: str) -> None:
    with pytest.raises(BadParam):
        encode(["1", line], kind="p", owner="m")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
)


@given(st.integers(1, 10**12), json_values, st.integers(1, 99), st.booleans(), st.text(max_size=50))
def test_records_come_back(
    number: int, param: object, count: int, suspect: bool, detail: str
) -> None:
    record = Record(number, json.dumps(param), count, count - 1, count + 1, suspect)
    assert parse_record(record.line()) == record
    assert json.loads(record.line())[5] == param, "a line is JSON"
    why = ["exit 3", detail, 1.5, "m"]
    assert parse_dead(dead_line(record, why)) == (record, why)


def test_what_is_gone_already_keeps_no_other_draft_from_being_removed(tmp_path: Path) -> None:
    paths = [str(tmp_path / str(number)) for number in range(4)]
    for path in (paths[0], paths[1], paths[3]):
        Path(path).touch()
    Batches(Calls()).discard(paths)
    assert list(tmp_path.iterdir()) == []

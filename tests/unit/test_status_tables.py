"""CSV and JSON lines of results."""

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minionize.status.rows import OURS
from minionize.status.tables import cell, csv_lines, json_lines


def as_csv(*rows: dict[str, Any], for_terminal: bool = False) -> str:
    return "".join(csv_lines(rows, for_terminal=for_terminal))


def test_columns_are_all_keys_ours_last() -> None:
    ours = dict.fromkeys(OURS)
    text = as_csv({"b": 1, **ours, "_id": "1"}, {"a": "x", "b": 2, **ours, "_id": "2"})
    assert text == ("b,a,_id,_status,_attempt,_seconds,_host,_reason\n1,,1,,,,,\n2,x,2,,,,,\n")


def test_no_rows_no_header() -> None:
    assert as_csv() == ""


def test_values_that_are_no_strings_are_json() -> None:
    text = as_csv({"a": True, "b": None, "c": [1, "x"], "d": {"e": None}, "f": 0.1, "g": "true"})
    (row,) = csv.DictReader(io.StringIO(text))
    assert row == {
        "a": "true",
        "b": "",
        "c": '[1, "x"]',
        "d": '{"e": null}',
        "f": "0.1",
        "g": "true",
    }


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", "plain"),
        ("", '""'),
        (None, ""),
        ("a,b", '"a,b"'),
        ('say "x"', '"say ""x"""'),
        ("two\nlines", '"two\nlines"'),
        ("cr\rhere", '"cr\rhere"'),
        (" padded", '" padded"'),
    ],
)
def test_cells(value: str | None, shown: str) -> None:
    assert cell(value) == shown


# Python's own reader knows NUL only from 3.11 on.
letters = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(st.lists(st.dictionaries(letters, letters, min_size=1), min_size=1, max_size=5))
def test_other_readers_get_the_same_cells(rows: list[dict[str, str]]) -> None:
    text = as_csv(*rows)
    names, *lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    assert set(names) == {name for row in rows for name in row}
    assert [dict(zip(names, line, strict=True)) for line in lines] == [
        {name: row.get(name, "") for name in names} for row in rows
    ]


def test_a_terminal_gets_no_control_characters() -> None:
    text = as_csv({"k\x1b[1m": "v\x1b[2J\r"}, for_terminal=True)
    assert text == "k\\x1b[1m\nv\\x1b[2J\\r\n"


def test_many_rows_go_through_a_file() -> None:
    rows = ({"n": n, "pad": "x" * 1000} for n in range(18_000))
    assert sum(1 for _ in csv_lines(rows)) == 18_001


def test_json_lines_are_ascii_that_prints() -> None:
    row = {"a": "\x1b\x7f\x9bé\udc80\n", "b": None}
    (line,) = json_lines([row])
    assert line[:-1].isprintable()
    assert line.isascii()
    assert json.loads(line) == row

"""What becomes of what a function returns, row by row of the table in docs/results.md."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import importlib.util
import ipaddress
import json
import math
import pathlib
import re
import types
import uuid
from array import array
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minionize.worker.functions.encoding import Unkept, text_of

_ROW = re.compile(r"\| `(.+?)` \| (`(.+)`|no result|failure)(?: \(.*\)|: .*)? \|")


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class Run:
    loss: float
    file: Path
    color: Color


NAMES: dict[str, Any] = {
    "Color": Color, "Level": Level, "Run": Run, "Path": pathlib.Path, "UUID": uuid.UUID,
    "Decimal": decimal.Decimal, "Fraction": fractions.Fraction, "array": array, "re": re,
    "SimpleNamespace": types.SimpleNamespace, "ip_address": ipaddress.ip_address,
    **{name: getattr(collections, name) for name in ("namedtuple", "deque", "Counter")},
    **{name: getattr(datetime, name) for name in
       ("datetime", "date", "time", "timedelta", "timezone")},
}  # fmt: skip


def _rows() -> list[tuple[str, str]]:
    page = (Path(__file__).parents[2] / "docs" / "results.md").read_text()
    table = page.split("|---|---|\n")[1].split("\n\n")[0]
    rows = [_ROW.fullmatch(line) for line in table.splitlines()]
    assert all(rows), [line for line, row in zip(table.splitlines(), rows, strict=True) if not row]
    return [(row[1], row[3] or row[2]) for row in rows if row]


def _value(expression: str) -> Any:
    names = dict(NAMES)
    if "np." in expression:
        names["np"] = pytest.importorskip("numpy")
    if "pd." in expression:
        names["pd"] = pytest.importorskip("pandas")
    if "Attrs" in expression:
        attr = pytest.importorskip("attr")
        names["Attrs"] = attr.make_class("Attrs", ["x"])
    if "Model" in expression:
        names["Model"] = pytest.importorskip("pydantic").create_model("Model", x=(int, ...))
    return eval(expression, names)


@pytest.mark.parametrize(("returned", "becomes"), _rows())
def test_each_row_of_the_page(returned: str, becomes: str) -> None:
    value = _value(returned)
    if becomes == "no result":
        assert value is None
    elif becomes == "failure":
        with pytest.raises(Unkept):
            text_of(value)
    else:
        assert text_of(value) == becomes
        assert text_of([value]) == f"[{becomes}]"
        json.loads(becomes, parse_constant=pytest.fail)


def test_the_page_has_over_forty_types() -> None:
    kinds = set()
    for returned, _ in _rows():
        try:
            kinds.add(type(_value(returned)))
        except pytest.skip.Exception:
            continue
    assert len(kinds) > 40 or not _has_libraries()


def _has_libraries() -> bool:
    return all(importlib.util.find_spec(name) for name in ("numpy", "pandas"))


class Net:
    __module__ = "__main__"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (Net(), "it is a Net,"),
        ({"a": [1, {"b": Net()}]}, "result['a'][1]['b'] is a Net,"),
        ([Run(0.5, Net(), Color.RED)], "result[0].file is a Net,"),  # type: ignore[arg-type]
        ({"a": {Net()}}, "result['a']{…} is a Net,"),
        ({"a": {(1,): 2}}, "result['a']'s key is a tuple,"),
        ({"a": {1: 2, "1": 3}}, "result['a'] is a dict, which has two keys that are both '1'"),
        ([10**5000], "result[0] is an int, which has more than 4,300 digits"),
    ],
)
def test_what_can_not_be_kept_is_named_with_its_place(value: Any, said: str) -> None:
    with pytest.raises(Unkept) as raised:
        text_of(value)
    assert said in str(raised.value)


class Hostile:
    def tolist(self) -> Any:
        raise OSError("never")


class Endless:
    def tolist(self) -> Any:
        return Endless()


def test_hostile_values() -> None:
    loop: list[Any] = []
    loop.append(loop)
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    for value in (Hostile(), Endless(), [Endless()], loop, deep):
        with pytest.raises(Unkept):
            text_of(value)
    while deep:  # or the interpreter would take it apart by recursion
        deep = deep.pop("a")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner)
    ),
    max_leaves=20,
)


@given(VALUES)
def test_whatever_is_kept_is_json_and_comes_back(value: Any) -> None:
    try:
        text = text_of(value)
    except Unkept as error:
        assert "two keys" in str(error)
        return
    assert text.isascii() and "\n" not in text
    got = json.loads(text, parse_constant=pytest.fail)
    assert _same(value, got)


def _same(value: Any, got: Any) -> bool:
    if isinstance(value, float):
        if math.isnan(value):
            return got is None
        finite = math.isfinite(value)
        return bool(got == (value if finite else str(value).replace("inf", "Infinity")))
    if isinstance(value, bytes):
        return isinstance(got, str)
    if isinstance(value, (list, tuple)):
        return len(value) == len(got) and all(map(_same, value, got))
    if isinstance(value, dict):
        return len(value) == len(got) and all(
            _same(member, got[str(key)]) for key, member in value.items()
        )
    return type(value) is type(got) and bool(value == got)

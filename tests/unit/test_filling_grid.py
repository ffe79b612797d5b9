"""Grids: values, ranges and their order."""

from __future__ import annotations

import json
import tracemalloc
from decimal import Decimal
from itertools import chain, islice, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minionize.errors import UsageError
from minionize.filling.grid import grid_batches, grid_size, parse_grid
from minionize.filling.shuffle import shuffled


def values(word: str) -> list[object]:
    """The values of one name."""
    [axis] = parse_grid([f"x={word}"])
    listed = [json.loads(text) for text in axis.values()]
    assert len(listed) == axis.size
    return listed


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("0.1,0.01", [0.1, 0.01]),
        ("a,b", ["a", "b"]),
        ("true,null,x", [True, None, "x"]),
        ('[1,2],{"a":3},"b,c"', [[1, 2], {"a": 3}, "b,c"]),
        ("0:3", [0, 1, 2]),
        ("3:0:-1", [3, 2, 1]),
        ("0:10:4,100", [0, 4, 8, 100]),
        ("7,0:2,x", [7, 0, 1, "x"]),
        ("-2:1", [-2, -1, 0]),
        ("0:1e3:1e2", list(range(0, 1000, 100))),
        ("0:0.4:0.1", [0.0, 0.1, 0.2, 0.3]),
        ("0:0.35:0.1", [0.0, 0.1, 0.2, 0.3]),
        (".5:2", [0.5, 1.5]),
        ("1:0.7:-0.1", [1.0, 0.9, 0.8]),
        ("007", ["007"]),
        ("é", ["é"]),
        ("a:b", ["a:b"]),
        ('"12:30"', ["12:30"]),
        ("[a,b]", ["[a", "b]"]),
        ("x=y", ["x=y"]),
    ],
)
def test_values(word: str, wanted: list[object]) -> None:
    got = values(word)
    assert got == wanted
    assert [type(value) for value in got] == [type(value) for value in wanted]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "needs values"),
        (["jobs.txt"], "'jobs.txt' is no name=values"),
        (["=1"], "is no name=values"),
        (["a="], "empty value"),
        (["a=1,,2"], "empty value"),
        (["a=1,"], "empty value"),
        (["a=1", "a=2"], "named twice"),
        (["a=5:5"], "empty range"),
        (["a=5:1"], "goes down"),
        (["a=0:5:0"], "step of 0"),
        (["a=0:5:-1"], "empty range"),
        (["a=:100"], "such as 0:100"),
        (["a=5:"], "both ends"),
        (["a=0:1e999999"], "from -1e18 to 1e18"),
        (["a=0:1:1e-999999"], "from -1e18 to 1e18"),
    ],
)
def test_what_is_wrong_is_named(words: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_grid(words)


@given(
    st.decimals(-1000, 1000, places=3), st.integers(0, 50), st.decimals(-10, 10, places=3),
    st.decimals(0, 1, places=2).filter(lambda part: part < 1),
)  # fmt: skip
def test_ranges_are_exact_and_half_open(
    begin: Decimal, steps: int, step: Decimal, part: Decimal
) -> None:
    end = begin + step * steps + step * part
    if not step or (not steps and not part):
        return
    wanted = [float(begin + place * step) for place in range(steps + (part > 0))]
    assert values(f"{begin:f}:{end:f}:{step:f}") == wanted


@given(st.lists(st.lists(st.integers(), min_size=1, max_size=4), min_size=1, max_size=4))
def test_the_last_name_changes_fastest(axes: list[list[int]]) -> None:
    words = [f"n{place}={','.join(map(str, axis))}" for place, axis in enumerate(axes)]
    parsed = parse_grid(words)
    got = [json.loads(text) for text in chain.from_iterable(grid_batches(parsed))]
    names = [f"n{place}" for place in range(len(axes))]
    assert got == [dict(zip(names, point, strict=True)) for point in product(*axes)]
    assert grid_size(parsed) == len(got)


def test_a_name_may_be_anything() -> None:
    [text] = chain.from_iterable(grid_batches(parse_grid(['%s"é=1'])))
    assert json.loads(text) == {'%s"é': 1}


def test_a_grid_is_streamed() -> None:
    axes = parse_grid(["a=0:1000000000000", "b=0:1000000000000:0.5"])
    tracemalloc.start()
    first = list(islice(chain.from_iterable(grid_batches(axes)), 3))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert first == ['{"a":0,"b":0.0}', '{"a":0,"b":0.5}', '{"a":0,"b":1.0}']
    assert grid_size(axes) == 2 * 10**24
    assert peak < 4 << 20


@given(
    st.lists(st.lists(st.integers(0, 50), max_size=20), max_size=10), st.integers(),
    st.sampled_from([1, 500, 1 << 20]),
)  # fmt: skip
def test_shuffling_keeps_every_text_and_the_seed_decides(
    batches: list[list[int]], seed: int, memory_bytes: int
) -> None:
    texts = [list(map(str, batch)) for batch in batches]
    got = [
        list(chain.from_iterable(shuffled(texts, seed=seed, memory_bytes=memory_bytes)))
        for _ in range(2)
    ]
    assert got[0] == got[1]
    assert sorted(got[0]) == sorted(chain.from_iterable(texts))


@pytest.mark.parametrize("memory_bytes", [1, 1 << 20])
def test_each_place_is_equally_likely(memory_bytes: int) -> None:
    texts = [["a", "b", "c"]]
    rounds = 600
    first = [next(chain.from_iterable(shuffled(texts, seed=seed, memory_bytes=memory_bytes)))
             for seed in range(rounds)]  # fmt: skip
    for text in "abc":
        # Six standard deviations around a third.
        assert abs(first.count(text) - rounds / 3) < 70


def test_shuffling_is_bounded_in_memory() -> None:
    batches = (
        [f"{place:010}" for place in range(start, start + 1000)]
        for start in range(0, 200_000, 1000)
    )
    tracemalloc.start()
    count = sum(map(len, shuffled(batches, memory_bytes=1 << 20)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 200_000
    assert peak < 8 << 20

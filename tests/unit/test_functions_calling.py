"""How functions are found, how they take a param, and what travels between processes."""

from __future__ import annotations

import functools
import json
import math
import os
import pickle
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minionize.callbacks.calling import find, parse_spec, takes_whole
from minionize.callbacks.func import FuncCallback, overrides_hooks
from minionize.errors import RetryLater, UsageError
from minionize.values import Lease
from minionize.worker.functions import records, results
from minionize.worker.functions.sharing import BATCH_MOST, batch, shares, without
from minionize.worker.functions.slot import Slot


def one(param: Any) -> None: ...
def default(param: Any = 3) -> None: ...
def two(a: int, b: int = 2) -> None: ...
def star(*params: Any) -> None: ...
def keywords(**params: Any) -> None: ...
def keyword_only(*, param: Any) -> None: ...
def position_only(param: Any, /) -> None: ...
def none() -> None: ...


class Model:
    def __init__(self, lr: float = 0.1) -> None: ...
    def run(self, param: Any) -> None: ...
    def run_two(self, lr: float, seed: int) -> None: ...
    def __call__(self, param: Any) -> None: ...


@pytest.mark.parametrize(
    ("func", "whole"),
    [
        (one, True),
        (default, True),
        (position_only, True),
        (two, False),
        (star, False),
        (keywords, False),
        (keyword_only, False),
        (Model().run, True),
        (Model().run_two, False),
        (Model(), True),
        (Model, True),
        (functools.partial(two, 1), True),
        (functools.partial(two, b=1), False),
        (len, True),
        (str, True),
        (lambda param: None, True),
    ],
)
def test_who_gets_the_param_as_it_is(func: Any, whole: bool) -> None:
    assert takes_whole(func) is whole


async def coroutine(param: Any) -> None: ...
async def async_generator(param: Any) -> AsyncIterator[None]:
    yield


def generator(param: Any) -> Iterator[None]:
    yield


@pytest.mark.parametrize("func", [coroutine, async_generator, generator])
def test_a_function_that_a_call_would_not_run_is_refused(func: Any) -> None:
    with pytest.raises(UsageError, match=r"\(\) is .*, so calling it runs nothing"):
        takes_whole(func)


def test_a_function_without_parameters_is_refused() -> None:
    with pytest.raises(UsageError, match=r"none\(\) takes no parameter"):
        takes_whole(none)


@pytest.mark.parametrize("spec", ["train", "train:", ":run", "train:run()", "a b:c", "./t:f", ""])
def test_specs_that_are_none(spec: str) -> None:
    with pytest.raises(UsageError, match="module:function"):
        parse_spec(spec)


def test_specs() -> None:
    assert parse_spec("pkg.train:Model.run") == ("pkg.train", "Model.run")
    with pytest.raises(UsageError, match="not a file: train:run"):
        parse_spec("train.py:run")
    assert find("os.path", "join") is os.path.join


def test_functions_that_can_be_imported_are_not_pickled() -> None:
    origin = FuncCallback(json.dumps).origin()
    assert (origin.module, origin.name, origin.pickled) == ("json", "dumps", b"")
    assert FuncCallback(len).origin()[:2] == ("builtins", "len")
    assert FuncCallback.from_spec("no.such:thing").origin()[:2] == ("no.such", "thing")


@pytest.mark.parametrize("func", [lambda x: 2 * x, functools.partial(pow, 2), Model().run])
def test_others_are(func: Any) -> None:
    origin = FuncCallback(func).origin()
    assert not origin.module
    assert callable(pickle.loads(origin.pickled))


def test_what_cannot_leave_this_process_is_said() -> None:
    lock = threading.Lock()
    with pytest.raises(UsageError, match="--inline"):
        FuncCallback(lambda x: lock.acquire(timeout=x)).origin()


def test_only_functions() -> None:
    with pytest.raises(TypeError, match="FuncCallback needs a function"):
        FuncCallback(3)  # type: ignore[arg-type]


def test_overridden_hooks() -> None:
    class Quiet(FuncCallback):
        pass

    class Loud(FuncCallback):
        def teardown_ok(self, param: Any, engine: Any) -> None: ...

    assert not overrides_hooks(FuncCallback(one))
    assert not overrides_hooks(Quiet(one))
    assert overrides_hooks(Loud(one))


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("never")


def test_tracebacks_of_hostile_exceptions() -> None:
    for error in (Unprintable(), ValueError("x" * 100_000)):
        try:
            raise error
        except Exception as caught:
            fields = results.failed(caught)
            assert fields.reason == type(error).__name__
            assert 0 < len(fields.detail) <= records.MOST_DETAIL + 1


@pytest.mark.parametrize(
    ("code", "instead"),
    [(75, "minionize.RetryLater"), (65, "minionize.Reject"), (75 + 256, "RetryLater"), (3, "")],
)
def test_a_status_that_is_special_for_programs_is_a_failure_that_names_what_a_function_raises(
    code: int, instead: str
) -> None:
    fields = results.failed(SystemExit(code))
    assert (fields.verdict, fields.reason) == ("failed", f"exit {code & 255}")
    assert instead in fields.detail.splitlines()[-1]
    assert ("as the status of a program" in fields.detail) == bool(instead)


@pytest.mark.parametrize(
    ("asked", "delay_s"),
    [
        (None, None),
        (3, 3.0),
        (0.5, 0.5),
        (-1, 0.0),
        (math.nan, None),
        (math.inf, None),
        ("x", None),
    ],
)
def test_delays_that_a_function_asks_for(asked: Any, delay_s: float | None) -> None:
    assert results.failed(RetryLater(asked)).delay_s == delay_s


TEXTS = st.text(max_size=50)


@given(
    st.lists(
        st.one_of(
            TEXTS,
            st.builds(
                records.Fields,
                verdict=st.sampled_from(["done", "failed", "later", "rejected"]),
                reason=TEXTS,
                detail=TEXTS,
                delay_s=st.one_of(st.none(), st.floats(0, 1e6)),
                result=st.one_of(st.none(), TEXTS),
                exit_status=st.none(),
                cpu_s=st.one_of(st.none(), st.floats(0, 1e6)),
                peak_below=st.booleans(),
                peak_kib=st.one_of(st.none(), st.integers(0, 1 << 40)),
            ),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_records_come_back(noted: list[str | records.Fields]) -> None:
    lines = b"".join(
        records.encode_result(what) if isinstance(what, str) else records.encode(1, 2, what)
        for what in noted
    )
    got = records.decode(lines)
    for what, record in zip(noted, got, strict=True):
        if isinstance(what, str):
            assert record == what
        else:
            assert record[:2] == [1, 2] and records.Fields(**record[2]) == what


def test_batches() -> None:
    assert batch(1e-9) == BATCH_MOST
    assert batch(0.001) == 250
    assert batch(10.0) == 1


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=6),
    st.integers(0, 200),
)
def test_shares_are_whole_and_even(loads: list[int], count: int) -> None:
    slots = [Slot(index, "/tmp", False) for index in range(len(loads))]
    try:
        for slot, load in zip(slots, loads, strict=True):
            slot.queue.extend(Lease("q", "1") for _ in range(load))
        todo = [Lease(str(n), "1") for n in range(count)]
        given_out = shares(slots, todo)
        assert [lease for _, part in given_out for lease in part] == todo
        after = {id(slot): slot.load() for slot in slots}
        for slot, part in given_out:
            after[id(slot)] += len(part)
        grown = [after[id(slot)] for slot, _ in given_out]
        if grown:
            # The last one may get less than the others, by what rounding took from it.
            assert max(grown) <= -(-(sum(loads) + count) // len(loads)) or max(grown) <= (
                min(after.values()) + len(loads)
            )
    finally:
        for slot in slots:
            slot.close()


def test_leases_are_taken_out_of_what_is_pending() -> None:
    leases = [Lease(str(n), "1") for n in range(6)]
    pending = deque([(1.0, leases[:2]), (2.0, leases[2:3]), (3.0, leases[3:])])
    assert [lease.id for lease in without(pending, {"1", "2", "5"})] == ["1", "2", "5"]
    assert list(pending) == [(1.0, leases[:1]), (3.0, leases[3:5])]

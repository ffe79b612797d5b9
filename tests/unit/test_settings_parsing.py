"""Text to value: times, numbers, yes and no, tables of exit statuses."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minionize.settings import parsing


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("1.5", 1.5),
        (".5", 0.5),
        ("90s", 90),
        ("10m", 600),
        ("2h", 7200),
        ("1.5h", 5400),
        ("1d", 86400),
        ("1h30m", 5400),
        ("1h 30m 5s", 5405),
        ("250ms", 0.25),
        (" 2H ", 7200),
        ("1:30:00", 5400),
        ("5:00", 300),
        ("0:00:01.5", 1.5),
        ("100:00:00", 360000),
        (90, 90),
        (0.5, 0.5),
        ("0", 0),
    ],
)
def test_times(text: Any, seconds: float) -> None:
    assert parsing.seconds(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "-1",
        "10 parsecs",
        "1:2",
        "1:2:3:4",
        "h",
        "1h30",
        "m10",
        "nan",
        "inf",
        "1e3",
        "٣",
        None,
        True,
        -1,
        float("nan"),
        float("inf"),
        [90],
    ],
)
def test_no_times(text: Any) -> None:
    with pytest.raises(ValueError, match="write 90, 10m, 2h, 7d or 1:30:00"):
        parsing.seconds(text)


@given(st.text(max_size=10))
def test_no_text_breaks_the_reading_of_times(text: str) -> None:
    try:
        assert parsing.seconds(text) >= 0
    except ValueError as error:
        assert "is no time" in str(error)


@given(st.integers(0, 10**6))
def test_clock_times_are_seconds(whole: int) -> None:
    clock = f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
    assert parsing.seconds(clock) == parsing.seconds(f"{whole}") == whole


def test_time_outs_of_0_are_none() -> None:
    assert parsing.seconds_or_never("0") is None
    assert parsing.seconds_or_never("5") == 5


@pytest.mark.parametrize("text", ["0", "0.0", 0])
def test_leases_are_never_0(text: Any) -> None:
    with pytest.raises(ValueError, match="too short"):
        parsing.seconds_above_0(text)


def test_whole_numbers() -> None:
    whole = parsing.whole_from(1)
    assert [whole("3"), whole(3), whole(" 12 ")] == [3, 3, 12]
    for bad in ("0", "-3", "1.5", "x", "", True, 2.0, None, "²"):
        with pytest.raises(ValueError, match="whole number from 1 on"):
            whole(bad)


@pytest.mark.parametrize("digits", [7, 19, 20, 5000])
def test_a_number_that_is_too_large_is_told_with_the_largest(digits: int) -> None:
    with pytest.raises(ValueError, match=r"^9+ is too large: write 100,000 or less$") as caught:
        parsing.minions("9" * digits)
    assert len(str(caught.value)) < 100
    assert parsing.minions(f"{'0' * 30}100000") == 100_000
    if digits > 18:
        with pytest.raises(ValueError, match=r"^9+ is too large: write 999,.* or less, or `auto`$"):
            parsing.slots("9" * digits)


def test_slots() -> None:
    assert parsing.slots("auto") == parsing.slots("AUTO") == "auto"
    assert parsing.slots("8") == parsing.slots(8) == 8
    with pytest.raises(ValueError, match="write one, or `auto`"):
        parsing.slots("many")


def test_yes_and_no() -> None:
    for text in ("1", "true", "Yes", " on ", True, 1):
        assert parsing.flag(text) is True
    for text in ("0", "false", "NO", "off", False, 0):
        assert parsing.flag(text) is False
    with pytest.raises(ValueError, match="neither yes nor no"):
        parsing.flag("maybe")


def test_exit_statuses() -> None:
    usual = {0: "done", 65: "dead", 75: "later"}
    assert parsing.on_exit("") == usual
    assert parsing.on_exit("3=done") == {**usual, 3: "done"}
    assert parsing.on_exit("75=failed, 4=LATER,") == {**usual, 75: "failed", 4: "later"}
    assert parsing.on_exit({75: "dead"}) == {**usual, 75: "dead"}
    for bad in ("3", "3=", "=done", "256=done", "-1=done", "x=done", "3=gone", "3=done=4"):
        with pytest.raises(ValueError, match="maps no exit status"):
            parsing.on_exit(bad)

"""The status page: what queue and report come to, and how it is drawn."""

import json
import math
import re
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minionize.reporters.rollup import MinionRoll, RollUp, Timeline
from minionize.status.escape import safe, safe_lines, short
from minionize.status.overview import Overview, overview, rates_over_time
from minionize.status.render import duration, page, seconds
from minionize.values import MinionInfo, Stats

NOW = 1_700_000_000.0
HOSTILE = "\x1b[2J\x1b]0;owned\x07\r\n\u202e\x9b31m\x00\udc80"


def roll(
    minion: str = "node1-1-a",
    began: float = NOW - 100,
    at_s: float = NOW - 5,
    done: int = 0,
    ended: str | None = None,
    points: list[tuple[float, int, int]] | None = None,
    **counts: object,
) -> MinionRoll:
    return MinionRoll(
        minion,
        "host",
        1,
        4,
        "true",
        began,
        at_s,
        2,
        ended,
        RollUp(done=done, **counts),  # type: ignore[arg-type]
        Timeline(points or [(at_s - began, done, 0)]),
    )


def view_of(
    stats: Stats = Stats(),  # noqa: B008
    known: tuple[MinionInfo, ...] = (),
    rolls: tuple[MinionRoll, ...] = (),
    **more: object,
) -> Overview:
    return overview("file:q", stats, known, rolls, now=NOW, **more)  # type: ignore[arg-type]


def assert_tame(text: str) -> None:
    """Nothing in it that a terminal obeys."""
    assert all(char == "\n" or char.isprintable() for char in text)


def test_a_queue_without_report() -> None:
    view = view_of(
        Stats(put=10, waiting=6, delayed=0, running=1, done=2, dead=1, purged=0, minions=1),
        (MinionInfo("m-1-a", "node3", 5, 2, 1, 3.0),),
    )
    text = page(view)
    assert "waiting 6   delayed 0   running 1   done 2   dead 1" in text
    assert " 30 % of 10" in text
    assert re.search(r"m-1-a +node3 +2 +1 +3 s ago +working", text)
    assert "rate" not in text


def test_what_was_lost_was_not_purged() -> None:
    text = page(view_of(Stats(put=10, waiting=5, done=0, purged=5, lost=3)))
    assert "2 purged or moved" in text and "3 lost:" in text
    text = page(view_of(Stats(put=10, waiting=5, done=0, purged=5, lost=5)))
    assert "purged" not in text and "5 lost:" in text
    # Where neither is counted among the other, as in Pulsar.
    assert "3 lost:" in page(view_of(Stats(lost=3)))


def test_of_a_queue_that_was_emptied_there_is_no_share() -> None:
    text = page(view_of(Stats(put=10, waiting=0, done=0, purged=10)))
    assert "10 purged or moved" in text and "%" not in text


def test_a_queue_that_can_not_count() -> None:
    text = page(view_of(rolls=(roll(done=7, dead=2, ended="idle"),)))
    assert "waiting ?   delayed ?   running ?   done 7   dead 2" in text
    assert "%" not in text.split("\n\n")[0]


def test_rates_remaining_time_and_minions() -> None:
    stats = Stats(put=1000, waiting=590, delayed=0, running=10, done=400, dead=0, minions=2)
    known = (
        MinionInfo("node1-1-a", "node1", 1, 4, 3, 2.0),
        MinionInfo("feed-1-a", "front", 1, 0, 0, 1.0, feeder=True),
    )
    rolls = (
        # 100 in the last 50 s of its 95 s; the other one was killed a while ago.
        roll(done=150, points=[(10.0, 10, 0), (45.0, 50, 0), (95.0, 150, 0)]),
        roll("node2-1-b", at_s=NOW - 40, done=250, points=[(60.0, 250, 0)]),
        roll("node3-1-c", began=NOW - 90, at_s=NOW - 50, done=0, ended="stopped"),
    )
    view = view_of(stats, known, rolls)
    assert view.rate_now == pytest.approx(2.0)
    assert view.rate_mean == pytest.approx(400 / 95)
    assert view.remaining_s == pytest.approx(300)
    states = {minion.id: (minion.state, minion.running) for minion in view.minions}
    assert states == {
        "node1-1-a": ("working", 3),
        "feed-1-a": ("feeding", 0),
        "node2-1-b": ("gone", 0),
        "node3-1-c": ("stopped", 0),
    }
    text = page(view)
    assert "rate       2.0/s now, 4.2/s on average" in text
    assert "time left  about 5 min" in text
    assert re.search(r"node2-1-b .* 40 s ago +gone", text)
    assert json.loads(json.dumps(view.to_json()))["remaining_s"] == pytest.approx(300)


def test_without_a_registry_a_fresh_roll_up_means_alive() -> None:
    rolls = (roll("a", at_s=NOW - 10), roll("b", at_s=NOW - 300))
    assert [minion.state for minion in view_of(rolls=rolls).minions] == ["working", "gone"]


def test_silent_and_vanished_minions() -> None:
    known = (
        MinionInfo("a", "h", 1, 4, 3, 70.0),
        MinionInfo("b", "h", 1, 4, 3, 2.0),
        MinionInfo("c", "h", 1, 4, 3, 2.0),
        MinionInfo("d", "h", 1, 4, 3, 90.0),
    )
    rolls = (roll("a"), roll("b"), roll("e"))
    stats = Stats(minions=4)
    view = view_of(stats, known, rolls, vanished={"b", "c"})
    assert {minion.id: minion.state for minion in view.minions} == {
        "a": "silent",
        "b": "gone",
        "c": "gone",
        "d": "silent",
        "e": "gone",
    }


def test_rate_from_looks_where_there_is_no_report() -> None:
    stats = Stats(waiting=50, delayed=0, running=0, done=100, dead=0)
    view = view_of(stats, samples=[(NOW - 10, 80), (NOW, 100)])
    assert view.rate_now == pytest.approx(2.0)
    assert view.remaining_s == pytest.approx(25)
    assert view_of(stats, samples=[(NOW, 100)]).rate_now is None


def test_nobody_at_work_is_said() -> None:
    stats = Stats(put=5, waiting=5, delayed=0, running=0, done=0, dead=0, minions=0)
    assert "no minion is at work" in page(view_of(stats))


@given(
    st.lists(st.tuples(st.floats(0, 1000), st.lists(st.floats(0.1, 100), max_size=20)), max_size=8),
    st.integers(1, 80),
)
def test_no_work_is_lost_in_the_chart(
    minions: list[tuple[float, list[float]]], columns: int
) -> None:
    rolls = []
    for shift, steps in minions:
        at_s, points = 0.0, []
        for number, step in enumerate(steps, 1):
            at_s += step
            points.append((at_s, number * 3, 0))
        rolls.append(roll(began=NOW + shift, at_s=NOW + shift + at_s, points=points or [(0, 0, 0)]))
    duration = max([one.at_s for one in rolls], default=NOW) - NOW + 0.001
    rates = rates_over_time(rolls, NOW, duration, columns)
    assert len(rates) == columns
    assert min(rates) >= -1e-6
    done = sum(3 * len(steps) for _, steps in minions)
    assert math.fsum(rates) * duration / columns == pytest.approx(done, abs=1e-3)


def test_the_chart_shows_when_work_was_done() -> None:
    one = roll(began=NOW, at_s=NOW + 100, done=100, points=[(50.0, 0, 0), (100.0, 100, 0)])
    rates = rates_over_time([one], NOW, 100.0, 10)
    assert rates == pytest.approx([0.0] * 5 + [2.0] * 5)
    view = overview("file:q", Stats(), (), [one], now=NOW + 101, columns=40)
    text = page(view, width=60)
    assert "done per second" in text
    assert "2.00" in text
    assert "┤" in text


# No clock tells less than a nanosecond.
LASTED = st.sampled_from([0.0, 5e-324, 1e-9, 1e-6, 0.00099999, 0.99999, 99.999]) | st.floats(
    1e-9, 1e6
)


@given(st.lists(LASTED, min_size=1, max_size=60))
def test_the_durations_that_are_shown_hold_the_true_ones(lasted: list[float]) -> None:
    one = RollUp(done=len(lasted))
    one.add_seconds(lasted)
    text = page(view_of(rolls=(MinionRoll("m", "h", 1, 1, "x", NOW - 9, NOW, 0, "drained", one),)))
    found = re.search(
        r"durations  median (?:(?P<low>.+) to )?(?P<high>.+), 95 % within (?P<most>.+), longest "
        r"(?P<longest>.+)",
        text,
    )
    assert found is not None, text
    high, most = in_seconds(found["high"]), in_seconds(found["most"])
    low = high if found["low"] is None else in_seconds(found["low"])
    lasted.sort()
    # The longest is shown with three digits, or two units of time.
    true = statistics.median(lasted)
    assert low * (1 - 1e-9) <= true or shown_alike(low, true)
    assert true <= high * (1 + 1e-9) or shown_alike(high, true)
    within = lasted[math.ceil(0.95 * len(lasted)) - 1]
    assert within <= most * (1 + 1e-9) or shown_alike(most, within)
    assert shown_alike(in_seconds(found["longest"]), lasted[-1]) or lasted[-1] < 1e-9


def in_seconds(text: str) -> float:
    """What a shown duration says."""
    sizes = {"µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
    words = text.split()
    return sum(
        float(value) * sizes[unit] for value, unit in zip(words[::2], words[1::2], strict=True)
    )


def shown_alike(one: float, other: float) -> bool:
    return duration(one) == duration(other)


def test_figures_of_runs() -> None:
    one = RollUp(done=100, lost=1, given_back=3, unwritten=2, cpu_sum=7200.0, cpu_max=90.0)
    one.add_seconds([0.010] * 90 + [20.0] * 10)
    one.add_peak(300 * 1024, False)
    one.reasons = {"exit 3": 7, "signal SIGSEGV": 9}
    view = view_of(rolls=(MinionRoll("m", "h", 1, 1, "x", NOW - 9, NOW, 0, "drained", one),))
    text = page(view)
    assert "durations  median 9.99 ms to 11.6 ms, 95 % within 20 s, longest 20 s" in text
    assert "CPU        2 h in all, 90 s at most" in text
    assert "memory     300.0 MiB at most" in text
    assert "1 lease lost" in text
    assert "2 events could not be written" in text
    assert text.index("signal SIGSEGV") < text.index("exit 3")


def test_memory_that_is_only_known_to_be_below() -> None:
    text = page(view_of(rolls=(roll(done=1, peak_below_kib=9216),)))
    assert "memory     below 9.0 MiB" in text


def test_long_lists_are_cut_and_say_so() -> None:
    rolls = tuple(roll(f"m-{n}") for n in range(50))
    rolls[0].roll.reasons = {f"reason {n}": n + 1 for n in range(30)}
    view = view_of(rolls=rolls)
    text = page(view)
    assert "and 30 more: --all lists them" in text
    assert "and 20 other reasons" in text
    assert page(view, minions=None).count("\nm-") == 50


def test_nothing_hostile_reaches_the_terminal() -> None:
    view = view_of(
        Stats(put=2, waiting=1, delayed=1, running=0, done=0, dead=0, due_in_s=-5.0, paused=True),
        (MinionInfo(HOSTILE, HOSTILE, 1, 1, 1, 1.0),),
        (roll(HOSTILE + "2", done=3, ended=HOSTILE, reasons={HOSTILE: 2}, lost=1),),
        notes=[HOSTILE],
    )
    view.url = HOSTILE
    text = page(view)
    assert_tame(text)
    assert "\\x1b[2J" in text
    assert "paused" in text


@given(st.text(), st.integers(0, 50))
def test_escaping(text: str, width: int) -> None:
    assert_tame(safe(text))
    for line in safe_lines(text):
        assert_tame(line.replace("\t", ""))
    assert len(short(text, width)) <= max(width, 1)
    if text.isprintable():
        assert safe(text) == text


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (125, "2 min 5 s"),
        (3600, "1 h"),
        (3725, "1 h 2 min"),
        (86400 * 2 + 3600 * 3 + 5, "2 d 3 h"),
        (86400 + 5, "1 d"),
    ],
)
def test_times_as_people_say_them(value: float, said: str) -> None:
    assert seconds(value) == said

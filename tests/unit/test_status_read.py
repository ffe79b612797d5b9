"""Reading a report: whole, torn, packed, rotated, noisy, foreign; and roll-ups alone."""

import gzip
import json
import math
import os
import random
import re
import statistics
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minionize.events import Event, Kind
from minionize.reporters.json_lines import JsonReporter
from minionize.reporters.record import Source, header_line
from minionize.reporters.rollup import PER_DECADE, RollUp, bucket_of, bucket_seconds
from minionize.status import read
from minionize.status.read import Faults, parts, read_events, read_rolls
from minionize.values import SystemClock

BEGAN = 1_700_000_000.0


def write_report(
    folder: Path, minion: str, events: list[Event], rotate_bytes: int = 1 << 23, close: bool = True
) -> JsonReporter:
    reporter = JsonReporter(
        str(folder),
        Source(minion, f"host-of-{minion}", 7, 2, "true", BEGAN),
        clock=SystemClock(),
        warn=pytest.fail,
        rotate_bytes=rotate_bytes,
    )
    for first in range(0, len(events), 1000):
        reporter.report(events[first : first + 1000])
    if close:
        reporter.close()
    return reporter


def acks(first: int, count: int) -> list[Event]:
    return [
        Event(Kind.ACK, BEGAN + n / 1000, str(n), 1, 0, 0.25, 0, 0.125, 4096)
        for n in range(first, first + count)
    ]


def ids(folder: Path) -> tuple[list[str], Faults]:
    faults = Faults()
    return [event.id for _, event in read_events(folder, faults)], faults


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert ids(tmp_path / "none") == ([], Faults())
    assert read_rolls(tmp_path / "none", Faults()) == []


def test_several_minions_several_parts_in_order(tmp_path: Path) -> None:
    write_report(tmp_path, "b-1-x", acks(1, 20_000), rotate_bytes=100_000)
    write_report(tmp_path, "a-1-x", acks(50_001, 3))
    found, faults = ids(tmp_path)
    assert found == ["50001", "50002", "50003", *map(str, range(1, 20_001))]
    assert faults == Faults()
    assert len([part for part in parts(tmp_path) if part.packed]) > 3


def test_a_torn_last_line_is_skipped_and_counted(tmp_path: Path) -> None:
    write_report(tmp_path, "m-1-a", acks(1, 3))
    path = tmp_path / "m-1-a.0001.jsonl"
    path.write_bytes(path.read_bytes()[:-10])
    found, faults = ids(tmp_path)
    assert (found, faults.torn, faults.broken) == (["1", "2"], 1, 0)
    assert faults.lines() == []


def test_noise_is_skipped_and_counted(tmp_path: Path) -> None:
    write_report(tmp_path, "m-1-a", acks(1, 2))
    path = tmp_path / "m-1-a.0001.jsonl"
    noise = [
        b'["a",1,"9"',
        b"[" * 100_000,
        b'["a",1e999,"9",1]',
        b"\x00\x00\x00",
        b"\xff\xfe noise",
        b'{"neither":"header"}',
        b"",
        b'["a",0,"8",1,0,1,0,0,0,{"outz":"noise"}]',
    ]
    with open(path, "ab") as file:
        file.write(b"\n".join(noise) + b"\n")
        file.write(b'["a",5,"3"]\n')
    found, faults = ids(tmp_path)
    assert found[:2] == ["1", "2"]
    assert found[-1] == "3"
    # All but the empty line; an infinite moment may pass for a moment.
    assert faults.broken >= len(noise) - 2
    assert "are no events" in faults.lines()[0]


def test_a_line_without_end_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "LINE_LIMIT", 1000)
    write_report(tmp_path, "m-1-a", acks(1, 2))
    with open(tmp_path / "m-1-a.0001.jsonl", "ab") as file:
        file.write(b"x" * 10_500 + b"\n" + b'["a",5,"3"]\n')
    found, faults = ids(tmp_path)
    assert (found, faults.broken) == (["1", "2", "3"], 1)


def test_a_newer_version_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    write_report(tmp_path, "m-1-a", acks(1, 2))
    (tmp_path / "n-1-a.0001.jsonl").write_text('{"minionize-report":2,"x":1}\n["a",1,"9"]\n')
    (tmp_path / "n-1-a.roll").write_text('{"minionize-roll":2}\n')
    found, faults = ids(tmp_path)
    assert found == ["1", "2"]
    (line,) = faults.lines()
    assert line.startswith("n-1-a.0001.jsonl: report of version 2")
    faults = Faults()
    assert [roll.minion for roll in read_rolls(tmp_path, faults)] == ["m-1-a"]
    assert list(faults.files) == ["n-1-a.roll"]


def test_a_file_without_header_is_named(tmp_path: Path) -> None:
    (tmp_path / "n-1-a.0001.jsonl").write_text('["a",1,"9"]\n')
    found, faults = ids(tmp_path)
    assert (found, faults.files) == ([], {"n-1-a.0001.jsonl": "has no header: not read"})


def test_a_header_may_come_again(tmp_path: Path) -> None:
    write_report(tmp_path, "m-1-a", acks(1, 1))
    with open(tmp_path / "m-1-a.0001.jsonl", "a") as file:
        file.write(header_line(Source("m-1-a", "other", 1, 1, "", BEGAN + 100)))
        file.write('["a",5,"2"]\n')
    faults = Faults()
    assert [(source.host, event.at_s) for source, event in read_events(tmp_path, faults)] == [
        ("host-of-m-1-a", BEGAN + 0.001),
        ("other", BEGAN + 105),
    ]


@pytest.mark.parametrize("damage", ["cut", "noise", "empty", "folder"])
def test_a_damaged_packed_part_is_named(tmp_path: Path, damage: str) -> None:
    write_report(tmp_path, "m-1-a", acks(1, 5))
    path = tmp_path / "m-1-a.0002.jsonl.gz"
    whole = gzip.compress(header_line(Source("m-1-a", began=BEGAN)).encode() + b'["a",5,"6"]\n')
    if damage == "folder":
        path.mkdir()
    else:
        path.write_bytes({"cut": whole[:-12], "noise": b"noise" * 9, "empty": b""}[damage])
    found, faults = ids(tmp_path)
    assert found[:5] == ["1", "2", "3", "4", "5"]
    assert (path.name in faults.files) == (damage != "empty")


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    write_report(tmp_path, "m-1-a", acks(1, 1))
    for name in ("notes.txt", "x.jsonl", ".m-1-a.roll.tmp", ".m-1-a.0001.jsonl.gz.tmp", "a b.roll"):
        (tmp_path / name).write_text("noise")
    found, faults = ids(tmp_path)
    assert (found, faults) == (["1"], Faults())
    assert len(read_rolls(tmp_path, faults)) == 1
    assert faults == Faults()


@pytest.mark.parametrize("text", ["", "{", "null", "[1]", '{"minionize-roll":1}', "\x00" * 10])
def test_a_damaged_roll_up_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "m-1-a.roll").write_text(text)
    faults = Faults()
    assert read_rolls(tmp_path, faults) == []
    assert list(faults.files) == ["m-1-a.roll"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.integers(0), st.integers(0), st.integers(0, 50), st.binary(max_size=30))
def test_any_damage_is_survived(
    tmp_path: Path, file: int, place: int, length: int, piece: bytes
) -> None:
    folder = tmp_path / str(random.random())
    write_report(folder, "m-1-a", acks(1, 300), rotate_bytes=5000)
    names = sorted(os.listdir(folder))
    path = folder / names[file % len(names)]
    content = bytearray(path.read_bytes())
    place %= len(content)
    content[place : place + length] = piece
    path.write_bytes(content)
    faults = Faults()
    list(read_events(folder, faults))
    read_rolls(folder, faults)


def test_status_of_a_million_events_reads_only_roll_ups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = acks(1, 1000)
    for minion in ("a-1-x", "b-1-x"):
        write_report(tmp_path, minion, batch * 500)
    opened: list[str] = []
    real = os.open

    def counting(path: str, flags: int, *args: Any, **more: Any) -> int:
        if not flags & os.O_DIRECTORY:
            opened.append(os.path.basename(path))
        return real(path, flags, *args, **more)

    monkeypatch.setattr(os, "open", counting)
    faults = Faults()
    together = RollUp()
    for roll in read_rolls(tmp_path, faults):
        together.merge(roll.roll)
    monkeypatch.undo()
    assert faults == Faults()
    assert together.done == 1_000_000
    assert sorted(opened) == ["a-1-x.roll", "b-1-x.roll"]
    assert sum((tmp_path / name).stat().st_size for name in opened) < 8192
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) > 2_000_000


@given(st.floats(0, 1e7, allow_nan=False))
def test_a_bucket_holds_its_durations(seconds: float) -> None:
    bucket = bucket_of(seconds)
    assert bucket >= 0
    middle = bucket_seconds(bucket)
    ratio = 10 ** (0.5 / PER_DECADE)
    assert (seconds + 1e-6) / ratio / 1.0001 <= middle + 1e-6 <= (seconds + 1e-6) * ratio * 1.0001


@given(st.lists(st.floats(1e-4, 1e5), min_size=1, max_size=200))
def test_quantiles_are_near_the_true_ones(seconds: list[float]) -> None:
    roll = RollUp()
    roll.add_seconds(seconds)
    for share in (0.5, 0.95, 1.0):
        rank = max(0, -(-int(share * 1000) * len(seconds) // 1000) - 1)
        true = sorted(seconds)[rank]
        found = roll.quantile(share)
        assert found is not None
        assert 0.8 < found / true < 1.25


@given(
    st.lists(
        st.one_of(st.floats(0, 1e7), st.sampled_from([0.0, 1e-6, 1.0, 10.0, 1e3])), min_size=1
    ),
    st.sampled_from([0.0, 0.01, 0.5, 0.9, 0.95, 0.99, 1.0]),
)
def test_quantiles_lie_between_their_bounds(seconds: list[float], share: float) -> None:
    roll = RollUp()
    roll.add_seconds(seconds)
    bounds, about = roll.between(share), roll.quantile(share)
    assert bounds is not None and about is not None
    low, high = bounds
    assert low <= about <= high <= max(seconds)
    ordered = sorted(seconds)
    exact = (len(ordered) - 1) * share
    below, above = ordered[math.floor(exact)], ordered[math.ceil(exact)]
    # As numpy and statistics have them: by place, and evenly between the two runs there.
    by_place = ordered[max(0, math.ceil(share * len(ordered)) - 1)]
    evenly = below + (above - below) * (exact - math.floor(exact))
    for true in (by_place, below, above, evenly):
        assert low <= true <= high * (1 + 1e-12)
    if share == 0.5:
        assert low <= statistics.median(ordered) <= high * (1 + 1e-12)
    if share == 0.95 and len(ordered) > 19:
        assert low <= statistics.quantiles(ordered, n=20)[-1] <= high * (1 + 1e-12)
    if low and bucket_of(ordered[0]) == bucket_of(ordered[-1]):
        assert high <= low * 1.16 + 1e-6


def test_the_middle_of_a_bucket_is_no_percentile() -> None:
    """20 runs, of which the longest took 55.8 s: all in one bucket with a middle of 52.3 s."""
    roll = RollUp()
    roll.add_seconds([49.1] * 18 + [55.8] * 2)
    for share in (0.5, 0.95):
        bounds = roll.between(share)
        assert bounds is not None
        assert 48 < bounds[0] < 49.1
        assert bounds[1] == 55.8


def test_no_runs_have_no_quantile() -> None:
    assert RollUp().quantile(0.5) is None
    assert RollUp().between(0.5) is None


def test_merging_adds_and_keeps_maxima() -> None:
    one, other = RollUp(), RollUp()
    one.add(Event(Kind.ACK, 0, "1", seconds=1.0, cpu_s=0.5, peak_kib=10))
    other.add(Event(Kind.ACK, 0, "2", seconds=3.0, cpu_s=2.5, peak_kib=99, peak_below=True))
    other.add(Event(Kind.GIVE_BACK, 0, "3", reason="exit 3", charged=True))
    other.add(Event(Kind.GIVE_BACK, 0, "3", reason="stopped"))
    other.add(Event(Kind.LOST, 0, "3"))
    other.add(Event(Kind.DEAD, 0, "3", reason="exit 3"))
    one.merge(other)
    assert (one.done, one.failed, one.given_back, one.lost, one.dead) == (2, 1, 1, 1, 1)
    assert one.reasons == {"exit 3": 2}
    assert one.back_reasons == {"stopped": 1, "lease lost": 1}
    assert (one.seconds_sum, one.seconds_max, one.cpu_sum, one.cpu_max) == (4.0, 3.0, 3.0, 2.5)
    assert (one.peak_kib, one.peak_below_kib) == (10, 99)


def test_the_format_page_tells_the_truth(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "report-format.md").read_text()
    blocks = re.findall(r"```\n(.*?)```", page, re.DOTALL)
    shown = next(block for block in blocks if block.startswith('{"minionize-report"'))
    (tmp_path / "node7-4711-9f3a2c.0001.jsonl").write_text(shown)
    faults = Faults()
    kinds = [event.kind for _, event in read_events(tmp_path, faults)]
    assert faults == Faults()
    assert set(kinds) == set(Kind)
    roll = next(block for block in blocks if block.startswith('{"minionize-roll"'))
    (tmp_path / "node7-4711-9f3a2c.roll").write_text(json.dumps(json.loads(roll)))
    (read_roll,) = read_rolls(tmp_path, faults)
    assert faults == Faults()
    assert read_roll.roll.done > 0


def test_rolls_are_equal_where_all_in_them_is() -> None:
    roll = RollUp()
    roll.done = 1
    assert roll != RollUp()
    assert roll != "a roll"
    roll.done = 0
    assert roll == RollUp()

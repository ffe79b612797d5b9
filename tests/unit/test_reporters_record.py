"""The lines of a report: small, and the same when read back."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minionize.errors import ForeignVersion
from minionize.events import Event, Kind
from minionize.reporters.json_lines import JsonReporter
from minionize.reporters.record import (
    RESULT_LIMIT,
    Source,
    event_line,
    header_line,
    parse_event,
    parse_header,
)

BEGAN = 1_700_000_000.123


@dataclass
class HandClock:
    """A clock that tests set."""

    now: float = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return BEGAN + self.now - 1000.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def written(tmp_path: Path, *events: Event) -> list[str]:
    """The lines that the reporter writes for these events, without the header."""
    reporter = JsonReporter(
        str(tmp_path / "report"),
        Source("minion-1-abc", "host", 1, 2, "true", BEGAN),
        clock=HandClock(),
        warn=pytest.fail,
    )
    reporter.report(events)
    reporter.close()
    (path,) = (tmp_path / "report").glob("*.jsonl")
    return path.read_text().splitlines()[1:]


def test_a_plain_ack_takes_100_bytes_at_most(tmp_path: Path) -> None:
    # After a month, on slot 127, a run of a day that used all of 64 GiB.
    biggest = Event(
        Kind.ACK,
        BEGAN + 30 * 86400.123,
        "9999999",
        attempt=3,
        slot=127,
        seconds=86399.123456,
        exit_status=0,
        cpu_s=86399.1234,
        peak_kib=64 * 1024 * 1024,
        peak_below=True,
    )
    usual = biggest._replace(at_s=BEGAN + 512.25, seconds=0.001234, cpu_s=0.0012, peak_kib=12345)
    lines = written(tmp_path, biggest, usual)
    assert [len(line.encode()) + 1 <= 100 for line in lines] == [True, True]
    assert len(lines[1]) <= 60


@pytest.mark.parametrize(
    "event",
    [
        Event(Kind.ACK, BEGAN, "1", 1, 0, 0.5, 0, 0.25, 2048),
        Event(Kind.ACK, BEGAN + 1.5, "1", 1, 0, 0.5, 0, 0.25, 2048, True),
        Event(Kind.ACK, BEGAN + 1.5, "1", 1, 0, 0.5),
        Event(Kind.ACK, BEGAN + 1.5, "1", 1, 0, 0.5, 3, None, None),
        Event(Kind.ACK, BEGAN + 1.5, "1", 1, 0, 0.5, None, 0.25, None),
        Event(Kind.ACK, BEGAN + 1.5, "1", 1, 0, None),
        Event(Kind.ACK, BEGAN + 1.5, "1", 1, 0, 0.5, result="null"),
        Event(Kind.ACK, BEGAN + 1.5, "1", 1, 0, 0.5, 0, 0.25, 2048, param='{"a":[1,2]}'),
        Event(Kind.ACK, BEGAN + 1.5, "1", 1, 0, 0.5, stdout="", stderr="\x1b[31m"),
        Event(Kind.ACK, BEGAN + 1.5, "1", 1, 0, 0.5, stdout="x" * 5000, stderr="é\udc80\n" * 900),
        Event(Kind.GIVE_BACK, BEGAN, "a.b-C_1", 2, 1, 0.5, -11, reason="signal SIGSEGV"),
        Event(Kind.GIVE_BACK, BEGAN, "1", reason="exit 3", charged=True, delay_s=2.0),
        Event(Kind.DEAD, BEGAN, "1", 3, 1, 0.5, 1, 0.1, 9, reason="exit 1", detail="boo\n\0"),
        Event(Kind.LOST, BEGAN, "7", 1, 3, 61.5),
        Event(Kind.BEGIN, BEGAN, command="a.out 'it''s' {}"),
        Event(Kind.END, BEGAN + 9, reason="drained"),
    ],
)
def test_what_is_reported_is_read_back(tmp_path: Path, event: Event) -> None:
    (line,) = written(tmp_path, event)
    assert parse_event(json.loads(line), BEGAN) == event


texts = st.text(st.characters(), max_size=40) | st.text(max_size=700)
jsons = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
amounts = st.integers(0, 10**9).map(lambda n: n / 10_000)
events = st.builds(
    Event,
    kind=st.sampled_from(Kind),
    at_s=st.integers(0, 10**10).map(lambda n: BEGAN + n / 1000),
    id=st.from_regex(r"[A-Za-z0-9._-]{1,20}", fullmatch=True),
    attempt=st.integers(0, 30),
    slot=st.integers(-1, 200),
    seconds=st.none() | amounts,
    exit_status=st.none() | st.integers(-64, 255),
    cpu_s=st.none() | amounts,
    peak_kib=st.none() | st.integers(1, 10**9),
    reason=texts.map(lambda text: text[:500]),
    detail=texts,
    charged=st.booleans(),
    delay_s=st.integers(0, 300).map(float),
    result=st.none() | jsons.map(lambda value: json.dumps(value, separators=(",", ":"))),
    stdout=st.none() | texts,
    stderr=st.none() | texts,
    param=st.none() | jsons.map(lambda value: json.dumps(value, separators=(",", ":"))),
    command=texts,
)


@given(events)
def test_any_event_is_one_line_and_is_read_back(event: Event) -> None:
    line = event_line(event, BEGAN)
    assert line.endswith("\n")
    assert len(line.splitlines()) == 1
    back = parse_event(json.loads(line), BEGAN)
    event = event._replace(peak_below=event.peak_below and event.peak_kib is not None)
    assert back.at_s == pytest.approx(event.at_s, abs=0.001)
    assert back._replace(at_s=event.at_s) == event


def test_a_result_in_other_letters_or_over_several_lines_stays_one_line(tmp_path: Path) -> None:
    event = Event(Kind.ACK, BEGAN, "1", 1, 0, 0.5, result='{"a":\n "é\u2028\udc80"\r\n}')
    path = tmp_path / "report" / "minion-1-abc.0001.jsonl"
    written(tmp_path, event)
    lines = path.read_bytes().splitlines()
    assert len(lines) == 2
    result = parse_event(json.loads(lines[1]), BEGAN).result
    assert result is not None
    assert json.loads(result) == {"a": "é\u2028\udc80"}


def test_a_result_that_is_too_large_leaves_its_size() -> None:
    event = Event(Kind.ACK, BEGAN, "1", 1, 0, 0.5, result='"' + "x" * RESULT_LIMIT + '"')
    line = event_line(event, BEGAN)
    assert len(line) < 200
    assert f'"result_bytes":{RESULT_LIMIT + 2}' in line
    assert parse_event(json.loads(line), BEGAN).result is None


def test_large_output_is_packed() -> None:
    event = Event(Kind.ACK, BEGAN, "1", 1, 0, 0.5, stdout="step 1 of 10\n" * 5000)
    assert len(event_line(event, BEGAN)) < 1000


def test_a_header_is_read_back_and_another_version_is_named() -> None:
    source = Source("m-1-a", "node7", 12, 8, "a.out {}", BEGAN)
    assert parse_header(json.loads(header_line(source))) == source
    with pytest.raises(ForeignVersion, match="version 2"):
        parse_header({"minionize-report": 2, "minion": "m"})
    with pytest.raises(ValueError, match="no header"):
        parse_header({"minion": "m"})


@pytest.mark.parametrize(
    "places",
    [["z", 1, "1"], ["a"], [{}], ["a", "x", "1"], ["a", 1, 5], ["a", None, "1"], ["a", 1, "1", []]],
)
def test_noise_is_no_event(places: list[object]) -> None:
    with pytest.raises((ValueError, TypeError, KeyError, IndexError)):
        parse_event(places, BEGAN)

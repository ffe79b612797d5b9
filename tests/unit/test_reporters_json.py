"""The json reporter on disk: buffering, rotation, packing, and ill fate."""

import contextlib
import errno
import gzip
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from minionize.beneath import LINK, NotFollowed
from minionize.events import Event, Kind
from minionize.reporters import open_reporter, report_folder
from minionize.reporters.json_lines import KEEP_BYTES, JsonReporter
from minionize.reporters.record import Source
from minionize.reporters.rollup import parse_roll
from minionize.status.read import Faults, read_events, read_rolls

BEGAN = 1_700_000_000.0
MINION = "node7-77-abcdef"


class HandClock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return BEGAN + self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def acks(first: int, count: int) -> list[Event]:
    return [
        Event(Kind.ACK, BEGAN + n / 1000, str(n), 1, 0, 0.25, 0, 0.125, 4096)
        for n in range(first, first + count)
    ]


class Room:
    """A reporter with what surrounds it."""

    def __init__(self, folder: Path, rotate_bytes: int = 1 << 23) -> None:
        self.folder = folder
        self.clock = HandClock()
        self.warnings: list[str] = []
        self.reporter = JsonReporter(
            str(folder),
            Source(MINION, "node7", 77, 4, "a.out {}", BEGAN),
            clock=self.clock,
            warn=self.warnings.append,
            rotate_bytes=rotate_bytes,
        )

    def ids(self) -> list[str]:
        faults = Faults()
        ids = [event.id for _, event in read_events(self.folder, faults)]
        assert faults == Faults()
        return ids

    def names(self) -> list[str]:
        return sorted(os.listdir(self.folder))


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path / "deep" / "report")


def test_events_are_in_the_file_at_once_and_rolled_up_at_a_beat(room: Room) -> None:
    """A minion reports before it settles: killed between, no result of a done param is lost."""
    room.reporter.report(acks(1, 3))
    assert room.ids() == ["1", "2", "3"]
    assert read_rolls(room.folder, Faults()) == []
    room.reporter.beat(2)
    (roll,) = read_rolls(room.folder, Faults())
    assert (roll.running, roll.roll.done, roll.ended, roll.host) == (2, 3, None, "node7")


def test_events_and_roll_are_on_disk_after_a_second(room: Room) -> None:
    room.reporter.report(acks(1, 1))
    room.clock.now = 1.5
    room.reporter.report(acks(2, 1))
    assert room.ids() == ["1", "2"]
    assert read_rolls(room.folder, Faults())[0].roll.done == 2


def test_nothing_is_written_for_no_events(room: Room) -> None:
    room.reporter.report([])
    assert not room.folder.exists()


def test_close_leaves_everything_and_may_be_repeated(room: Room) -> None:
    room.reporter.report([*acks(1, 2), Event(Kind.END, BEGAN, reason="drained")])
    room.reporter.close()
    room.reporter.close()
    assert room.ids() == ["1", "2", ""]
    (roll,) = read_rolls(room.folder, Faults())
    assert (roll.ended, roll.running, roll.roll.done) == ("drained", 0, 2)
    assert room.names() == [f"{MINION}.0001.jsonl", f"{MINION}.roll"]


def test_a_part_that_can_not_be_closed_is_told_in_a_line(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.reporter.report(acks(1, 1))
    room.reporter.beat(0)
    close = os.close

    def cut_off(descriptor: int) -> None:
        close(descriptor)
        raise OSError(errno.EBADFD, os.strerror(errno.EBADFD))

    with monkeypatch.context() as patched:
        patched.setattr(os, "close", cut_off)
        room.reporter.close()
    assert len(room.warnings) == 1
    assert "can't be written" in room.warnings[0]


def test_full_parts_are_rotated_and_packed(tmp_path: Path) -> None:
    room = Room(tmp_path, rotate_bytes=300_000)
    for first in range(1, 40_000, 1000):
        room.reporter.report(acks(first, 1000))
    # While the minion works: parts are packed as it goes, whatever is packed just now is there.
    room.reporter.beat(1)
    assert room.ids() == [str(n) for n in range(1, 40_001)]
    assert any(name.endswith(".gz") for name in room.names())
    room.reporter.report(acks(40_001, 1))
    room.reporter.close()
    assert room.ids() == [str(n) for n in range(1, 40_002)]
    *packed, current, roll = room.names()
    assert len(packed) >= 4
    assert [name.endswith(".jsonl.gz") for name in packed] == [True] * len(packed)
    assert (current.endswith(".jsonl"), roll) == (True, f"{MINION}.roll")
    with gzip.open(tmp_path / packed[1]) as file:
        assert json.loads(file.readline())["minion"] == MINION


def test_a_step_of_packing_is_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import zlib

    pieces: list[int] = []
    real: Callable[..., zlib._Compress] = zlib.compressobj

    class Counting:
        def __init__(self, *args: int) -> None:
            self.inner = real(*args)

        def compress(self, piece: bytes) -> bytes:
            pieces.append(len(piece))
            return self.inner.compress(piece)

        def flush(self) -> bytes:
            return self.inner.flush()

    monkeypatch.setattr(zlib, "compressobj", Counting)
    room = Room(tmp_path, rotate_bytes=600_000)
    for first in range(1, 40_000, 1500):
        before = len(pieces)
        room.reporter.report(acks(first, 1500))
        assert len(pieces) - before <= 1
    room.reporter.close()
    assert 0 < max(pieces) <= 128 * 1024


def test_a_crash_between_packing_and_removing_doubles_nothing(tmp_path: Path) -> None:
    room = Room(tmp_path)
    room.reporter.report(acks(1, 10))
    room.reporter.close()
    plain = tmp_path / f"{MINION}.0001.jsonl"
    with gzip.open(f"{plain}.gz", "wb") as file:
        file.write(plain.read_bytes())
    (tmp_path / f".{MINION}.0001.jsonl.gz.tmp").write_bytes(b"half a draft")
    assert len(room.ids()) == 10
    plain.unlink()
    assert len(room.ids()) == 10


class FullDisk:
    """Lets `room` more bytes be written, then fails as a full disk does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.room = room
        self.real = os.write
        monkeypatch.setattr(os, "write", self)

    def __call__(self, descriptor: int, piece: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self.real(descriptor, bytes(piece[: self.room]))
        self.room -= written
        return written


def test_a_full_disk_is_told_once_and_nothing_is_missing_afterwards(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.reporter.report(acks(1, 10))
    room.reporter.beat(0)
    disk = FullDisk(monkeypatch, room=100)
    room.reporter.report(acks(11, 10))
    room.reporter.beat(0)
    room.reporter.report(acks(21, 10))
    room.reporter.beat(0)
    assert len(room.warnings) == 1
    assert "No space left on device" in room.warnings[0]
    assert str(room.folder) in room.warnings[0]
    assert room.ids() == [str(n) for n in range(1, 11)]
    disk.room = 1 << 30
    room.reporter.close()
    assert room.ids() == [str(n) for n in range(1, 31)]
    assert read_rolls(room.folder, Faults())[0].roll.unwritten == 0


def test_a_disk_that_was_full_from_the_beginning(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FullDisk(monkeypatch, room=5)
    room.reporter.report(acks(1, 10))
    room.reporter.beat(0)
    assert len(room.warnings) == 1
    disk.room = 1 << 30
    room.reporter.beat(0)
    assert room.ids() == [str(n) for n in range(1, 11)]


def test_what_is_dropped_is_counted(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    room.reporter.beat(0)
    disk = FullDisk(monkeypatch, room=0)
    for _ in range(KEEP_BYTES // 100_000 + 2):
        room.reporter.report([Event(Kind.ACK, BEGAN, "1", result='"' + "x" * 60_000 + '"')] * 2)
    dropped = room.reporter._roll.roll.unwritten
    assert dropped > 0
    room.reporter.report(acks(1, 7))
    room.reporter.close()
    disk.room = 1 << 30
    assert len(room.warnings) == 1
    assert room.reporter._roll.roll.unwritten > dropped
    assert room.reporter._roll.roll.done == room.reporter._roll.roll.unwritten


def test_a_report_that_is_removed_begins_anew(room: Room) -> None:
    room.reporter.report(acks(1, 3))
    room.reporter.beat(0)
    shutil.rmtree(room.folder)
    room.reporter.report(acks(4, 3))
    room.reporter.beat(0)
    assert len(room.warnings) == 1
    room.reporter.report(acks(7, 3))
    room.reporter.close()
    assert room.ids() == ["7", "8", "9"]
    (roll,) = read_rolls(room.folder, Faults())
    assert (roll.roll.done, roll.roll.unwritten) == (9, 3)


def test_a_queue_that_is_removed_does_not_come_back(room: Room) -> None:
    room.reporter.report(acks(1, 3))
    room.reporter.beat(0)
    shutil.rmtree(room.folder.parent)
    for _ in range(3):
        room.reporter.report(acks(4, 3))
        room.reporter.beat(0)
    room.reporter.close()
    assert not room.folder.parent.exists()
    assert len(room.warnings) == 1


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "report").write_text("mine")
    room = Room(tmp_path / "report")
    room.reporter.report(acks(1, 3))
    room.reporter.close()
    assert len(room.warnings) == 1
    assert (tmp_path / "report").read_text() == "mine"


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (NotFollowed(LINK, "report"), "it is a symbolic link, and none is followed there: remove"),
        (OSError(errno.ENOSPC, "full"), "make room there or set REPORTER_JSON_DIRECTORY"),
        (OSError(errno.EACCES, "denied"), "right to write there or set REPORTER_JSON_DIRECTORY"),
        (OSError(errno.EIO, "broken"), "mend that or set REPORTER_JSON_DIRECTORY"),
    ],
)
def test_the_remedy_fits_the_error(
    room: Room, monkeypatch: pytest.MonkeyPatch, error: OSError, remedy: str
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(room.reporter._store, "append", fails)
    room.reporter.report(acks(1, 1))
    (warning,) = room.warnings
    assert remedy in warning and warning.endswith("or set REPORTER_JSON_DIRECTORY")
    assert ("make room" in warning) == (error.errno == errno.ENOSPC)


def test_the_roll_up_stays_small(room: Room) -> None:
    for n in range(1000):
        room.clock.now += 15
        seconds = 1e-6 * 1.025**n
        room.reporter.report(
            [
                Event(Kind.ACK, room.clock.time(), str(n), 1, 0, seconds, 0, 0.1, 1000 + n),
                Event(Kind.DEAD, room.clock.time(), str(n), reason=f"reason {n} " + "x" * 900),
            ]
        )
        room.reporter.beat(1)
    path = room.folder / f"{MINION}.roll"
    assert path.stat().st_size < 32 * 1024
    roll = parse_roll(path.read_bytes())
    assert (roll.roll.done, roll.roll.dead) == (1000, 1000)
    assert sum(roll.roll.reasons.values()) == 1000
    assert len(roll.timeline.points) <= 120
    assert roll.timeline.points[-1] == (15000.0, 1000, 1000)
    moments = [at_s for at_s, _, _ in roll.timeline.points]
    assert moments == sorted(moments)
    assert max(b - a for a, b in itertools.pairwise(moments)) < 15000 / 25


def test_quick_and_careful_ways_say_and_count_alike(tmp_path: Path) -> None:
    program = Event(Kind.ACK, BEGAN, "1", 1, 0, 0.5, 0, 0.25, 2048, True)
    function = Event(Kind.ACK, BEGAN, "2", 1, 0, 0.125)
    acks = [
        program,
        program._replace(peak_below=False, peak_kib=10, seconds=0.125),
        program._replace(result="[1]"),
        program._replace(cpu_s=None),
        program._replace(stdout='x "\u20ac\udcff\n'),
        program._replace(stdout=""),
        program._replace(stdout="x" * 511),
        program._replace(stdout="x" * 512),
        program._replace(stdout="x", stderr="y"),
        program._replace(stdout="x", result="[2]"),
        program._replace(stdout="x", peak_kib=None),
        function._replace(stdout="x"),
        function._replace(stdout="x", result="[3]"),
        function,
        function._replace(result='{"a":1}'),
        function._replace(result='{\n"a":1}'),
        function._replace(exit_status=0),
        function._replace(result='"' + "x" * 70_000 + '"'),
    ]
    quick, careful = Room(tmp_path / "quick"), Room(tmp_path / "careful")
    quick.reporter.report(acks)
    # What has a param goes the careful way.
    careful.reporter.report([event._replace(param="1") for event in acks])
    assert quick.reporter._roll.roll == careful.reporter._roll.roll
    assert quick.reporter._roll.roll.peak_below_kib == 2048
    assert quick.reporter._roll.roll.cpu_sum == 2.5
    quick.reporter.close()
    careful.reporter.close()
    found = [
        [event._replace(param=None) for _, event in read_events(room.folder, Faults())]
        for room in (quick, careful)
    ]
    assert found[0] == found[1]
    assert [event.result for event in found[0]].count('{"a":1}') == 2


def test_a_disk_that_is_really_full(
    tmp_path: Path, needs_server: Callable[[str], NoReturn]
) -> None:
    if os.geteuid():
        needs_server("only root mounts a file system")
    small = ["mount", "-t", "tmpfs", "-o", "size=64k", "small", str(tmp_path)]
    subprocess.run(small, check=True)
    try:
        filler = tmp_path / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                continue
        room = Room(tmp_path)
        room.reporter.report(acks(1, 10))
        room.reporter.beat(0)
        assert len(room.warnings) == 1
        assert "No space left" in room.warnings[0]
        filler.unlink()
        room.reporter.close()
        (roll,) = read_rolls(tmp_path, Faults())
        assert (roll.roll.done, roll.roll.unwritten) == (10, 0)
        assert len(room.ids()) == 10
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def test_where_the_report_is(tmp_path: Path) -> None:
    assert report_folder(None, None) == "minion-report"
    assert report_folder(None, str(tmp_path)) == str(tmp_path / "report")
    assert report_folder("elsewhere", str(tmp_path)) == "elsewhere"


def test_reporters_by_name(tmp_path: Path) -> None:
    from minionize.errors import UsageError

    lines: list[str] = []

    def opened(name: str) -> None:
        reporter = open_reporter(
            name,
            directory=str(tmp_path / "report"),
            minion_id=MINION,
            host="node7",
            pid=7,
            slots=2,
            command="true",
            clock=HandClock(),
            warn=pytest.fail,
            write=lines.append,
        )
        assert reporter.wants_events == (name != "null")
        reporter.report(acks(1, 2))
        reporter.beat(0)
        reporter.close()

    opened("null")
    assert not (tmp_path / "report").exists()
    opened("json")
    assert len(list((tmp_path / "report").iterdir())) == 2
    opened("stdout")
    told = [json.loads(line) for line in "".join(lines).splitlines()]
    assert [line["id"] for line in told] == ["1", "2"]
    assert told[0]["event"] == "ack"
    with pytest.raises(UsageError, match=r"unknown reporter 'jsno'.*json"):
        opened("jsno")


def test_a_closed_standard_output_stops_nobody() -> None:
    from minionize.reporters.stdout import StdoutReporter

    tried: list[str] = []
    warnings: list[str] = []

    def write(text: str) -> None:
        tried.append(text)
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    reporter = StdoutReporter(MINION, write, warnings.append)
    reporter.report(acks(1, 2))
    reporter.report(acks(3, 2))
    assert len(tried) == 1
    assert len(warnings) == 1
    assert "--reporter json" in warnings[0]


def test_large_results_on_standard_output_leave_nothing_behind(tmp_path: Path) -> None:
    from minionize.reporters.stdout import StdoutReporter

    folder = tmp_path / "results"
    folder.mkdir()
    written: list[str] = []

    def large(name: str) -> Event:
        (folder / name).write_text("[1]")
        return Event(Kind.ACK, BEGAN, "1", result_file=str(folder / name))

    def write(text: str) -> None:
        if written:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        written.append(text)

    reporter = StdoutReporter(MINION, write, lambda line: None, str(folder))
    gone = Event(Kind.ACK, BEGAN, "2", result_file=str(folder / "gone"))
    reporter.report([large("a"), gone])
    first, second = (json.loads(line) for line in written[0].splitlines())
    assert first["result"] == [1]
    assert second["detail"].startswith("result lost: its file can't be read")
    for name in ("b", "c"):  # not written any more
        reporter.report([large(name)])
    assert list(folder.iterdir()) == []
    (folder / ".half.json.tmp").touch()
    reporter.close()
    assert not folder.exists()


def test_the_stdout_reporter_escapes() -> None:
    from minionize.reporters.stdout import readable

    event = Event(Kind.ACK, BEGAN, "1", param='"\\u001b[2J\x7f\x9b31m"', detail="\x1b]0;x\x07")
    line = readable(event, MINION)
    assert line.isprintable()
    assert line.isascii()
    assert json.loads(line)["param"] == "\x1b[2J\x7f\x9b31m"

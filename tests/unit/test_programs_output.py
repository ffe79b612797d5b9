"""Where the output of runs goes: captured, into files, or on to the minion's own output."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minionize.contracts.callback import Invocation
from minionize.contracts.crew import Outcome, Verdict
from minionize.values import Lease
from minionize.worker import output
from minionize.worker.draft import Draft
from minionize.worker.lines import FailureLines, duration, last_line, printable
from minionize.worker.output import Sink, Spool
from minionize.worker.programs import ProgramCrew

# Of this process alone: what carries it is killed with a run that ran out of time.
ME = f"m-{os.getpid()}"


class Script:
    def __init__(self, script: str, **more: Any) -> None:
        self.script = script
        self.more = more

    def invocation(self, lease: Lease, slot: int) -> Invocation:
        return Invocation(["/bin/sh", "-c", self.script, "x", lease.text], **self.more)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Outcome]]:
    wake, other = os.pipe()

    def run(script: str, *, attempt: int = 1, **more: Any) -> Outcome:
        crew = ProgramCrew(
            Script(script, **more),
            slots=1,
            env={**os.environ, "TMPDIR": str(tmp_path)},
            minion_id=ME,
            wake_fd=wake,
            capture=True,
        )
        try:
            crew.start([Lease("1", "1", attempt)])
            outcomes: list[Outcome] = []
            while not outcomes:
                outcomes = crew.wait(1.0)
            return outcomes[0]
        finally:
            crew.close()

    yield run
    os.close(wake)
    os.close(other)


def test_captured_output_comes_with_the_outcome(run: Callable[..., Outcome]) -> None:
    outcome = run("echo out; echo err >&2; printf '\\377'")
    assert (outcome.stdout, outcome.stderr) == ("out\n\ufffd", "err\n")
    assert outcome.detail == "", "nothing failed"


def test_long_captured_output_keeps_head_and_tail(run: Callable[..., Outcome]) -> None:
    outcome = run("echo first; seq 100000; echo last")
    assert outcome.stdout is not None
    assert outcome.stdout.startswith("first\n1\n2\n")
    assert outcome.stdout.endswith("99999\n100000\nlast\n")
    assert " bytes left out ...]" in outcome.stdout
    assert len(outcome.stdout) < output.KEPT_BYTES + 100


def test_the_tail_of_stderr_is_there_for_a_failure(run: Callable[..., Outcome]) -> None:
    outcome = run("seq 10000 >&2; echo 'no such file' >&2; exit 1")
    assert outcome.detail.endswith("10000\nno such file\n")
    assert len(outcome.detail) <= output.TAIL_BYTES
    assert outcome.detail.splitlines()[0].isdigit(), "from a full line on"


def test_a_file_appears_whole_and_only_at_a_good_end(
    run: Callable[..., Outcome], tmp_path: Path
) -> None:
    folder = tmp_path / "runs" / "1"
    out, err = folder / "out.txt", folder / "err.txt"
    script = f"echo one; echo two >&2; test ! -e {out} && exit "
    failed = run(script + "3", stdout=str(out), stderr=str(err))
    assert failed.verdict is Verdict.FAILED and failed.detail == "two\n"
    kept = {path.name: path.read_text() for path in folder.iterdir()}
    assert kept == {"out.txt.failed": "one\n", "err.txt.failed": "two\n"}, "no draft is left"
    good = run(script + "0", attempt=2, stdout=str(out), stderr=str(err))
    assert good.verdict is Verdict.DONE
    assert (out.read_text(), err.read_text()) == ("one\n", "two\n")
    assert (good.stdout, good.stderr) == (None, None)
    assert sorted(folder.iterdir()) == [err, out]


def test_a_good_attempt_removes_what_a_failed_one_left_whatever_its_number(
    run: Callable[..., Outcome], tmp_path: Path
) -> None:
    """After `minion retry` attempts count from 1 again."""
    out, mine = tmp_path / "out", tmp_path / "mine"
    run("echo bad; exit 1", stdout=str(out))
    assert (tmp_path / "out.failed").read_text() == "bad\n"
    run("echo good", stdout=str(out))
    assert out.read_text() == "good\n"
    assert not (tmp_path / "out.failed").exists()
    (tmp_path / "mine.failed").write_text("no minion wrote this")
    run("echo good", stdout=str(mine))
    assert (tmp_path / "mine.failed").exists()


def test_both_streams_may_share_a_file(run: Callable[..., Outcome], tmp_path: Path) -> None:
    both = str(tmp_path / "both")
    run("echo one; echo two >&2; echo three", stdout=both, stderr=both)
    assert Path(both).read_text() == "one\ntwo\nthree\n"


def test_a_good_file_stays_when_a_later_run_fails(
    run: Callable[..., Outcome], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run("echo good", stdout=str(out))
    run("echo bad; exit 1", stdout=str(out))
    assert out.read_text() == "good\n"


def test_a_file_that_cannot_be_is_a_failed_attempt(run: Callable[..., Outcome]) -> None:
    outcome = run("true", stdout="/proc/none/out")
    assert outcome.verdict is Verdict.FAILED and "/proc/none" in outcome.detail


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(str(tmp_path))
    yield spool
    spool.close()


def test_a_spool_has_no_name_and_can_be_used_again(spool: Spool, tmp_path: Path) -> None:
    os.write(spool.fd, b"abc")
    assert (spool.size(), spool.tail()) == (3, "abc")
    spool.clear()
    assert spool.size() == 0
    os.write(spool.fd, b"de")
    assert spool.tail() == "de"
    assert list(tmp_path.iterdir()) == []


def test_space_that_was_passed_on_goes_back_to_the_disk(spool: Spool) -> None:
    block = b"x" * (1 << 20)
    for _ in range(32):
        os.write(spool.fd, block)
    full = os.fstat(spool.fd).st_blocks
    spool.passed = spool.size()
    spool.free_passed()
    left = os.fstat(spool.fd).st_blocks
    if left == full:
        pytest.skip("this file system cannot give back the middle of a file")
    assert left < full / 4
    assert spool.tail() == "x" * output.TAIL_BYTES


def test_a_slow_reader_blocks_nobody_and_gets_everything(spool: Spool) -> None:
    ours, theirs = os.pipe()
    wrong: list[str] = []
    sink = Sink(theirs, "stdout", wrong.append)
    text = b"".join(b"%d\n" % n for n in range(100_000))
    os.write(spool.fd, text)
    got = sink.pass_on(spool.fd, 0, len(text))
    assert 0 < got < len(text) and sink.blocked
    assert os.get_blocking(theirs), "the pipe is others' too: it stays as it was"
    seen = bytearray()
    while got < len(text):
        seen += os.read(ours, 1 << 20)
        got = sink.pass_on(spool.fd, got, len(text))
    sink.close()
    os.close(theirs)
    while piece := os.read(ours, 1 << 20):
        seen += piece
    os.close(ours)
    assert bytes(seen) == text and wrong == []


def test_a_reader_that_went_away_is_said_once(spool: Spool) -> None:
    ours, theirs = os.pipe()
    wrong: list[str] = []
    sink = Sink(theirs, "stdout", wrong.append)
    os.close(ours)
    os.write(spool.fd, b"x" * 100)
    assert sink.pass_on(spool.fd, 0, 100) == 100
    assert sink.pass_on(spool.fd, 0, 100) == 100
    assert sink.lost and sink.unread and wrong == ["stdout: nobody reads it any more"]
    sink.close()
    os.close(theirs)


def test_a_minion_without_stdout_discards_what_goes_there(spool: Spool) -> None:
    wrong: list[str] = []
    sink = Sink(987, "stdout", wrong.append)
    os.write(spool.fd, b"abc")
    assert sink.pass_on(spool.fd, 0, 3) == 3
    assert not sink.lost and wrong == []


def test_a_draft_of_a_long_name_fits(tmp_path: Path) -> None:
    draft = Draft(str(tmp_path / ("n" * 255)), "host-1-abcdef.0.out")
    os.write(draft.fd, b"x")
    assert draft.keep("here 1") == ""
    assert [path.name for path in tmp_path.iterdir()] == ["n" * 255]


@given(st.text())
def test_nothing_that_moves_a_cursor_is_shown(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert len(shown.splitlines()) <= 1


def test_words_for_durations() -> None:
    assert [duration(s) for s in (0.04, 3.2, 119, 180, 7199, 7500)] == [
        "0.0 s",
        "3 s",
        "119 s",
        "3 min",
        "2 h 0 min",
        "2 h 5 min",
    ]


def test_the_last_line_that_says_something() -> None:
    assert last_line("a\nb\n \n") == "b"
    assert last_line("") == ""


class Hand:
    """A clock in our hand."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_failures_by_the_thousand_are_a_few_lines() -> None:
    from minionize.worker.decisions import Settlement

    lines: list[str] = []
    clock = Hand()
    failures = FailureLines(lines.append, clock, 3)
    for _ in range(1000):
        failures.failed(Lease("1", "1"), "exit 1", "", Settlement("nack", 1.0, True))
    assert len(lines) == 10
    clock.sleep(1.5)
    failures.failed(Lease("2", "1"), "exit 1", "", Settlement("nack", 1.0, True))
    assert lines[10:] == ["and 990 more failed attempts", "2: exit 1: attempt 1 of 3, again in 1 s"]
    failures.say_unsaid()
    assert len(lines) == 12


def test_a_sink_on_a_file_is_written_in_one_go(spool: Spool, tmp_path: Path) -> None:
    fd = os.open(tmp_path / "log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    sink = Sink(fd, "stdout", print)
    os.write(spool.fd, b"x" * 1_000_000)
    assert sink.pass_on(spool.fd, 0, 1_000_000) == 1_000_000
    os.close(fd)
    assert (tmp_path / "log").stat().st_size == 1_000_000


def test_threads_of_the_test_run_are_none_of_the_crews(run: Callable[..., Outcome]) -> None:
    before = threading.active_count()
    run("true")
    assert threading.active_count() == before

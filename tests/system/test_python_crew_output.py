"""FunctionCrew with real child processes: what functions print and return."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from driven import DEADLINE_S, Driven, evil, leases, made

from minionize.contracts.crew import Verdict
from minionize.values import Lease


@pytest.fixture
def drive() -> Iterator[Callable[..., Driven]]:
    with made() as make:
        yield make


def test_output_is_passed_on_in_whole_runs(
    drive: Callable[..., Driven], capfd: pytest.CaptureFixture[str]
) -> None:
    driven = drive(evil, slots=2)
    driven.run(leases(*[{"do": "print", "text": f"line {n}\nagain {n}"} for n in range(50)]))
    driven.close()
    driven.close = lambda: None  # type: ignore[method-assign]
    out, err = capfd.readouterr()
    lines = out.splitlines()
    assert sorted(lines) == sorted(f"{word} {n}" for n in range(50) for word in ("line", "again"))
    assert all(lines[at + 1] == "again" + lines[at][4:] for at in range(0, 100, 2))
    assert err.count("to stderr") == 50


def test_output_is_live_with_one_slot(
    drive: Callable[..., Driven], capfd: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    def talk(path: str) -> None:
        print("begun")
        while not os.path.exists(path):
            time.sleep(0.01)

    driven = drive(talk).ready()
    path = tmp_path / "go on"
    driven.crew.start(leases(str(path)))
    seen = ""
    end = time.monotonic() + DEADLINE_S
    while "begun" not in seen:
        assert time.monotonic() < end
        driven.outcomes += driven.crew.wait(0.1)
        seen += capfd.readouterr().out
    assert not driven.outcomes
    path.touch()
    driven.until(lambda: driven.outcomes)


def test_captured_output_is_each_run_s_own(
    drive: Callable[..., Driven], capfd: pytest.CaptureFixture[str]
) -> None:
    orders = [{"do": "print", "text": "a"}, {}, {"do": "print", "text": "b"}, {"do": "segfault"}]
    ended = drive(evil, capture=True).run(leases(*orders))
    assert [ended[str(n)].stdout for n in (1, 2, 3, 4)] == ["a\n", "", "b\n", ""]
    assert ended["1"].stderr == "to stderr\n" and ended["2"].stderr == ""
    assert "Segmentation fault" in (ended["4"].stderr or "")
    assert capfd.readouterr().out == ""


def test_what_a_run_wrote_is_flushed_when_it_ends(drive: Callable[..., Driven]) -> None:
    def write(how: str) -> None:
        if how == "text":
            print("a", end="")
        elif how == "bytes":
            sys.stdout.buffer.write(b"b")
        elif how == "reconfigure":
            assert hasattr(sys.stdout, "reconfigure")
            sys.stdout.reconfigure(write_through=False, line_buffering=False)
            print("c", end="")
        elif how == "many":
            sys.stdout.writelines(["d", "e"])
            sys.stderr.write("f")
        elif how == "die":
            os._exit(1)

    hows = ["text", "", "bytes", "reconfigure", "text", "many", "die"]
    ended = drive(write, capture=True).run(leases(*hows))
    written = [(outcome.stdout, outcome.stderr) for _, outcome in sorted(ended.items())]
    assert written == [
        ("a", ""),
        ("", ""),
        ("b", ""),
        ("c", ""),
        ("a", ""),
        ("de", "f"),
        ("", ""),
    ]


def test_closing_standard_output_harms_nobody(
    drive: Callable[..., Driven], capfd: pytest.CaptureFixture[str]
) -> None:
    driven = drive(evil)
    driven.run(leases({"do": "close"}), seconds_each=None)
    driven.outcomes.clear()
    ended = driven.run(leases({"do": "print", "text": "still here"}))
    assert ended["1"].verdict is Verdict.DONE
    assert "still here" in capfd.readouterr().out


def test_a_child_whose_function_took_standard_output_away_ends_without_a_word(
    drive: Callable[..., Driven], capfd: pytest.CaptureFixture[str]
) -> None:
    driven = drive(evil)
    ended = driven.run(leases({"do": "replace"}), seconds_each=None)
    driven.crew.close()
    assert ended["1"].verdict is Verdict.DONE
    assert "Traceback" not in capfd.readouterr().err


def test_an_end_is_told_when_its_output_is_out(
    drive: Callable[..., Driven], monkeypatch: pytest.MonkeyPatch
) -> None:
    def much(n: int) -> None:
        print("x" * 200_000)

    reader, writer = os.pipe()
    saved = os.dup(1)
    os.dup2(writer, 1)
    os.close(writer)
    try:
        driven = drive(much, slots=2).ready()
    finally:
        os.dup2(saved, 1)
        os.close(saved)
    try:
        driven.crew.start(leases(1, 2))
        end = time.monotonic() + 1.0
        while time.monotonic() < end:  # nobody reads: nothing is done
            assert driven.crew.wait(0.1) == []
        os.set_blocking(reader, False)
        got = 0

        def done() -> bool:
            nonlocal got
            try:
                got += len(os.read(reader, 1 << 20))
            except BlockingIOError:
                return len(driven.outcomes) == 2
            return False

        driven.until(done)
        assert got == 2 * 200_001
    finally:
        os.close(reader)


def test_large_results_do_not_pile_up(drive: Callable[..., Driven]) -> None:
    def much(n: int) -> str:
        return "x" * 60_000

    ended = drive(much, slots=2).run(leases(*range(2000)))
    assert all(len(outcome.result or "") == 60_002 for outcome in ended.values())


def test_results(drive: Callable[..., Driven]) -> None:
    driven = drive(evil)
    values = [1.5, "text", [1, {"a": None}], float("nan"), {"x": float("inf")}, 0, False, ""]
    orders = [{"do": "return", "value": value} for value in values]
    texts = [json.dumps(order) for order in orders]
    ended = driven.run([Lease(str(n), text) for n, text in enumerate(texts, 1)])
    got = [json.loads(ended[str(n)].result or "") for n in range(1, 9)]
    assert got == [1.5, "text", [1, {"a": None}], None, {"x": "Infinity"}, 0, False, ""]
    assert driven.lines == []


def test_what_can_not_be_kept_fails_and_says_what_it_is_and_where(
    drive: Callable[..., Driven],
) -> None:
    driven = drive(evil)
    ended = driven.run(leases({"do": "return object"}, {"do": "return much"}, {"do": "return set"}))
    lost = ended["1"]
    assert (lost.verdict, lost.reason) == (Verdict.FAILED, "no JSON: object")
    assert "result['nets'][1] is an object, which has no JSON form" in lost.detail
    path = ended["2"].result_file
    assert ended["2"].result is None and path is not None
    with open(path) as file:
        assert json.load(file) == "x" * 100_000
    assert json.loads(ended["3"].result or "") == [1, 2]
    assert driven.lines == []


def test_without_room_for_a_large_result_nobody_is_charged(
    drive: Callable[..., Driven], tmp_path: Any
) -> None:
    (tmp_path / "file").touch()
    driven = drive(evil, results=str(tmp_path / "file" / "results"))
    ended = driven.run(leases({"do": "return much"}, {"do": "return set"}))
    assert ended["1"].verdict is Verdict.UNABLE and ended["1"].reason.startswith("no room for")
    assert ended["2"].verdict is Verdict.DONE

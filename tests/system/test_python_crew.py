"""FunctionCrew with real child processes: what becomes of good and of evil functions."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from driven import Driven, double, evil, leases, made

from minionize.callbacks.func import FuncCallback
from minionize.contracts.crew import Verdict
from minionize.values import Lease


@pytest.fixture
def drive() -> Iterator[Callable[..., Driven]]:
    with made() as make:
        yield make


def test_thousands_of_params_in_batches(drive: Callable[..., Driven]) -> None:
    todo = leases(*range(20_000))
    ended = drive(double, slots=2).run(todo)
    assert all(outcome.verdict is Verdict.DONE for outcome in ended.values())
    assert all(ended[lease.id].result == str(2 * lease.param) for lease in todo)
    assert all(outcome.seconds >= 0 for outcome in ended.values())


def test_a_segfault_costs_only_the_param_it_happened_in(drive: Callable[..., Driven]) -> None:
    orders: list[Any] = [{"n": n} for n in range(300)]
    orders[100] = orders[101] = {"do": "segfault"}
    ended = drive(evil).run(leases(*orders))
    failed = {id_ for id_, outcome in ended.items() if outcome.verdict is not Verdict.DONE}
    assert failed == {"101", "102"}
    crash = ended["101"]
    assert (crash.verdict, crash.reason, crash.exit_status) == (
        Verdict.FAILED,
        "signal SIGSEGV",
        -signal.SIGSEGV,
    )
    assert "string_at" in crash.detail


@pytest.mark.parametrize("how", ["signal SIGKILL", "exit 3"])
@pytest.mark.parametrize("returns", [False, True])
def test_each_param_is_run_once_whatever_dies_between(
    drive: Callable[..., Driven], tmp_path: Any, how: str, returns: bool
) -> None:
    def run(number: int) -> int | None:
        with open(tmp_path / "log", "a") as file:
            file.write(f"{number}\n")
        if number % 171 == 0:
            os._exit(3) if how.startswith("exit") else os.kill(os.getpid(), signal.SIGKILL)
        return number if returns and number % 3 else None

    ended = drive(run, slots=2).run(leases(*range(2000)), seconds_each=1e-4)
    for outcome in ended.values():
        number = outcome.lease.param
        if number % 171 == 0:
            assert (outcome.verdict, outcome.reason) == (Verdict.FAILED, how)
        else:
            result = str(number) if returns and number % 3 else None
            assert (outcome.verdict, outcome.result) == (Verdict.DONE, result)
    assert sorted(map(int, (tmp_path / "log").read_text().split())) == list(range(2000))


def test_exceptions_keep_their_traceback_without_our_frames(drive: Callable[..., Driven]) -> None:
    ended = drive(evil).run(leases({"do": "raise", "text": "bad lr"}, {}))
    failed = ended["1"]
    assert (failed.verdict, failed.reason) == (Verdict.FAILED, "ValueError")
    assert "in evil" in failed.detail and failed.detail.endswith("ValueError: bad lr")
    assert "child.py" not in failed.detail
    assert ended["2"].verdict is Verdict.DONE


def test_later_and_reject(drive: Callable[..., Driven]) -> None:
    ended = drive(evil).run(
        leases({"do": "later", "delay_s": 7.5}, {"do": "later"}, {"do": "reject"})
    )
    assert (ended["1"].verdict, ended["1"].delay_s) == (Verdict.LATER, 7.5)
    assert (ended["2"].verdict, ended["2"].delay_s) == (Verdict.LATER, None)
    assert (ended["3"].verdict, ended["3"].reason) == (Verdict.REJECTED, "no such place")


@pytest.mark.parametrize(
    ("kind", "status"), [("exit", 3), ("exit", 256), ("_exit", 0), ("_exit", 3)]
)
def test_a_function_that_exits_has_failed(
    drive: Callable[..., Driven], kind: str, status: int
) -> None:
    ended = drive(evil).run(leases({}, {"do": kind, "status": status}, {}))
    reason = "exit 1" if status == 256 else f"exit {status}"
    assert (ended["2"].verdict, ended["2"].reason) == (Verdict.FAILED, reason)
    assert ended["1"].verdict is ended["3"].verdict is Verdict.DONE


@pytest.mark.parametrize("status", [0, None, False])
def test_a_function_that_exits_with_0_is_done(
    drive: Callable[..., Driven], status: int | None
) -> None:
    """As a program is: a click command ends like this, and argparse after --help."""
    ended = drive(evil).run(leases({}, {"do": "exit", "status": status}, {}))
    assert (ended["2"].verdict, ended["2"].reason, ended["2"].result) == (Verdict.DONE, "", None)
    assert ended["1"].verdict is ended["3"].verdict is Verdict.DONE


def test_keyboard_interrupt_is_a_failed_attempt(drive: Callable[..., Driven]) -> None:
    ended = drive(evil).run(leases({"do": "interrupt"}, {}))
    assert (ended["1"].verdict, ended["1"].reason) == (Verdict.FAILED, "KeyboardInterrupt")
    assert ended["2"].verdict is Verdict.DONE


def test_a_function_that_forks_answers_once(drive: Callable[..., Driven]) -> None:
    ended = drive(evil).run(leases(*[{"do": "fork"}] * 20, {}))
    assert len(ended) == 21
    assert all(outcome.verdict is Verdict.DONE for outcome in ended.values())


def test_cpu_and_memory_of_a_run_that_takes_a_while(drive: Callable[..., Driven]) -> None:
    def work(mib: int) -> int:
        block = bytearray(mib << 20)
        end = time.process_time() + 0.2
        while time.process_time() < end:
            block[0] = 1
        return len(block)

    ended = drive(work).run(leases(1, 100), seconds_each=None)
    assert (ended["2"].cpu_s or 0) > 0.15
    assert (ended["2"].peak_kib or 0) > 100 << 10
    assert not ended["2"].peak_below


def test_a_param_that_is_no_json_shifts_nobody(drive: Callable[..., Driven]) -> None:
    todo = [Lease("1", "1"), Lease("2", "2,3"), Lease("3", "]"), Lease("4", ""), Lease("5", "5")]
    ended = drive(double).run(todo)
    assert [ended[str(n)].verdict.value for n in range(1, 6)] == [
        "done",
        "rejected",
        "rejected",
        "rejected",
        "done",
    ]
    assert (ended["1"].result, ended["5"].result) == ("2", "10")


def test_large_params(drive: Callable[..., Driven]) -> None:
    ended = drive(FuncCallback(len), slots=1).run(leases(*["x" * (3 << 20)] * 5, "é"))
    assert [ended[str(n)].result for n in range(1, 7)] == [str(3 << 20)] * 5 + ["1"]


def test_a_suspect_is_run_before_what_waits(drive: Callable[..., Driven]) -> None:
    driven = drive(evil).ready()
    driven.crew.start(leases({"do": "sleep", "for": 0.3}, {}, {}))
    driven.until(driven.crew.running)
    driven.crew.start([Lease("suspect", "{}", suspect=True)])
    driven.until(lambda: len(driven.outcomes) == 4)
    assert [outcome.lease.id for outcome in driven.outcomes] == ["1", "suspect", "2", "3"]

"""FunctionCrew with real child processes: what becomes of good and of evil functions."""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from minionize.callbacks.func import FuncCallback
from minionize.contracts.crew import Outcome, Verdict
from minionize.errors import MinionizeError, Reject, RetryLater, UsageError
from minionize.values import Lease, to_text
from minionize.worker.functions.crew import FunctionCrew
from minionize.worker.guard import Guard

DEADLINE_S = 60.0


ENVIRONMENT = ("MINION_ID", "MINION_SLOT", "MINION_DEADLINE", "MINION_PARAM", "FROM_TEST")


def leases(*params: Any) -> list[Lease]:
    return [Lease(str(n), to_text(param)) for n, param in enumerate(params, 1)]


class Driven:
    """A crew, driven as the worker drives it."""

    def __init__(self, func: Callable[..., Any] | FuncCallback, slots: int, **options: Any) -> None:
        self.lines: list[str] = []
        # Its own: a guard ends whatever carries the id, in other tests beside this one too.
        self.minion_id = f"minion-{os.urandom(6).hex()}"
        self.wake_fd, self.wake = os.pipe()
        os.set_blocking(self.wake_fd, False)
        callback = func if isinstance(func, FuncCallback) else FuncCallback(func)
        self.crew = FunctionCrew(
            callback,
            slots=slots,
            env=options.pop("env", dict(os.environ)),
            minion_id=self.minion_id,
            wake_fd=self.wake_fd,
            lines=self.lines.append,
            **options,
        )
        self.outcomes: list[Outcome] = []

    def until(self, done: Callable[[], object]) -> None:
        """Wait on the crew until `done()`."""
        end = time.monotonic() + DEADLINE_S
        while not done():
            assert time.monotonic() < end, (self.outcomes, self.lines)
            self.outcomes += self.crew.wait(0.1)

    def ready(self) -> Driven:
        self.until(lambda: self.crew.room(None))
        return self

    def run(self, todo: list[Lease], seconds_each: float | None = 1e-5) -> dict[str, Outcome]:
        """Run all of these; outcomes by id, each exactly once."""
        waiting = list(todo)
        end = time.monotonic() + DEADLINE_S
        while len(self.outcomes) < len(todo):
            assert time.monotonic() < end, (self.outcomes[-3:], self.lines)
            room = self.crew.room(seconds_each)
            if room and waiting:
                self.crew.start(waiting[:room])
                del waiting[:room]
            self.outcomes += self.crew.wait(0.2)
        by_id = {outcome.lease.id: outcome for outcome in self.outcomes}
        assert len(by_id) == len(self.outcomes)
        return by_id

    def close(self) -> None:
        self.crew.close()
        os.close(self.wake_fd)
        os.close(self.wake)


@pytest.fixture
def drive() -> Iterator[Callable[..., Driven]]:
    made: list[Driven] = []

    def make(func: Callable[..., Any] | FuncCallback, slots: int = 1, **options: Any) -> Driven:
        made.append(Driven(func, slots, **options))
        return made[-1]

    yield make
    for driven in made:
        driven.close()


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def double(value: int) -> int:
    return 2 * value


def evil(order: dict[str, Any]) -> Any:
    """Does what the param says."""
    kind = order.get("do")
    if kind == "segfault":
        ctypes.string_at(0)
    elif kind == "sleep":
        time.sleep(order["for"])
    elif kind == "hold the GIL":
        re.match(r"(a+)+$", "a" * 60 + "b")
    elif kind == "_exit":
        os._exit(order["status"])
    elif kind == "exit":
        sys.exit(order["status"])
    elif kind == "raise":
        raise ValueError(order["text"])
    elif kind == "later":
        raise RetryLater(order.get("delay_s"))
    elif kind == "reject":
        raise Reject("no such place")
    elif kind == "print":
        print(order["text"])
        print("to stderr", file=sys.stderr)
    elif kind == "close":
        sys.stdout.close()
        os.close(1)
        os.close(2)
    elif kind == "fork":
        os.fork()
    elif kind == "interrupt":
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)
    elif kind == "return":
        return order["value"]
    elif kind == "return set":
        return {1, 2}
    elif kind == "return much":
        return "x" * 100_000
    elif kind == "pid":
        return os.getpid()
    elif kind == "environment":
        return {name: os.environ.get(name) for name in ENVIRONMENT}
    elif kind == "kill parent":
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(10)
    elif kind == "leave a child":
        return subprocess.Popen(["sleep", "1000"]).pid
    elif kind == "touch and sleep":
        with open(order["path"], "w") as file:
            file.write(str(os.getpid()))
        try:
            time.sleep(100)
        finally:
            with open(order["path"] + ".cleaned", "w") as file:
                file.write("yes")
    return None


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


def test_a_time_out_kills_only_the_run_that_is_over_time(drive: Callable[..., Driven]) -> None:
    orders: list[Any] = [{"n": n} for n in range(50)]
    orders[20] = {"do": "sleep", "for": 1000}
    orders[30] = {"do": "hold the GIL"}
    ended = drive(evil, timeout_s=0.5).run(leases(*orders))
    failed = {
        id_: outcome.reason for id_, outcome in ended.items() if outcome.verdict.value != "done"
    }
    assert failed == {"21": "timeout", "31": "timeout"}
    assert ended["21"].seconds >= 0.5
    assert ended["21"].verdict is Verdict.FAILED


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


@pytest.mark.parametrize("kind", ["exit", "_exit"])
@pytest.mark.parametrize("status", [0, 3])
def test_a_function_that_exits_has_failed(
    drive: Callable[..., Driven], kind: str, status: int
) -> None:
    ended = drive(evil).run(leases({}, {"do": kind, "status": status}, {}))
    assert (ended["2"].verdict, ended["2"].reason) == (Verdict.FAILED, f"exit {status}")
    assert ended["1"].verdict is ended["3"].verdict is Verdict.DONE


def test_keyboard_interrupt_is_a_failed_attempt(drive: Callable[..., Driven]) -> None:
    ended = drive(evil).run(leases({"do": "interrupt"}, {}))
    assert (ended["1"].verdict, ended["1"].reason) == (Verdict.FAILED, "KeyboardInterrupt")
    assert ended["2"].verdict is Verdict.DONE


def test_a_function_that_forks_answers_once(drive: Callable[..., Driven]) -> None:
    ended = drive(evil).run(leases(*[{"do": "fork"}] * 20, {}))
    assert len(ended) == 21
    assert all(outcome.verdict is Verdict.DONE for outcome in ended.values())


def test_results(drive: Callable[..., Driven]) -> None:
    driven = drive(evil)
    values = [1.5, "text", [1, {"a": None}], float("nan"), {"x": float("inf")}, 0, False, ""]
    orders = [{"do": "return", "value": value} for value in values]
    texts = [json.dumps(order) for order in orders]
    ended = driven.run([Lease(str(n), text) for n, text in enumerate(texts, 1)])
    got = [json.loads(ended[str(n)].result or "") for n in range(1, 9)]
    assert got == [1.5, "text", [1, {"a": None}], None, {"x": None}, 0, False, ""]
    assert driven.lines == []


def test_what_is_no_json_is_done_and_its_loss_is_said_once(drive: Callable[..., Driven]) -> None:
    driven = drive(evil)
    ended = driven.run(leases({"do": "return set"}, {"do": "return much"}, {"do": "return set"}))
    assert all(outcome.verdict is Verdict.DONE for outcome in ended.values())
    assert all(outcome.result is None for outcome in ended.values())
    assert "set" in ended["1"].detail and "64" in ended["2"].detail
    assert len(driven.lines) == 1 and "result lost" in driven.lines[0]


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


def test_closing_standard_output_harms_nobody(
    drive: Callable[..., Driven], capfd: pytest.CaptureFixture[str]
) -> None:
    driven = drive(evil)
    driven.run(leases({"do": "close"}), seconds_each=None)
    driven.outcomes.clear()
    ended = driven.run(leases({"do": "print", "text": "still here"}))
    assert ended["1"].verdict is Verdict.DONE
    assert "still here" in capfd.readouterr().out


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


def test_revoked_params_are_never_started(drive: Callable[..., Driven], tmp_path: Any) -> None:
    def log(order: list[Any]) -> None:
        number, path, until = order
        with open(path, "a") as file:
            file.write(f"{number}\n")
        while number == 3 and not os.path.exists(until):
            time.sleep(0.01)

    path, until = tmp_path / "log", tmp_path / "go"
    driven = drive(log).ready()
    driven.crew.start(leases(*[[number, str(path), str(until)] for number in range(100)]))
    driven.until(lambda: len(driven.outcomes) == 3)
    back = driven.crew.revoke(0.0)
    assert [lease.param[0] for lease in back] == list(range(4, 100))
    assert [lease.id for lease, _ in driven.crew.running()] == ["4"]
    until.touch()
    driven.until(lambda: len(driven.outcomes) == 4)
    # What comes next is run, and nothing of what was taken back.
    driven.until(lambda: driven.crew.room(1e-5))
    driven.crew.start([Lease("last", to_text([999, str(path), str(until)]))])
    driven.until(lambda: len(driven.outcomes) == 5)
    assert path.read_text().split() == ["0", "1", "2", "3", "999"]


def test_revoke_leaves_what_waits_for_a_short_time(drive: Callable[..., Driven]) -> None:
    driven = drive(evil).ready()
    driven.crew.start(leases({"do": "sleep", "for": 0.2}, {}, {}))
    assert driven.crew.revoke(1000.0) == []
    driven.until(lambda: len(driven.outcomes) == 3)


def test_abort_ends_the_run_and_keeps_the_others(drive: Callable[..., Driven]) -> None:
    driven = drive(evil).ready()
    driven.crew.start(leases({"do": "sleep", "for": 1000}, {"n": 2}, {"n": 3}, {"n": 4}))
    driven.until(driven.crew.running)
    driven.crew.abort({"1", "3"})
    driven.until(lambda: len(driven.outcomes) == 4)
    ended = {outcome.lease.id: outcome.verdict for outcome in driven.outcomes}
    assert ended == {
        "1": Verdict.ABORTED,
        "2": Verdict.DONE,
        "3": Verdict.ABORTED,
        "4": Verdict.DONE,
    }


def test_terminate_unwinds_the_function_and_charges_nobody(
    drive: Callable[..., Driven], tmp_path: Any
) -> None:
    path = tmp_path / "pid"
    driven = drive(evil).ready()
    driven.crew.start(leases({"do": "touch and sleep", "path": str(path)}, {}, {}))
    driven.until(path.exists)
    driven.crew.terminate()
    driven.until(lambda: len(driven.outcomes) == 3)
    assert {outcome.verdict for outcome in driven.outcomes} == {Verdict.ABORTED}
    assert (tmp_path / "pid.cleaned").exists()
    driven.crew.start(leases({}))
    driven.until(lambda: len(driven.outcomes) == 4)
    assert driven.outcomes[-1].verdict is Verdict.ABORTED


def test_kill_ends_what_does_not_heed_term(drive: Callable[..., Driven]) -> None:
    driven = drive(evil).ready()
    driven.crew.start(leases({"do": "hold the GIL"}))
    driven.until(driven.crew.running)
    driven.crew.terminate()
    driven.crew.kill()
    driven.until(lambda: driven.outcomes)
    assert driven.outcomes[0].verdict is Verdict.ABORTED


def test_close_ends_everything_that_was_started(drive: Callable[..., Driven]) -> None:
    driven = drive(evil, slots=2).ready()
    ended = driven.run(leases({"do": "pid"}, {"do": "leave a child"}), seconds_each=None)
    driven.outcomes.clear()
    driven.crew.start([Lease("3", to_text({"do": "sleep", "for": 1000}))])
    driven.until(driven.crew.running)
    driven.crew.close()
    pids = [int(outcome.result or 0) for outcome in ended.values()]
    end = time.monotonic() + DEADLINE_S
    while any(map(alive, pids)):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_function_that_kills_its_parent_is_charged(drive: Callable[..., Driven]) -> None:
    driven = drive(evil)
    ended = driven.run(leases({}, {"do": "kill parent"}, {}, {}))
    assert {id_ for id_, end in ended.items() if end.verdict is Verdict.FAILED} == {"2"}
    assert len(driven.lines) == 1


def test_what_the_function_is_told(drive: Callable[..., Driven]) -> None:
    from minionize.callbacks.current import current_run

    def tell(param: int) -> list[Any]:
        run = current_run()
        assert run is not None
        return [param, *run]

    driven = drive(tell, checkpoints="/queue/checkpoints", deadline=5e9)
    ended = driven.run([Lease(str(n), str(n), attempt=n + 1) for n in range(5)])
    for n in range(5):
        got = json.loads(ended[str(n)].result or "")
        assert got == [n, str(n), n + 1, 0, driven.minion_id, 5e9, f"/queue/checkpoints/{n}"]
    assert current_run() is None


def test_the_environment_of_a_function(drive: Callable[..., Driven]) -> None:
    env = {**os.environ, "FROM_TEST": "yes", "MINION_PARAM": "of an outer minion"}
    driven = drive(evil, env=env, deadline=5e9)
    ended = driven.run(leases({"do": "environment"}))
    assert json.loads(ended["1"].result or "") == {
        "MINION_ID": driven.minion_id,
        "MINION_SLOT": "0",
        "MINION_DEADLINE": "5000000000",
        "MINION_PARAM": None,
        "FROM_TEST": "yes",
    }


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


def test_a_closure_and_a_lambda(drive: Callable[..., Driven]) -> None:
    factor = 7
    assert drive(lambda x: factor * x).run(leases(6))["1"].result == "42"


def test_by_keyword_by_position_and_mismatch(drive: Callable[..., Driven]) -> None:
    def simulate(lr: float, seed: int = 3) -> list[float]:
        return [lr, seed]

    ended = drive(simulate).run(
        leases({"lr": 0.5, "seed": 1}, [0.25, 2], 0.125, {"lr": 1.0}, {"rate": 1}, [1, 2, 3])
    )
    results = [ended[str(n)].result for n in range(1, 5)]
    assert results == ["[0.5,1]", "[0.25,2]", "[0.125,3]", "[1.0,3]"]
    assert ended["5"].reason == ended["6"].reason == "TypeError"
    assert "'rate'" in ended["5"].detail


@pytest.mark.parametrize(
    ("spec", "part"),
    [
        ("no_such_module_here:f", "no module 'no_such_module_here'"),
        ("json:dumpz", "did you mean dump"),
        ("broken_module:f", "ZeroDivisionError"),
        ("good_module:takes_nothing", "takes no parameter"),
        ("good_module:VALUE", "is no function"),
        ("leaving_module:f", "SystemExit"),
    ],
)
def test_a_function_that_cannot_be_used_is_said_before_anything_runs(
    drive: Callable[..., Driven],
    spec: str,
    part: str,
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "broken_module.py").write_text("x = 1 / 0\n")
    (tmp_path / "good_module.py").write_text("VALUE = 3\ndef takes_nothing(): pass\n")
    (tmp_path / "leaving_module.py").write_text("raise SystemExit(3)\n")
    monkeypatch.chdir(tmp_path)
    driven = drive(FuncCallback.from_spec(spec))
    with pytest.raises(UsageError) as raised:
        driven.ready()
    assert part in str(raised.value) and "\n" not in str(raised.value)


def test_a_module_that_dies_at_import(
    drive: Callable[..., Driven], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deadly.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MinionizeError, match="SIGSEGV"):
        drive(FuncCallback.from_spec("deadly:f")).ready()


def test_call_finds_modules_of_the_current_folder(
    drive: Callable[..., Driven], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train.py").write_text("class A:\n    @staticmethod\n    def f(x): return x + 1\n")
    monkeypatch.chdir(tmp_path)
    assert drive(FuncCallback.from_spec("train:A.f")).run(leases(1))["1"].result == "2"


def test_hooks_run_in_the_minion(drive: Callable[..., Driven]) -> None:
    class Hooked(FuncCallback):
        def __init__(self) -> None:
            super().__init__(evil)
            self.seen: list[Any] = []

        def setup(self, param: Any, engine: Any) -> None:
            self.seen.append(("setup", param.get("n"), os.getpid(), engine))
            if param.get("n") == 3:
                raise OSError("no scratch space")

        def teardown_ok(self, param: Any, engine: Any) -> None:
            self.seen.append(("ok", param.get("n")))

        def teardown_ko(self, param: Any, engine: Any, exception: BaseException) -> None:
            self.seen.append(("ko", param.get("n"), str(exception).splitlines()[0]))

    callback = Hooked()
    ended = drive(callback, engine="engine").run(
        leases({"n": 1}, {"n": 2, "do": "raise", "text": "bad"}, {"n": 3})
    )
    me = os.getpid()
    assert callback.seen == [
        ("setup", 1, me, "engine"),
        ("ok", 1),
        ("setup", 2, me, "engine"),
        ("ko", 2, "ValueError"),
        ("setup", 3, me, "engine"),
        ("ko", 3, "no scratch space"),
    ]
    assert [ended[str(n)].verdict.value for n in (1, 2, 3)] == ["done", "failed", "failed"]
    assert ended["3"].reason == "OSError"


def test_a_signal_to_the_minion_ends_a_wait(drive: Callable[..., Driven]) -> None:
    driven = drive(evil).ready()
    driven.crew.start(leases({"do": "sleep", "for": 1000}))
    driven.until(driven.crew.running)
    os.write(driven.wake, b"!")
    began = time.monotonic()
    assert driven.crew.wait(DEADLINE_S) == []
    assert time.monotonic() - began < DEADLINE_S / 2


def test_a_minion_that_stood_still_charges_nobody(drive: Callable[..., Driven]) -> None:
    guard = Guard.start()
    try:
        driven = drive(evil, slots=2, guard=guard).ready()
        guard.arm(driven.minion_id, lease_s=0.2)
        driven.crew.start(leases({"do": "sleep", "for": 1000}, {"do": "sleep", "for": 1000}))
        guard.beat()
        # No beat any more: the guard takes the minion for hung.
        driven.until(lambda: len(driven.outcomes) == 2)
        assert {outcome.verdict for outcome in driven.outcomes} == {Verdict.ABORTED}
        guard.arm(driven.minion_id, lease_s=1000)
        driven.ready()
        driven.crew.start([Lease("3", "{}")])
        driven.until(lambda: len(driven.outcomes) == 3)
        assert driven.outcomes[-1].verdict is Verdict.DONE
    finally:
        guard.close()


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


def test_where_no_process_can_be_started_nobody_is_charged(drive: Callable[..., Driven]) -> None:
    def no_more(param: int) -> int:
        import resource

        # What the parent is given for a new child does not fit any more.
        limit = resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE)
        resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (8, limit[1]))
        os._exit(1)

    driven = drive(no_more).ready()
    driven.crew.start(leases(1, 2))
    driven.until(lambda: len(driven.outcomes) == 2)
    assert [outcome.verdict for outcome in driven.outcomes] == [Verdict.FAILED, Verdict.ABORTED]
    assert driven.outcomes[1].reason.startswith("no process can be started")

"""FunctionCrew with real child processes: which functions it takes, and what these are told."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from driven import Driven, evil, leases, made

from minionize.callbacks.func import FuncCallback
from minionize.errors import MinionizeError, UsageError
from minionize.values import Lease


@pytest.fixture
def drive() -> Iterator[Callable[..., Driven]]:
    with made() as make:
        yield make


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

"""The Python API over real queues and real processes."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from python_runs import DEADLINE_S

from minionize import (
    FuncCallback,
    MinionizeError,
    Param,
    ProcessCallback,
    Reject,
    RetryLater,
    minionize,
    minionizer,
    open_queue,
)
from minionize.errors import NoSuchQueue, UsageError

pytestmark = pytest.mark.usefixtures("empty_folder")


@minionize
def simulate(lr: float, seed: int) -> dict[str, float]:
    if seed == 13:
        raise Reject("unlucky")
    return {"loss": lr * seed}


@minionize(queue="file:elsewhere", slots=2)
def square(x: int) -> int:
    return x * x


def test_put_work_and_results() -> None:
    assert simulate(0.5, 4) == {"loss": 2.0}
    assert simulate.put({"lr": 0.5, "seed": seed} for seed in range(10)) == 10
    summary = simulate.work(slots=2)
    assert (summary.done, summary.dead, summary.exit_status) == (10, 0, 0)
    rows = sorted(simulate.results(), key=lambda row: int(row["_id"]))
    assert [row["loss"] for row in rows] == [0.5 * seed for seed in range(10)]
    assert rows[3]["lr"] == 0.5 and rows[3]["seed"] == 3
    assert rows[3]["_status"] == "done" and rows[3]["_attempt"] == 1 and rows[3]["_host"]
    assert os.path.isdir("minion-queue")


def test_settings_of_the_decorator_and_scalars() -> None:
    square.put([3])
    square.work()
    assert os.path.isdir("elsewhere")
    (row,) = square.results()
    assert (row["param"], row["result"]) == (3, 9)


def test_map_gives_rows_in_the_order_of_the_params(caplog: pytest.LogCaptureFixture) -> None:
    grid = [{"lr": lr, "seed": seed} for lr in (0.5, 0.25) for seed in range(20)]
    rows = simulate.map(grid, slots=3)
    assert [{"lr": row["lr"], "seed": row["seed"]} for row in rows] == grid
    dead = [row for row in rows if row["_status"] == "dead"]
    assert [row["seed"] for row in dead] == [13, 13]
    assert all(row["_reason"] == "unlucky" and "loss" not in row for row in dead)
    assert all(row["loss"] == row["lr"] * row["seed"] for row in rows if row not in dead)
    assert any("2 of 40 params are dead" in message for message in caplog.messages)
    assert not os.listdir(".")


def test_map_of_a_function_that_always_fails_raises_with_its_traceback() -> None:
    def wrong(x: int) -> float:
        return x / 0

    with pytest.raises(MinionizeError, match="ZeroDivisionError") as raised:
        minionize(wrong).map(range(100))
    assert "in wrong" in str(raised.value.__cause__)


def test_map_of_nothing_and_of_a_queue() -> None:
    assert square.map([]) == []
    assert [row["result"] for row in square.map([3])] == [9]  # whatever queue is its usual one
    with pytest.raises(UsageError, match="map brings its own queue"):
        square.map([1], queue="file:q")


def test_a_minionized_method_still_binds() -> None:
    class Model:
        factor = 3

        @minionize
        def times(self, x: int) -> int:
            return self.factor * x

    assert Model().times(2) == 6


def test_later_comes_back_and_reports(tmp_path: Path) -> None:
    flag = tmp_path / "flag"

    def wait_for_flag(path: str) -> str:
        if not os.path.exists(path):
            open(path, "w").close()
            raise RetryLater(0.1)
        return "seen"

    with open_queue("file:later") as queue:
        queue.put([str(flag)])
        summary = minionizer(FuncCallback(wait_for_flag), queue="file:later").run()
        (row,) = queue.results()
    assert (summary.done, summary.failed, summary.given_back) == (1, 0, 1)
    assert (row["result"], row["_attempt"]) == ("seen", 1)


def test_the_examples_of_old(capfd: pytest.CaptureFixture[str]) -> None:
    class MyProcessCallBack(ProcessCallback):
        def to_cmd(self, param: Param) -> str:
            return f"echo a.out --arg1 {param['arg1']} {param['arg2']}"

    with open_queue() as queue:
        queue.put([{"arg1": 1, "arg2": 2}])
    m = minionizer(MyProcessCallBack())
    m.run()
    assert capfd.readouterr().out == "a.out --arg1 1 2\n"

    def myfunc(one: int, two: int) -> None:
        print("myfunc", one, two)

    def _myfunc(param: Param) -> None:
        return myfunc(param["arg1"], param["arg2"])

    with open_queue() as queue:
        queue.put([{"arg1": 3, "arg2": 4}])
    m = minionizer(FuncCallback(_myfunc))
    m.run()
    assert capfd.readouterr().out == "myfunc 3 4\n"


def test_open_queue() -> None:
    with open_queue("folder/q") as queue:
        with pytest.raises(NoSuchQueue):
            queue.stats()
        with pytest.raises(UsageError, match="put takes params"):
            queue.put("one")
        assert queue.put([1, "two", None]) == 3
        assert queue.put_texts(["4"]) == 1
        assert queue.stats().waiting == 4
        assert [entry.param for entry in queue.scan("waiting")] == [1, "two", None, 4]
        assert queue.purge("waiting") == 4
        assert queue.minions() == []
        assert queue.url.endswith("folder/q")


def test_a_wrong_setting_is_said() -> None:
    with pytest.raises(UsageError, match="slots"):
        minionizer(len, slotz=3)


def test_work_in_a_thread_beside_others() -> None:
    square.put(range(50))
    done: list[int] = []
    threads = [threading.Thread(target=lambda: done.append(square.work().done)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert sum(done) == 50
    assert {row["result"] for row in square.results()} == {x * x for x in range(50)}


def test_a_class_in_place_of_a_callback_is_refused_and_a_path_is_a_queue(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"not the class ProcessCallback: give ProcessCallback\(\)"
    ):
        minionizer(ProcessCallback)
    with open_queue(tmp_path / "by-path") as queue:
        assert queue.put([1, 2]) == 2
    assert (tmp_path / "by-path" / "head").exists()

"""The Python API over real queues and real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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

DEADLINE_S = 60.0


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("MINION_", "REPORTER_", "EXECO_")):
            monkeypatch.delenv(name)


def until(done: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


@minionize
def simulate(lr: float, seed: int) -> dict[str, float]:
    if seed == 13:
        raise Reject("unlucky")
    return {"loss": lr * seed}


@minionize(queue="file:elsewhere", slots=2)
def square(x: int) -> int:
    return x * x


def python(script: str, *args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        **options,
    )


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


def test_inline_runs_here_and_beats_while_it_does(tmp_path: Path) -> None:
    seen: list[int] = []

    def slow(x: int) -> int:
        seen.append(os.getpid())
        time.sleep(1.5)  # three leases long
        return x

    with open_queue("file:q") as queue:
        queue.put([1])
        # Where the lease is not renewed, the second minion takes the param over.
        script = """
            from minionize import minionizer
            print(minionizer(lambda x: None, queue="file:q", lease_s=0.5, quiet=True).run())
        """
        other: list[subprocess.CompletedProcess[str]] = []
        beside = threading.Thread(target=lambda: other.append(python(script)))
        beside.start()
        first = minionizer(slow, queue="file:q", lease_s=0.5, inline=True, until="drained")
        summary = first.run()
        beside.join(DEADLINE_S)
    if summary.done:  # the other may have been first
        assert seen == [os.getpid()] and summary.lost == 0
        assert "done=0" in other[0].stdout
    else:
        assert "done=1" in other[0].stdout


def test_inline_exceptions_reach_the_hooks() -> None:
    class Hooked(FuncCallback):
        seen: list[BaseException]

        def teardown_ko(self, param: Param, engine: Any, exception: BaseException) -> None:
            self.seen.append(exception)

    def fails(param: Param) -> None:
        raise KeyError(param)

    callback = Hooked(fails)
    callback.seen = []
    with open_queue("file:q") as queue:
        queue.put(["a"])
    summary = minionizer(callback, queue="file:q", inline=True, max_attempts=1).run()
    assert (summary.dead, summary.exit_status) == (1, 1)
    assert [type(error) for error in callback.seen] == [KeyError]


@pytest.mark.parametrize("setting", [{"timeout": 3}, {"slots": 2}, {"capture": True}])
def test_inline_says_what_it_cannot_do(setting: dict[str, Any]) -> None:
    with open_queue("file:q") as queue:
        queue.put([1])
    with pytest.raises(UsageError, match="leave out --inline"):
        minionizer(len, queue="file:q", inline=True, **setting).run()


def test_functions_of_main_work_from_every_kind_of_main(tmp_path: Path) -> None:
    body = textwrap.dedent(
        """
        import threading, time
        from minionize import minionize
        threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
        FACTOR = 3
        def helper(x):
            return FACTOR * x
        @minionize
        def f(x):
            return helper(x)
        print("GOT", [row["result"] for row in f.map([1, 2, 3], slots=2)])
        """
    )
    (tmp_path / "script.py").write_text(body)
    wanted = "GOT [3, 6, 9]"
    script = subprocess.run(
        [sys.executable, "script.py"], capture_output=True, text=True, timeout=60, check=False
    )
    assert wanted in script.stdout, script.stderr
    assert wanted in python(body).stdout
    # As typed at the prompt, or in the cells of a notebook.
    typed = body.replace("    return helper(x)\n", "    return helper(x)\n\n").replace(
        "    return FACTOR * x\n", "    return FACTOR * x\n\n"
    )
    shell = subprocess.run(
        [sys.executable, "-i", "-q"],
        input=typed,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert wanted in shell.stdout, shell.stderr


def test_call_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("def run(lr, seed):\n    print(lr, seed)\n    return seed\n")
    with open_queue() as queue:
        queue.put([{"lr": 0.5, "seed": 7}])
        done = _called("--call", "train:run")
        assert (done.returncode, done.stdout) == (0, "0.5 7\n"), done.stderr
        assert [row["result"] for row in queue.results()] == [7]
        queue.put([1])
        wrong = _called("--call", "train:rum")
        assert wrong.returncode == 2
        assert "did you mean run" in wrong.stderr and "Traceback" not in wrong.stderr
        assert queue.stats().waiting == 1
        assert [entry.attempt for entry in queue.scan("waiting")] == [1]


def _called(*args: str) -> subprocess.CompletedProcess[str]:
    return python(f"from minionize.cli.minionize import main; main({list(args)!r})")


def test_nothing_outlives_a_minion_that_is_killed(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import os, subprocess, sys, time
        from minionize import minionizer, open_queue
        def hang(n):
            child = subprocess.Popen(["sleep", "1000"])
            with open(f"pids.{n}", "w") as file:
                file.write(f"{os.getpid()} {os.getppid()} {child.pid}")
            os.rename(f"pids.{n}", f"done.{n}")
            time.sleep(1000)
        with open_queue("file:q") as queue:
            queue.put(range(2))
        minionizer(hang, queue="file:q", slots=2).run()
        """
    )
    minion = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path)
    try:
        until(lambda: all((tmp_path / f"done.{n}").exists() for n in range(2)))
        pids = {int(pid) for n in range(2) for pid in (tmp_path / f"done.{n}").read_text().split()}
        assert len(pids) == 5
    finally:
        minion.kill()
        minion.wait()
    until(lambda: not any(_alive(pid) for pid in pids))


def test_a_minion_killed_while_it_loads_a_function_leaves_nobody(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import os, time\nopen('pid', 'w').write(str(os.getpid()))\nos.rename('pid', 'loading')\n"
        "time.sleep(1000)\ndef f(x): pass\n"
    )
    with open_queue("file:q") as queue:
        queue.put([1])
    script = "from minionize.cli.minionize import main; main(['-q', 'file:q', '--call', 'slow:f'])"
    minion = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path)
    try:
        until((tmp_path / "loading").exists)
        pid = int((tmp_path / "loading").read_text())
        assert _alive(pid)
    finally:
        minion.kill()
        minion.wait()
    until(lambda: not _alive(pid))


def test_term_gives_back_what_runs_and_charges_nobody(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import sys, time
        from minionize import minionizer, open_queue
        def hang(n):
            open("running", "w").close()
            time.sleep(1000)
        with open_queue("file:q") as queue:
            queue.put(range(3))
        sys.exit(minionizer(hang, queue="file:q").run().exit_status)
        """
    )
    minion = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path)
    try:
        until((tmp_path / "running").exists)
        minion.send_signal(signal.SIGTERM)
        assert minion.wait(DEADLINE_S) == 75
    finally:
        minion.kill()
        minion.wait()
    with open_queue("file:q") as queue:
        assert queue.stats().waiting == 3
        assert {entry.attempt for entry in queue.scan("waiting")} == {1}


def test_importing_minionize_costs_nothing() -> None:
    loaded = python(
        """
        import sys
        before = set(sys.modules)
        import minionize
        import json
        print(json.dumps(sorted(name for name in set(sys.modules) - before if "minion" in name)))
        """
    )
    assert json.loads(loaded.stdout) == ["minionize"]
    import minionize as package

    assert set(package.__all__) <= set(dir(package))
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError):
        package.no_such_name  # noqa: B018


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_drained_queue_needs_no_function(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(1000)\n")
    with open_queue() as queue:
        queue.put([1])
        queue.purge("waiting")
    done = _called("--call", "slow:f")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("minionize: 0 done") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("call", ["hang.work(slots=2)", "hang.map([1, 2, 3])"])
def test_ctrl_c_is_a_keyboard_interrupt_and_charges_nobody(tmp_path: Path, call: str) -> None:
    script = textwrap.dedent(
        f"""
        import os, time
        from minionize import minionize
        @minionize(queue="file:q")
        def hang(n):
            open({str(tmp_path / "running")!r}, "w").close()
            time.sleep(1000)
        hang.put([1, 2, 3])
        try:
            {call}
        except KeyboardInterrupt:
            print("interrupted")
        """
    )
    minion = subprocess.Popen(
        [sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    try:
        until((tmp_path / "running").exists)
        minion.send_signal(signal.SIGINT)
        assert minion.communicate(timeout=DEADLINE_S)[0] == "interrupted\n"
        assert minion.returncode == 0
    finally:
        minion.kill()
        minion.wait()
    with open_queue("file:q") as queue:
        assert {entry.attempt for entry in queue.scan("waiting")} == {1}
        assert queue.stats().waiting == 3


def test_a_class_in_place_of_a_callback_is_refused_and_a_path_is_a_queue(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"not the class ProcessCallback: give ProcessCallback\(\)"
    ):
        minionizer(ProcessCallback)
    with open_queue(tmp_path / "by-path") as queue:
        assert queue.put([1, 2]) == 2
    assert (tmp_path / "by-path" / "head").exists()

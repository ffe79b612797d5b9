"""The Python API in scripts, and functions that the command line names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from python_runs import DEADLINE_S, python

from minionize import (
    FuncCallback,
    Param,
    minionizer,
    open_queue,
)
from minionize.errors import UsageError

pytestmark = pytest.mark.usefixtures("empty_folder")


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


def test_a_drained_queue_needs_no_function(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(1000)\n")
    with open_queue() as queue:
        queue.put([1])
        queue.purge("waiting")
    done = _called("--call", "slow:f")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("minionize: 0 done") and done.stderr.count("\n") == 1

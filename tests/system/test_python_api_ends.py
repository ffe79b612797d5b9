"""The Python API: minions that are stopped or killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from python_runs import DEADLINE_S
from services.processes import until

from minionize import (
    open_queue,
)

pytestmark = pytest.mark.usefixtures("empty_folder")


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


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


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

"""`minion launch local`: minions that share a queue, their settings and their output."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

import pytest
from launches import SLEEPING, filled, launched, minion
from services.processes import until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return filled(tmp_path)


def test_minions_share_the_queue(folder: Path) -> None:
    """Each line behind its minion's number, each param once, all of them at work."""
    out, err = minion(
        folder, "launch", "local", "-n", "3", "--", "sh", "-c", "sleep 0.1; echo $1", "x"
    )
    lines = [line.partition(": ")[::2] for line in out.splitlines()]
    assert sorted(int(text) for _, text in lines) == list(range(20))
    assert {number for number, _ in lines} == {"1", "2", "3"}
    assert "3: minionize: " in err
    assert err.splitlines()[-1] == "minion launch: 20 done"


def test_options_of_minionize_are_passed_on(folder: Path) -> None:
    out, _ = minion(
        folder, "launch", "local", "-n", "2", "-O", "output=plain", "--slots", "2", "--max-params",
        "3", "--env", "GREETING=hello you", "--env", "PATH", "--", "sh", "-c",
        'echo "$GREETING $MINION_SLOT"',
    )  # fmt: skip
    assert sorted(set(out.splitlines())) == ["hello you 0", "hello you 1"]
    assert len(out.splitlines()) == 6


def test_settings_of_the_environment_hold(folder: Path) -> None:
    minion(folder, "launch", "local", "--", "false", MINION_MAX_ATTEMPTS="1", status=1,
           MINION_MAX_FAILURES_IN_A_ROW="0")  # fmt: skip
    assert minion(folder, "list", "--state", "dead")[0].count("\n") == 20


def test_the_worst_status_counts(folder: Path) -> None:
    _, err = minion(folder, "launch", "local", "-n", "2", "--", "./none", status=127)
    assert "program ./none is not there" in err


def test_a_share_of_the_machine(folder: Path) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        pytest.skip("one CPU can't be shared out")
    script = (
        "import os, time; time.sleep(.1); "
        "print(sorted(os.sched_getaffinity(0)), os.environ['CUDA_VISIBLE_DEVICES'])"
    )
    out, _ = minion(folder, "launch", "local", "-n", "2", "--cpus", "1", "--gpus", "2", "--",
                    sys.executable, "-c", script)  # fmt: skip
    assert set(out.splitlines()) == {f"1: [{cpus[0]}] 0,1", f"2: [{cpus[1]}] 2,3"}


def test_a_wall_time_ends_them_in_time(folder: Path) -> None:
    begin = time.monotonic()
    minion(folder, "launch", "local", "-n", "2", "--wall-time", "2", "--grace", "1", "--", "sleep",
           "60", "-", status=75)  # fmt: skip
    assert time.monotonic() - begin < 20


def test_secrets_come_from_a_file(folder: Path) -> None:
    (folder / "secret").write_text("s3cret\n")
    out, _ = minion(folder, "launch", "local", "--secret-env", "PASSWORD=secret",
                    "--max-params", "1", "--", "sh", "-c", "echo $PASSWORD")  # fmt: skip
    assert out == "1: s3cret\n"
    said = minion(folder, "launch", "local", "--secret-env", "PASSWORD=secret", "--dry-run", "--",
                  "true")[0]  # fmt: skip
    assert "s3cret" not in said


def test_a_setup_and_another_minionize(folder: Path) -> None:
    (folder / "mine").write_text(
        f'#!/bin/sh\necho mine\nexec {sys.executable} -m minionize.cli.minionize "$@"\n'
    )
    (folder / "mine").chmod(0o755)
    out, _ = minion(folder, "launch", "local", "--minionize", f"{folder}/mine", "-O",
                    "setup=export SET=up", "--quiet", "--", "sh", "-c", "echo $SET")  # fmt: skip
    assert out == "1: mine\n" + "1: up\n" * 20


def test_output_in_files(folder: Path) -> None:
    out, _ = minion(folder, "launch", "local", "-n", "2", "-O", "output=files", "--", "echo", "hi")
    assert out == ""
    lines = minion(folder, "logs")[0].splitlines()
    assert sum(bool(re.fullmatch(r"\d+: hi \d+", line)) for line in lines) == 20
    shown = minion(folder, "jobs")[0]
    assert re.match(r"local-\d+  .*  minions  2 minions, by .*: 2 unknown, output: minion l", shown)


def test_where_the_output_is_is_told(folder: Path) -> None:
    """By jobs and logs, for launches that kept it in files, and for one that did not."""
    said = minion(folder, "logs", status=2)[1]
    assert "(launch local: with -O output=files, or while it runs)" in said
    with launched(folder, "--", *SLEEPING) as process:
        assert process.stdout is not None and process.stdout.readline()
        id = until(lambda: minion(folder, "jobs")[0].partition(" ")[0])
        assert minion(folder, "logs") == (
            "",
            f"minion logs: {id} writes to where it was launched: -O output=files keeps it for "
            "minion logs\n",
        )
        assert "output" not in minion(folder, "jobs", id)[0]
    minion(folder, "launch", "local", "-n", "2", "-O", "output=files", "--max-params", "1", "--",
           "echo", "hi")  # fmt: skip
    kept = minion(folder, "jobs")[0].splitlines()[-1]
    id = kept.partition(" ")[0]
    assert kept.endswith(f", output: minion logs {id}")
    files = [line.partition("  output: ")[2] for line in minion(folder, "jobs", id)[0].splitlines()]
    assert sorted(filter(None, files)) == sorted(
        str(path) for path in (folder / "minion-queue/launches/logs").iterdir()
    )


def test_the_section_of_the_projects_file(folder: Path) -> None:
    (folder / ".minionize.yml").write_text(
        "command: echo {}\nlaunch: {local: {n: 2, O: {output: plain}, quiet: yes}}\n"
    )
    out, err = minion(folder, "launch")
    assert sorted(map(int, out.split())) == list(range(20))
    assert err == ""


def test_a_function_is_launched(folder: Path) -> None:
    """What its import prints comes from the minions alone, and none of it is left behind."""
    (folder / "functions.py").write_text(
        "import os, subprocess\n"
        "subprocess.Popen(['sleep', '2'])\n"
        "print(os.environ['WHO'], flush=True)\n"
        "def run(param): open('log', 'a').write('x')\n"
    )
    out, _ = minion(folder, "launch", "local", "-n", "2", "--env", "WHO=me", "--call",
                    "functions:run")  # fmt: skip
    assert len((folder / "log").read_text()) == 20
    assert {line.partition(": ")[2] for line in out.splitlines()} <= {"me"}

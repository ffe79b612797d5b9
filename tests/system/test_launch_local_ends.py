"""`minion launch local`: how minions are stopped, killed and replaced."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from launches import MINION, counts, environment, filled, launched, minion
from services.processes import until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return filled(tmp_path)


@contextmanager
def two_at_work(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The launch of two minions, each with a run that takes long."""
    with launched(
        folder, "-n", "2", "--grace", "0", "--", "sh", "-c", "echo began; sleep 60"
    ) as it:
        assert it.stdout is not None
        for _ in range(2):
            it.stdout.readline()
        yield it


def test_ctrl_c_stops_gently_and_a_second_one_at_once(folder: Path) -> None:
    """On a terminal: what runs gets its TERM and its grace, all else is given back."""
    script = 'trap "sleep 0.2; exit 0" TERM; echo began; while :; do sleep 0.05; done'
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(folder)
        os.execve(
            sys.executable,
            [*MINION, "launch", "local", "-n", "2", "--grace", "30", "--", "sh", "-c", script],
            environment(),
        )
    said = b""
    while said.count(b"began") < 2:
        said += os.read(terminal, 1024)
    os.write(terminal, b"\x03")
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGINT
    os.close(terminal)
    found = counts(folder)
    assert (found.done, found.waiting, found.dead, found.running) == (2, 18, 0, 0)


def test_a_second_ctrl_c_ends_at_once(folder: Path) -> None:
    script = 'trap "" TERM; echo began; while :; do sleep 0.05; done'
    with launched(folder, "-n", "2", "--grace", "50", "--", "sh", "-c", script) as process:
        assert process.stdout is not None
        assert {process.stdout.readline() for _ in range(2)} == {"1: began\n", "2: began\n"}
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == -signal.SIGINT
    assert counts(folder).waiting == 20


def test_term_gives_back_and_is_75(folder: Path) -> None:
    with two_at_work(folder) as it:
        jobs = json.loads(minion(folder, "jobs", "--json")[0])
        assert [job["state"] for job in jobs["jobs"]] == ["running"] * 2
        it.send_signal(signal.SIGTERM)
        assert it.wait(20) == 75
    assert counts(folder).waiting == 20
    assert "no launch is on record" in minion(folder, "jobs")[1]


def test_a_signal_ends_the_starting_as_well(folder: Path) -> None:
    """Those that began are told, and nobody else comes."""
    with launched(folder, "-n", "300", "--", "sh", "-c", "echo began; sleep 60") as it:
        assert it.stdout is not None
        assert it.stdout.readline().endswith(": began\n")  # long before the last of them
        it.send_signal(signal.SIGTERM)
        said = it.stdout.read()
        assert it.wait(180) == 75
    assert said.count("began") < 20
    assert counts(folder).waiting == 20


def test_no_room_for_one_more_is_one_line(folder: Path) -> None:
    ran = subprocess.run(
        ["sh", "-c", 'ulimit -n 32; exec "$@"', "sh", *MINION, "launch", "local", "-n", "40",
         "--", "sleep", "60"],
        cwd=folder, env=environment(), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    refused = [line for line in ran.stderr.splitlines() if line.startswith("minion launch: ")]
    assert ran.returncode == 69, ran.stderr
    assert len(refused) == 1 and "Too many open files: launch fewer" in refused[0]
    until(lambda: counts(folder).waiting == 20, lambda: counts(folder), timeout_s=20)


def test_launches_that_cant_be_put_on_record_work_all_the_same(folder: Path) -> None:
    (folder / "minion-queue" / "launches").write_text("in the way")
    out, err = minion(folder, "launch", "local", "-n", "2", "-O", "output=plain", "--", "echo")
    assert sorted(map(int, out.split())) == list(range(20))
    assert "minion jobs won't show it: get the right to write there" in err


def test_cancel_from_elsewhere(folder: Path) -> None:
    with two_at_work(folder) as it:
        assert "2 minions told to end" in minion(folder, "cancel", "--all")[0]
        assert it.wait(20) == 75


def test_minions_end_with_a_parent_that_is_killed(folder: Path) -> None:
    with two_at_work(folder) as it:
        it.kill()
        it.wait(20)
        until(lambda: counts(folder).waiting == 20, lambda: counts(folder), timeout_s=20)


def test_resubmit_replaces_the_killed(folder: Path) -> None:
    script = (
        "test $MINION_PARAM_ID != 3 || test -e dead || { touch dead; kill -9 $PPID; }; echo $1; "
        "sleep 0.02"
    )
    # Enough for one that takes the place of the other.
    (folder / "params").write_text("".join(f"{number}\n" for number in range(20, 200)))
    minion(folder, "feed", "params")
    out, _ = minion(folder, "launch", "local", "-n", "2", "--resubmit", "-O", "output=plain",
                    "--lease", "2", "--", "sh", "-c", script, "x")  # fmt: skip
    assert set(out.split()) == {str(number) for number in range(200)}
    assert counts(folder).done == 200


def test_without_resubmit_the_killed_stay_dead_and_are_told_of(folder: Path) -> None:
    script = "test $MINION_PARAM_ID != 3 || test -e dead || { touch dead; kill -9 $PPID; }"
    minion(folder, "launch", "local", "-n", "2", "--lease", "2", "--", "sh", "-c", script,
           status=137)  # fmt: skip
    assert counts(folder).done == 20

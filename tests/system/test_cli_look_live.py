"""What people see of minions at work, stopped and killed, and of what programs print."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

LIMIT_S = 180.0


def clean_env() -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MINION_", "REPORTER_", "EXECO_", "SLURM_", "OAR_"))
    }
    return {**kept, "PYTHONPATH": os.pathsep.join(sys.path)}


def script(module: str) -> list[str]:
    return [sys.executable, "-c", f"from minionize.cli.{module} import main; main()"]


def run(module: str, *args: str, cwd: Path, stdin: str = "", status: int = 0) -> str:
    ended = subprocess.run(
        [*script(module), *args],
        cwd=cwd,
        env=clean_env(),
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        timeout=LIMIT_S,
        check=False,
    )
    assert ended.returncode == status, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stdout


def view(folder: Path) -> dict[str, Any]:
    value = json.loads(run("minion", "status", "--json", cwd=folder))
    assert isinstance(value, dict)
    return value


def wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


@pytest.fixture
def minions(tmp_path: Path) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Minions that are killed at the end, whatever happened."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for minion in started:
        if minion.poll() is None:
            minion.kill()
        minion.wait(LIMIT_S)


def start(minions: list["subprocess.Popen[bytes]"], folder: Path, *args: str) -> None:
    minions.append(
        subprocess.Popen(
            [*script("minionize"), *args],
            cwd=folder,
            env=clean_env(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    )


def test_what_programs_print_becomes_columns(tmp_path: Path) -> None:
    run("minion", "feed", "-", cwd=tmp_path, stdin="1\n2\n3\n")
    program = 'echo step >&2; echo "{\\"double\\": $(($1 * 2))}"'
    run("minionize", "--capture", "sh", "-c", program, "x", cwd=tmp_path)
    text = run("minion", "results", "--parse", "json", "--output", cwd=tmp_path)
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert sorted((row["param"], row["double"]) for row in rows) == [
        ("1", "2"),
        ("2", "4"),
        ("3", "6"),
    ]
    assert {row["_stderr"] for row in rows} == {"step\n"}
    assert "stderr:\n  step" in run("minion", "show", "2", cwd=tmp_path)


@pytest.mark.parametrize("param", ["plain", "a b; touch x", "it's \x1b[1m", "-n"])
def test_the_line_of_show_runs_the_param_here(tmp_path: Path, param: str) -> None:
    run("minion", "feed", "--format", "jsonl", "-", cwd=tmp_path, stdin=json.dumps(param) + "\n")
    run("minionize", "--capture", "printf", "<%s %s>", "{id}", "{}", cwd=tmp_path)
    shown = run("minion", "show", "1", cwd=tmp_path)
    line = shown.rstrip("\n").rsplit("\n", 1)[1]
    ended = subprocess.run(
        ["bash", "-c", line], cwd=tmp_path, capture_output=True, encoding="utf-8", check=True
    )
    assert ended.stdout == f"<1 {param}>"
    value = json.loads(run("minion", "show", "1", "--json", cwd=tmp_path))
    assert value["events"][0]["stdout"] == ended.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["minion-queue"]


def test_minions_at_work_stopped_and_killed(
    tmp_path: Path, minions: list["subprocess.Popen[bytes]"]
) -> None:
    run("minion", "feed", "-", cwd=tmp_path, stdin="60\n60\n60\n")
    start(minions, tmp_path, "--lease", "4", "sleep")
    start(minions, tmp_path, "--lease", "4", "sleep")

    def states() -> list[str]:
        return sorted(minion["state"] for minion in view(tmp_path)["minions_seen"])

    wait_for(lambda: view(tmp_path)["running"] == 2)
    wait_for(lambda: states() == ["working", "working"])
    listed = run("minion", "list", "--state", "running", "--json", cwd=tmp_path).splitlines()
    assert [json.loads(line)["param"] for line in listed] == ["60", "60"]
    minions[0].send_signal(signal.SIGTERM)
    assert minions[0].wait(LIMIT_S) == 75
    minions[1].kill()
    minions[1].wait(LIMIT_S)
    wait_for(lambda: "gone" in states() and "working" not in states())
    seen = view(tmp_path)
    assert len(seen["minions_seen"]) == 2
    # Given back uncharged, and said so.
    assert sum(seen["given_back_because"].values()) >= 1
    assert seen["failures"] == {}


def test_retries_and_dead_letters_are_told(tmp_path: Path) -> None:
    run("minion", "feed", "-", cwd=tmp_path, stdin="1\n2\n3\n")
    program = '[ "$1" = 2 ] && { echo no such file >&2; exit 7; }; true'
    run("minionize", "--max-attempts", "2", "sh", "-c", program, "x", cwd=tmp_path, status=1)
    seen = view(tmp_path)
    assert (seen["done"], seen["dead"], seen["failures"]) == (2, 1, {"exit 7": 2})
    (group,) = map(json.loads, run("minion", "failures", "--json", cwd=tmp_path).splitlines())
    assert (group["dead"], group["attempts"], group["ids"]) == (1, 2, ["2"])
    assert "no such file" in group["tail"]
    value = json.loads(run("minion", "show", "2", "--json", cwd=tmp_path))
    assert [event["kind"] for event in value["events"]] == ["give_back", "dead"]
    assert value["events"][0]["charged"] is True
    text = run("minion", "results", "--all", cwd=tmp_path)
    rows = {row["param"]: row for row in csv.DictReader(io.StringIO(text))}
    assert rows["2"]["_reason"] == "exit 7"
    assert rows["1"]["_status"] == "done"


def test_a_report_that_can_not_be_written_stops_nobody(tmp_path: Path) -> None:
    run("minion", "feed", "-", cwd=tmp_path, stdin="1\n2\n3\n")
    (tmp_path / "report").write_text("a file")
    ended = subprocess.run(
        [*script("minionize"), "--report-dir", "report", "true"],
        cwd=tmp_path,
        env=clean_env(),
        capture_output=True,
        encoding="utf-8",
        timeout=LIMIT_S,
        check=True,
    )
    told = [line for line in ended.stderr.splitlines() if "can't be written" in line]
    assert len(told) == 1
    assert "REPORTER_JSON_DIRECTORY" in told[0]
    assert view(tmp_path)["done"] == 3
    assert (tmp_path / "report").read_text() == "a file"

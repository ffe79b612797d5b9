"""minion status, list, show, results, failures: real processes over a queue in a folder."""

import csv
import io
import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minionize.contracts.engine import EngineOptions
from minionize.engines.registry import open_engine, open_queue
from minionize.events import Event, Kind
from minionize.reporters import open_reporter
from minionize.values import Failure, SystemClock
from minionize.worker.signals import is_readable

LIMIT_S = 180
MINION = [sys.executable, "-c", "from minionize.cli.minion import main; main()"]
HOSTILE = "a\x1b[2Jb\x1b]0;owned\x07"
PARAMS = [
    {"lr": 0.1, "seed": 1},
    {"lr": 0.1, "seed": 2},
    {"lr": 0.1, "seed": 3},
    {"lr": 0.1, "seed": 4},
    HOSTILE,
    [1, 'say "x", twice\n'],
    "wait; rm",
    8,
]


def minion(*args: str, cwd: Path, **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*MINION, *args],
        cwd=cwd,
        env=clean_env(**env),
        capture_output=True,
        encoding="utf-8",
        timeout=LIMIT_S,
        check=False,
    )


def clean_env(**more: str) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MINION_", "REPORTER_", "EXECO_"))
    }
    return {**kept, "COLUMNS": "100", "PYTHONPATH": os.pathsep.join(sys.path), **more}


def said(*args: str, cwd: Path, **env: str) -> str:
    """What a command that succeeds prints, with nothing on stderr."""
    ended = minion(*args, cwd=cwd, **env)
    assert (ended.stderr, ended.returncode) == ("", 0)
    return ended.stdout


def work(url: str, report: Path, host: str, limit: int = 6) -> Any:
    """A minion that does the first params, each in its own way; returns its engine."""
    minion_id = f"{host}-7-abcdef"
    engine = open_engine(url, EngineOptions(minion_id=minion_id, host=host, pid=7, slots=2))
    reporter = open_reporter(
        "json",
        directory=str(report),
        minion_id=minion_id,
        host=host,
        pid=7,
        slots=2,
        command="./a.out {lr} {seed}",
        clock=SystemClock(),
        warn=pytest.fail,
        write=pytest.fail,
    )
    events = []
    for number in range(1, limit + 1):
        (lease,) = engine.lease(1, 5.0)
        base = Event(Kind.ACK, time.time(), lease.id, 1, 0, 0.25, 0, 0.125, 2048, True)
        if number == 3:
            engine.nack([lease], delay_s=3600.0)
            event = base._replace(
                kind=Kind.GIVE_BACK, reason="exit 4", charged=True, delay_s=3600.0, exit_status=4
            )
        elif number == 4:
            engine.bury([lease], Failure("exit 3", f"boo{HOSTILE}"))
            event = base._replace(
                kind=Kind.DEAD, reason="exit 3", detail=f"boo{HOSTILE}", exit_status=3
            )
        elif number == 5:
            engine.ack([lease])
            event = base._replace(stdout=f"{HOSTILE}\n", stderr=HOSTILE)
        else:
            engine.ack([lease])
            event = base._replace(result=json.dumps({"energy": number, "seed": 1}))
        events.append(event)
    reporter.report(events)
    reporter.beat(0)
    reporter.close()
    engine.stats()  # makes the acks durable
    return engine


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with the default queue in it, half of it worked on by one minion."""
    url = f"file:{tmp_path}/minion-queue"
    queue = open_queue(url, EngineOptions())
    queue.put(PARAMS)
    engine = work(url, tmp_path / "minion-queue" / "report", "node7")
    yield tmp_path
    engine.close()
    queue.close()


def test_status(folder: Path) -> None:
    text = said("status", cwd=folder)
    assert "waiting 2   delayed 1   running 0   done 4   dead 1" in text
    assert "62 % of 8" in text
    assert "memory     below 2.0 MiB" in text
    assert "node7-7-abcdef" in text
    assert "exit 3" in text
    view = json.loads(said("status", "--json", cwd=folder))
    assert (view["waiting"], view["done"], view["dead"]) == (2, 4, 1)
    assert view["seconds"]["median"] == pytest.approx(0.25, rel=0.1)
    assert view["failures"] == {"exit 3": 1, "exit 4": 1}


def test_the_old_name_and_a_queue_elsewhere(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    code = "from minionize.cli.minion import status_main; status_main()"
    ended = subprocess.run(
        [sys.executable, "-c", code, "-q", "../minion-queue"],
        cwd=other,
        env=clean_env(),
        capture_output=True,
        encoding="utf-8",
        timeout=LIMIT_S,
        check=True,
    )
    assert "done 4" in ended.stdout
    by_variable = said("status", cwd=other, MINION_QUEUE="file:../minion-queue")
    assert "done 4" in by_variable
    (other / ".env").write_text("MINION_QUEUE=../minion-queue\n")
    assert "done 4" in said("status", cwd=other)


def test_status_of_an_execo_sweep_reads_minion_report(tmp_path: Path) -> None:
    sweep = pytest.importorskip("execo_engine.sweep")
    sweep.ParamSweeper(str(tmp_path / "sweeps"), sweeps=range(10), save_sweeps=True)
    work(f"execo:{tmp_path}/sweeps", tmp_path / "minion-report", "node8", limit=2).close()
    env = {"MINION_ENGINE": "execo", "MINION_REPORTER": "json"}
    text = said("status", cwd=tmp_path, **env)
    assert "done 2" in text
    assert "node8-7-abcdef" in text
    assert "the report is that in minion-report" in text
    moved = tmp_path / "moved"
    (tmp_path / "minion-report").rename(moved)
    assert "node8" not in said("status", cwd=tmp_path, **env)
    assert "node8" in said("status", cwd=tmp_path, REPORTER_JSON_DIRECTORY="moved", **env)
    moved.rename(tmp_path / "minion-report")
    rows = list(csv.DictReader(io.StringIO(said("results", cwd=tmp_path, **env))))
    assert sorted(row["param"] for row in rows) == ["0", "1"]


def test_list(folder: Path) -> None:
    lines = said("list", cwd=folder).splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["7", "waiting"],
        ["8", "waiting"],
        ["3", "delayed"],
        ["4", "dead"],
    ]
    assert lines[3].endswith("exit 3")
    assert said("list", "--state", "dead", cwd=folder).split()[:2] == ["4", "dead"]
    done = said("list", "--state", "done", "--json", cwd=folder).splitlines()
    assert [json.loads(line)["param"] for line in done] == [PARAMS[n] for n in (0, 1, 4, 5)]
    few = minion("list", "-n", "1", "--state", "waiting", cwd=folder)
    assert few.stdout.split()[:2] == ["7", "waiting"]
    assert few.stderr == "minion list: there are more waiting ones: -n shows them\n"


def test_show(folder: Path) -> None:
    text = said("show", "1", cwd=folder)
    assert "param 1: done" in text
    assert "below 2.0 MiB" in text
    assert text.endswith("to run it here:\n  ./a.out 0.1 1\n")
    dead = said("show", "4", cwd=folder)
    assert "param 4: dead (exit 3)" in dead
    assert "booa\\x1b[2Jb" in dead
    waiting = said("show", "8", cwd=folder)
    assert "no report of it" in waiting
    assert "| minionize --from - --format jsonl ./a.out '{lr}' '{seed}'" in waiting
    value = json.loads(said("show", "1", "--json", cwd=folder))
    assert (value["state"], value["events"][0]["host"]) == ("done", "node7")
    missing = minion("show", "99", cwd=folder)
    assert (missing.returncode, missing.stdout) == (2, "")
    assert "no param '99'" in missing.stderr


def test_results_as_csv(folder: Path) -> None:
    text = said("results", cwd=folder)
    rows = {row["_id"]: row for row in csv.DictReader(io.StringIO(text, newline=""))}
    assert list(rows) == ["1", "2", "5", "6"]
    assert (rows["1"]["lr"], rows["1"]["seed"], rows["1"]["energy"]) == ("0.1", "1", "1")
    assert (rows["2"]["seed"], rows["2"]["result.seed"]) == ("2", "1")
    assert rows["5"]["param"] == HOSTILE
    assert json.loads(rows["6"]["param"]) == PARAMS[5]
    assert (rows["6"]["_status"], rows["6"]["_host"]) == ("done", "node7")


def test_results_as_json_lines_with_output_and_the_dead(folder: Path) -> None:
    ran = minion("results", "--format", "jsonl", "--output", "--all", cwd=folder)
    assert (ran.stderr.count("\n"), ran.returncode) == (1, 0)
    assert "3 rows have no output" in ran.stderr
    text = ran.stdout
    rows = {row["_id"]: row for row in map(json.loads, text.splitlines())}
    assert rows["5"]["_stderr"] == HOSTILE
    assert (rows["4"]["_status"], rows["4"]["_reason"]) == ("dead", "exit 3")
    assert rows["4"]["seed"] == 4


def test_results_into_a_file_that_appears_whole(folder: Path) -> None:
    assert said("results", "-o", "table.jsonl", cwd=folder) == ""
    assert len((folder / "table.jsonl").read_text().splitlines()) == 4
    (folder / "table.csv").write_text("old")
    assert said("results", "-o", "table.csv", cwd=folder) == ""
    assert (folder / "table.csv").read_text().startswith("lr,seed,energy,")
    assert sorted(path.name for path in folder.iterdir()) == [
        "minion-queue",
        "table.csv",
        "table.jsonl",
    ]
    ended = minion("results", "-o", "no/such/folder.csv", cwd=folder)
    assert ended.returncode == 2
    assert "can't be written" in ended.stderr


def test_failures(folder: Path) -> None:
    ended = minion("failures", cwd=folder)
    assert ended.returncode == 0
    assert "exit 3: 1 dead, 1 failed attempt\n  ids: 4\n" in ended.stdout
    assert "exit 4: 1 failed attempt\n  ids: 3" in ended.stdout
    assert "minion retry" in ended.stderr
    groups = [json.loads(line) for line in said("failures", "--json", cwd=folder).splitlines()]
    assert [(group["reason"], group["dead"]) for group in groups] == [("exit 3", 1), ("exit 4", 0)]


def test_no_escape_sequence_reaches_a_terminal(folder: Path) -> None:
    for args in (
        ("status",),
        ("list",),
        ("list", "--state", "done"),
        ("show", "4"),
        ("show", "5"),
        ("results", "--output", "--all"),
        ("results", "--format", "jsonl", "--output"),
        ("failures", "--all"),
    ):
        shown = on_a_terminal(folder, *args)
        assert shown.strip(), args
        assert not [char for char in shown if not char.isprintable() and char not in "\r\n"], args


def on_a_terminal(folder: Path, *args: str) -> str:
    """What the command sends to a terminal."""
    master, slave = pty.openpty()
    try:
        process = subprocess.Popen(
            [*MINION, *args],
            cwd=folder,
            env=clean_env(),
            stdin=subprocess.DEVNULL,
            stdout=slave,
            stderr=slave,
        )
    finally:
        os.close(slave)
    shown = b""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        if is_readable(master, 1.0):
            try:
                piece = os.read(master, 65536)
            except OSError:  # the last of its writers is gone
                break
            if not piece:
                break
            shown += piece
    os.close(master)
    assert process.wait(LIMIT_S) == 0
    return shown.decode()


@pytest.mark.parametrize("command", ["status", "list", "results", "failures", "show"])
def test_no_queue(tmp_path: Path, command: str) -> None:
    ended = minion(command, *(["1"] if command == "show" else []), cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert len(ended.stderr.splitlines()) == 1
    assert "no queue" in ended.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["status", "list", "results", "failures"])
def test_closed_output(tmp_path: Path, command: str) -> None:
    queue = open_queue(f"file:{tmp_path}/minion-queue", EngineOptions())
    queue.put([1, 2])
    queue.close()
    ended = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *MINION, command],
        cwd=tmp_path,
        env=clean_env(),
        capture_output=True,
        encoding="utf-8",
        timeout=LIMIT_S,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (0, ""), ended.stderr
    assert "unexpected" not in ended.stderr


def test_a_queue_that_nobody_worked_on(tmp_path: Path) -> None:
    queue = open_queue(f"file:{tmp_path}/minion-queue", EngineOptions())
    queue.put([1, 2])
    queue.close()
    assert "waiting 2" in said("status", cwd=tmp_path)
    ended = minion("results", cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "")
    assert "no report" in ended.stderr
    ended = minion("failures", cwd=tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (
        0,
        "",
        "minion failures: nothing failed\n",
    )


def test_a_report_without_a_param_that_is_done(tmp_path: Path) -> None:
    queue = open_queue(f"file:{tmp_path}/minion-queue", EngineOptions())
    queue.put([1])
    queue.close()
    (tmp_path / "minion-queue" / "report").mkdir()
    ended = minion("results", cwd=tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (0, "", 1)
    assert "is done: minion status tells" in ended.stderr


def test_a_large_result_whose_file_is_gone(tmp_path: Path) -> None:
    queue = open_queue(f"file:{tmp_path}/minion-queue", EngineOptions())
    queue.put([3])
    queue.close()
    (tmp_path / "large.py").write_text("def f(n):\n    return 'x' * 100_000\n")
    being = [sys.executable, "-c", "from minionize.cli.minionize import main; main()"]
    environment = clean_env()
    environment["PYTHONPATH"] += f":{tmp_path}"
    done = subprocess.run(
        [*being, "--call", "large:f"], cwd=tmp_path, env=environment, check=False, timeout=LIMIT_S
    )
    assert done.returncode == 0
    (file,) = (tmp_path / "minion-queue" / "report" / "results").iterdir()
    file.unlink()
    ended = minion("results", cwd=tmp_path)
    assert ended.stderr == (
        f"minion results: param 1: its result results/{file.name} is gone: to compute it again, "
        "put the param back to work (minion retry --done 1; on a broker feed the param again)\n"
    )


def test_show_of_a_param_that_was_done_and_purged(tmp_path: Path) -> None:
    queue = open_queue(f"file:{tmp_path}/minion-queue", EngineOptions())
    queue.put([1, 2])
    engine = open_engine(f"file:{tmp_path}/minion-queue", EngineOptions(minion_id="m"))
    engine.ack(engine.lease(2, 0.0))
    engine.close()
    queue.close()
    said("purge", "--done", "--yes", cwd=tmp_path)
    told = {
        "1": "param 1 of file:minion-queue is not kept any more: it was done",
        "2": "minion purge dropped it",
        "3": "no param '3'",
        "0": "no param '0'",
        "01": "no param '01'",
        "\u00b2": "no param",
    }
    for id_, word in told.items():
        ended = minion("show", id_, cwd=tmp_path)
        assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
        assert word in ended.stderr


def test_a_damaged_report_is_told(folder: Path) -> None:
    report = folder / "minion-queue" / "report"
    with open(report / "node7-7-abcdef.0001.jsonl", "a") as file:
        file.write("noise\n")
    (report / "node9-1-a.roll").write_text('{"minionize-roll":7}')
    ended = minion("results", cwd=folder)
    assert ended.returncode == 0
    assert len(ended.stdout.splitlines()) > 4
    assert "1 lines of the report are no events" in ended.stderr
    assert "node9-1-a.roll: roll-up of version 7" in minion("status", cwd=folder).stdout

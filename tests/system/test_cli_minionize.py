"""The `minionize` command as people type it: its exit statuses, what it says, its queues."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from services.command_line import (
    Run,
    command,
    environment,
    fill,
    only_line,
    runner,
)
from services.processes import until

from minionize.contracts.engine import EngineOptions
from minionize.engines.registry import open_queue
from minionize.settings.table import OPTIONS
from minionize.values import State


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return runner(tmp_path)


# -- exit statuses, and what is said ------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "status", "says"),
    [
        ((), 2, "no CMD"),
        (("--slotz", "4", "true"), 2, "--slots"),
        (("-P2", "true"), 2, "-j N runs N params at once"),
        (("-I{}", "echo", "{}"), 2, "{} in CMD stands for the param"),
        (("--slots", "many", "true"), 2, "--slots: 'many' is not a whole number"),
        (("--timeout", "soon", "true"), 2, "10m"),
        (("true",), 2, "minion feed"),
        (("-q", "runs/a", "true"), 2, "runs/a"),
        (("-q", "foo:bar", "true"), 2, "foo"),
        (("--from", "nosuch.txt", "true"), 2, "nosuch.txt: no such file"),
        (("--from", "-", "-q", "x", "true"), 2, "-q or --from"),
        (("--from", "-", "nonesuch-program"), 127, "not on PATH"),
        (("--from", "-", "./nonesuch"), 127, "is not there"),
        (("--from", "-", "/"), 126, "is a folder"),
        (("--from", "-", "echo hi | cat"), 127, "looks like a shell line: --shell"),
        (("--from", "-", "sh", "-c", "echo {}"), 2, "--shell"),
        (("--from", "-", "--shell", 'echo "{}"'), 2, "quotes"),
        (
            (
                "--call",
                "nocolon",
            ),
            2,
            "nocolon",
        ),
        (("--call", "a:b", "echo"), 2, "one of them"),
        (("--from", "-", "--call", "math:sqrt", "--chdir", "x"), 2, "--chdir is for programs"),
        (("--from", "-", "--tty", "-j2", "true"), 2, "--tty"),
        (("--format", "csv", "true"), 2, "--from"),
        (("--from", "-", "--tty", "-j2", "true"), 2, "--tty"),
        (("--from", "-", "--inline", "true"), 2, "--inline"),
        (("--from", "-", "--reporter", "jsn", "true"), 2, "jsn"),
    ],
)
def test_usage(run: Run, tmp_path: Path, args: tuple[str, ...], status: int, says: str) -> None:
    ran = run(*args, input="1\n")
    assert ran.returncode == status, ran.stderr
    assert says in only_line(ran)
    assert ran.stdout == ""
    assert os.listdir(tmp_path) == []


def test_a_name_that_the_first_param_lacks(run: Run) -> None:
    ran = run("--from", "-", "echo", "{lr}", input="1\n2\n")
    assert ran.returncode == 2
    assert "has no {lr}" in ran.stderr and ran.stdout == ""


def test_a_wrong_name_costs_no_param_an_attempt(run: Run, tmp_path: Path) -> None:
    fill(f"file:{tmp_path}/q", 1, 2, 3)
    assert run("-q", "q", "-j", "2", "echo", "{lr}").returncode == 2
    queue = open_queue(f"file:{tmp_path}/q", EngineOptions(create=False))
    entries = list(queue.scan(State.WAITING))
    queue.close()
    assert [(entry.id, entry.attempt, entry.crashes) for entry in entries] == [
        ("1", 1, 0),
        ("2", 1, 0),
        ("3", 1, 0),
    ]


def test_a_name_that_a_later_param_lacks_fails_that_one(run: Run) -> None:
    lines = '{"lr":1}\n{"l":2}\n{"lr":3}\n'
    told = ("--format", "jsonl", "--max-attempts", "1")
    ran = run("--from", "-", *told, "echo", "{lr}", input=lines)
    assert (ran.returncode, ran.stdout) == (1, "1\n3\n")
    assert "has no {lr}" in ran.stderr


def test_dead_params(run: Run) -> None:
    ran = run("--from", "-", "sh", "-c", "exit $1", "x", input="0\n65\n")
    assert ran.returncode == 1
    assert "1 done, 1 dead" in ran.stderr


def test_on_exit(run: Run) -> None:
    told = ("--on-exit", "3=done", "--on-exit", "4=dead")
    ran = run("--from", "-", *told, "sh", "-c", "exit $1", "x", input="3\n4\n")
    assert "1 done, 1 dead" in ran.stderr


def test_too_many_failures(run: Run) -> None:
    lines = "".join(f"{n}\n" for n in range(30))
    ran = run("--from", "-", "--max-failures-in-a-row", "5", "false", input=lines)
    assert ran.returncode == 70
    assert "--max-failures-in-a-row" in ran.stderr


def test_arguments_that_cant_be_are_dead_letters(run: Run) -> None:
    lines = '"a\\u0000b"\n"\\ud800"\n"%s"\n' % ("x" * 140_000)
    ran = run("--from", "-", "--format", "jsonl", "echo", input=lines)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.count("--stdin") == 3


def test_quiet(run: Run) -> None:
    ran = run("--quiet", "--from", "-", "echo", input="1\n", MINION_SLTOS="4")
    assert (ran.stdout, ran.stderr) == ("1\n", "")
    assert run("--quiet", "nonesuch-program").stderr != ""


def test_debug_shows_where(run: Run) -> None:
    ran = run("true", MINION_DEBUG="1")
    assert ran.returncode == 2
    assert "Traceback" in ran.stderr


def test_help_and_version(run: Run) -> None:
    ran = run("--help")
    assert ran.returncode == 0
    for option in OPTIONS:
        assert option.flag in ran.stdout and option.variable in ran.stdout
    assert "Advanced" in ran.stdout
    assert max(map(len, ran.stdout.splitlines())) <= 80
    assert run("-h").stdout == ran.stdout


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 75), (signal.SIGUSR2, 75), (signal.SIGINT, -2)]
)
def test_signals(tmp_path: Path, number: int, status: int) -> None:
    fill(f"file:{tmp_path}/minion-queue", 1, 2, 3)
    script = "touch began; exec sleep 600"
    minion = subprocess.Popen(
        command("sh", "-c", script), cwd=tmp_path, env=environment(), stderr=subprocess.PIPE
    )
    until((tmp_path / "began").exists)
    minion.send_signal(number)
    _, said = minion.communicate(timeout=180)
    assert minion.returncode == status, said
    ran = subprocess.run(
        command("echo"),
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        check=True,
        timeout=180,
    )
    assert sorted(ran.stdout.split()) == [b"1", b"2", b"3"]


# -- queues -------------------------------------------------------------------------------------


def test_the_usual_queue(run: Run, tmp_path: Path) -> None:
    fill(f"file:{tmp_path}/minion-queue", 1, "two", {"three": 3})
    ran = run("echo", "hello")
    assert ran.returncode == 0
    assert ran.stdout == 'hello 1\nhello two\nhello {"three":3}\n'
    assert (tmp_path / "minion-queue/report").is_dir()
    assert run("echo", "hello").stdout == ""


def test_dry_run_leases_nothing(run: Run, tmp_path: Path) -> None:
    fill(f"file:{tmp_path}/q", *({"n": n, "s": "a b"} for n in range(8)))
    ran = run("-q", "q", "--dry-run", "--stdout", "{id}", "echo", "{n}", "{s}", "\x1b")
    assert ran.stdout.splitlines() == [f"echo {n} 'a b' $'\\033' > {n + 1}" for n in range(5)]
    assert ran.returncode == 0
    assert run("-q", "q", "echo", "{n}").stdout.split() == [str(n) for n in range(8)]
    assert run("-q", "q", "--dry-run", "echo").stdout == ""
    assert run("-q", "none", "--dry-run", "echo").returncode == 2


def test_waiting_for_a_queue(tmp_path: Path) -> None:
    minion = subprocess.Popen(
        command("--wait", "echo"),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert minion.stderr is not None
    assert "waiting" in minion.stderr.readline()
    fill(f"file:{tmp_path}/minion-queue", 1, 2)
    out, _ = minion.communicate(timeout=180)
    assert (minion.returncode, out) == (0, "1\n2\n")


def test_params_are_run_as_they_come(tmp_path: Path) -> None:
    minion = subprocess.Popen(
        command("--from", "-", "sh", "-c", 'echo "$1" >> out', "x"),
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert minion.stdin is not None
    out = tmp_path / "out"
    for number in (1, 2):
        minion.stdin.write(f"{number}\n")
        minion.stdin.flush()
        until(lambda: out.exists() and len(out.read_text().split()) == number)  # noqa: B023
    minion.stdin.close()
    assert minion.wait(180) == 0
    assert minion.stderr is not None
    minion.stderr.close()


def test_more_params_than_are_kept_at_once(run: Run) -> None:
    lines = "".join(f"{n}\n" for n in range(300))
    ran = run("--from", "-", "-j", "4", "--max-params", "200", "echo", input=lines)
    assert ran.returncode == 0
    assert len(ran.stdout.split()) == 200


def test_bad_lines(run: Run) -> None:
    lines = "1\n{\n2\n"
    ran = run("--from", "-", "--format", "jsonl", "echo", input=lines)
    assert ran.returncode == 2
    assert "line 2" in ran.stderr.splitlines()[-1]
    ran = run("--from", "-", "--format", "jsonl", "--skip-bad", "echo", input=lines)
    assert (ran.returncode, ran.stdout) == (0, "1\n2\n")
    assert "line 2" in ran.stderr


def test_from_says_what_failed_since_no_queue_is_left_to_ask(run: Run) -> None:
    ran = run("--from", "-", "--max-attempts", "1", "sh", "-c", "exit $1", "x", input="0\n3\n4\n")
    assert ran.returncode == 1
    last = ran.stderr.splitlines()[-1]
    assert "1 done, 2 dead (2 new)" in last and last.endswith(": 2, 3 (see above why)")


def test_a_function(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def double(x):\n    print(2 * int(x))\n")
    # As the installed script starts: its own folder leads sys.path, not the current one.
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin/minionize"
    script.write_text("from minionize.cli.minionize import main\nmain()\n")
    ran = subprocess.run(
        [sys.executable, str(script), "--from", "-", "--call", "mine:double"],
        input="1\n2\n",
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert (ran.returncode, ran.stdout) == (0, "2\n4\n"), ran.stderr

"""The `minionize` command as people type it, in real processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import minionize
from minionize.contracts.engine import EngineOptions
from minionize.engines.registry import open_queue
from minionize.settings.table import OPTIONS
from minionize.values import State

ROOT = str(Path(minionize.__file__).parent.parent)
SHOW = "import json, sys; print(json.dumps(sys.argv[1:]))"

Ran = subprocess.CompletedProcess[str]
Run = Callable[..., Ran]


def environment(**more: str) -> dict[str, str]:
    """What a person has: none of our own settings."""
    ours = ("MINION_", "EXECO_", "REPORTER_", "OAR_", "SLURM_", "PBS_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**env, "PYTHONPATH": ROOT, **more}


def command(*args: str, module: str = "minionize") -> list[str]:
    main = f"from minionize.cli.{module} import main; main()"
    return [sys.executable, "-c", main, *args]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run(*args: str, input: str = "", module: str = "minionize", **env: str) -> Ran:
        return subprocess.run(
            command(*args, module=module),
            input=input,
            cwd=tmp_path,
            env=environment(**env),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return run


def fill(url: str, *params: Any) -> None:
    queue = open_queue(url, EngineOptions(minion_id="filler"))
    queue.put(params)
    queue.close()


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# -- params become arguments -----------------------------------------------------------------


def test_the_first_line_of_the_readme(run: Run) -> None:
    ran = run("--from", "-", "echo", "hello", input="".join(f"{n}\n" for n in range(1, 11)))
    assert ran.stdout == "".join(f"hello {n}\n" for n in range(1, 11))
    assert ran.returncode == 0
    assert "10 done" in ran.stderr


NASTY = [
    "; rm -rf x",
    "$(touch pwned)",
    "`touch pwned`",
    "a\nb",
    "-n",
    "--help",
    "*",
    "{}",
    "{a}",
    "'\"\\",
    "\x1b[31m",
    "é€😀",
    "",
    " ",
]


@pytest.mark.parametrize("words", [(), ("{}",), ("<{}>", "{id}")])
def test_values_are_data(run: Run, tmp_path: Path, words: tuple[str, ...]) -> None:
    lines = "".join(json.dumps(text) + "\n" for text in NASTY)
    cmd = (sys.executable, "-c", SHOW, *words)
    ran = run("--from", "-", "--format", "jsonl", *cmd, input=lines)
    found = [json.loads(line) for line in ran.stdout.splitlines()]
    expected = {
        (): [[text] for text in NASTY],
        ("{}",): [[text] for text in NASTY],
        ("<{}>", "{id}"): [[f"<{text}>", str(n)] for n, text in enumerate(NASTY, 1)],
    }[words]
    assert found == expected
    assert os.listdir(tmp_path) == []
    assert "\x1b" not in ran.stderr


def test_values_are_data_for_a_shell_line_too(run: Run, tmp_path: Path) -> None:
    lines = "".join(json.dumps(text) + "\n" for text in NASTY)
    ran = run("--from", "-", "--format", "jsonl", "--shell", "printf '<%s>' {}", input=lines)
    assert ran.stdout == "".join(f"<{text}>" for text in NASTY)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("param", "arguments"),
    [
        ("0.10", ["0.10"]),
        ("true", ["true"]),
        ("null", ["null"]),
        ('["a",1,{"b":2}]', ["a", "1", '{"b":2}']),
        ("[]", []),
        ('{"a":"b c"}', ['{"a":"b c"}']),
    ],
)
def test_what_is_appended(run: Run, param: str, arguments: list[str]) -> None:
    ran = run("--from", "-", "--format", "jsonl", sys.executable, "-c", SHOW, input=param + "\n")
    assert json.loads(ran.stdout) == arguments


def test_options_after_cmd_are_its_own(run: Run) -> None:
    cmd = (sys.executable, "-c", SHOW, "--timeout", "x", "--", "-j", "--help", "{}")
    ran = run("-j1", "--from", "-", *cmd, input="5\n")
    assert json.loads(ran.stdout) == ["--timeout", "x", "--", "-j", "--help", "5"]


def test_a_file_of_command_lines(run: Run, tmp_path: Path) -> None:
    (tmp_path / "jobs.txt").write_text("echo a | tr a b\necho $((1 + 2))\n")
    assert run("--from", "jobs.txt", "sh", "-c").stdout == "b\n3\n"


def test_templates_of_places(run: Run, tmp_path: Path) -> None:
    options = ("--stdout", "runs/{id}/out.txt", "--chdir", "at/{n}")
    lines = '{"n":"x"}\n{"n":"y"}\n'
    ran = run("--from", "-", "--format", "jsonl", *options, "pwd", "{n}", input=lines)
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "runs/1/out.txt").read_text() == f"{tmp_path}/at/x\n"
    assert (tmp_path / "runs/2/out.txt").read_text() == f"{tmp_path}/at/y\n"


def test_stdin(run: Run) -> None:
    ran = run("--from", "-", "--format", "jsonl", "--stdin", "cat", input='{"a":"\\u0000"}\n')
    assert ran.stdout == '{"a":"\\u0000"}\n'


# -- exit statuses, and what is said ------------------------------------------------------------


def only_line(ran: Ran) -> str:
    """The one line that was said; never a traceback."""
    assert "Traceback" not in ran.stderr
    (line,) = ran.stderr.splitlines()
    assert line.startswith("minionize: ")
    return line


@pytest.mark.parametrize(
    ("args", "status", "says"),
    [
        ((), 2, "no CMD"),
        (("--slotz", "4", "true"), 2, "--slots"),
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
    lines = '"a\\u0000b"\n"\\udc80"\n"%s"\n' % ("x" * 140_000)
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
    _, said = minion.communicate(timeout=60)
    assert minion.returncode == status, said
    ran = subprocess.run(
        command("echo"),
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert sorted(ran.stdout.split()) == [b"1", b"2", b"3"]


# -- settings -----------------------------------------------------------------------------------


def test_dotenv_reaches_settings_and_program(run: Run, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MINION_FROM=jobs\nTOKEN=secret\nHOME=nowhere\n")
    (tmp_path / "jobs").write_text("1\n")
    ran = run("sh", "-c", 'echo "$TOKEN $HOME $1"', "x", HOME="/here")
    assert ran.stdout == "secret /here 1\n"


def test_misspelt_variables_are_told(run: Run) -> None:
    ran = run("--from", "-", "true", input="1\n", MINION_SLTOS="4")
    assert "MINION_SLTOS means nothing: did you mean MINION_SLOTS?" in ran.stderr
    assert ran.returncode == 0


def test_the_environment_of_a_run(run: Run) -> None:
    script = 'echo "$MINION_PARAM $MINION_PARAM_ID $MINION_ATTEMPT $MINION_SLOT ${MINION_ID:+id}"'
    ran = run("--from", "-", "--stdin", "sh", "-c", script, input="a b\n")
    assert ran.stdout == '"a b" 1 1 0 id\n'


def test_a_minion_inside_a_run_is_told_nothing_wrong(run: Run, tmp_path: Path) -> None:
    (tmp_path / "inner").write_text("7\n")
    inner = command("--from", "inner", "echo", "inner")
    ran = run("--from", "-", "--stdin", *inner, input="1\n")
    assert ran.stdout == "inner 7\n"
    assert "means nothing" not in ran.stderr


def test_what_is_typed_counts_more_than_variables(run: Run) -> None:
    ran = run("--from", "-", "echo", input="1\n", MINION_CALL="no.such:function", MINION_QUEUE="q")
    assert (ran.returncode, ran.stdout) == (0, "1\n")
    ran = run("--from", "-", "--no-capture", "echo", input="1\n", MINION_CAPTURE="1")
    assert ran.stdout == "1\n"


def test_yaml(run: Run, tmp_path: Path) -> None:
    (tmp_path / ".minionize.yml").write_text("from: jobs\nslot: 4\n")
    ran = run("echo")
    assert ran.returncode == 2
    assert "did you mean slots?" in only_line(ran)
    (tmp_path / ".minionize.yml").write_text("from: jobs\nslots: 4\n")
    (tmp_path / "jobs").write_text("1\n")
    assert run("echo").stdout == "1\n"


def test_config(run: Run, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MINION_TIMEOUT=2m\n")
    (tmp_path / ".minionize.yml").write_text("grace: 5\n")
    ran = run("config", "--json", "-j", "3", module="minion", MINION_QUEUE="runs/a")
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    told = {name: (row["value"], row["origin"]) for name, row in found.items()}
    assert told["slots"] == (3, "--slots")
    assert told["queue"] == ("runs/a", "MINION_QUEUE")
    assert told["timeout"] == (120.0, ".env: MINION_TIMEOUT")
    assert told["grace"] == (5.0, ".minionize.yml: grace")
    assert told["lease"] == (60.0, "default")
    lines = run("config", module="minion").stdout.splitlines()
    assert [line.split() for line in lines if line.startswith("timeout")] == [
        ["timeout", "120", ".env:", "MINION_TIMEOUT"]
    ]


def test_a_shell_under_a_scheduler_is_told(tmp_path: Path) -> None:
    (tmp_path / "jobs").write_text("1\n")
    for script, told in (('"$@"; true', True), ('exec "$@"', False)):
        ran = subprocess.run(
            ["sh", "-c", script, "sh", *command("--from", "jobs", "echo", "hello from $OAR")],
            cwd=tmp_path,
            env=environment(OAR_JOB_ID="4711"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert ("exec minionize" in ran.stderr) is told
        assert ran.stdout == "hello from $OAR 1\n"


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
    out, _ = minion.communicate(timeout=60)
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
    assert minion.wait(60) == 0
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
        timeout=60,
    )
    assert (ran.returncode, ran.stdout) == (0, "2\n4\n"), ran.stderr


# -- where it runs ------------------------------------------------------------------------------


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams(tmp_path: Path, closed: str) -> None:
    """What is closed stays without effect: nothing else is written to in its place."""
    fill(f"file:{tmp_path}/q", 1, 2)
    script = 'echo "$1"; echo "$1" >&2; echo "$1" > "$1"'
    cmd = command("-q", "q", "sh", "-c", script, "x")
    ran = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", *cmd],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == ("" if ">&-" in closed.replace("2>&-", "") else "1\n2\n")
    assert (tmp_path / "2").read_text() == "2\n"
    # The queue is as it should be.
    ran = subprocess.run(
        cmd, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True, timeout=60
    )
    assert ran.stdout == ""


def test_output_that_cant_be_written(run: Run, tmp_path: Path) -> None:
    for args in (["--help"], ["--from", "jobs", "--dry-run", "echo"]):
        (tmp_path / "jobs").write_text("1\n")
        with open("/dev/full", "w") as full:
            ran = subprocess.run(
                command(*args),
                cwd=tmp_path,
                env=environment(),
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
                timeout=60,
            )
        assert ran.returncode == 70
        assert ran.stderr.startswith("minionize: no space left")
        assert len(ran.stderr.splitlines()) == 1


def test_runs_whose_output_cant_be_written(tmp_path: Path) -> None:
    fill(f"file:{tmp_path}/q", 1, 2, 3)
    with open("/dev/full", "w") as full:
        ran = subprocess.run(
            command("-q", "q", "echo"),
            cwd=tmp_path,
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    assert ran.returncode == 75
    assert ran.stderr.count("its output could not be passed on") == 1
    queue = open_queue(f"file:{tmp_path}/q", EngineOptions())
    assert queue.stats().waiting == 3
    queue.close()


def test_a_queue_that_is_removed_while_a_minion_runs(tmp_path: Path) -> None:
    fill(f"file:{tmp_path}/q", *range(1000))
    with subprocess.Popen(
        command("-q", "q", "sh", "-c", "touch began; sleep 0.2"),
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    ) as minion:
        until((tmp_path / "began").exists)
        while (tmp_path / "q").exists():
            shutil.rmtree(tmp_path / "q", ignore_errors=True)
        try:
            _, said = minion.communicate(timeout=60)
        finally:
            minion.kill()
    assert minion.returncode == 2, said
    assert "was removed while it was in use" in said


def test_a_folder_that_vanished(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    ran = subprocess.run(
        ["sh", "-c", 'rmdir "$PWD"; exec "$@"', "sh", *command("echo")],
        cwd=gone,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode in (2, 70)
    assert "Traceback" not in ran.stderr and len(ran.stderr.splitlines()) == 1


def test_a_terminal(tmp_path: Path) -> None:
    """A live line that is cleared before output, and no escape sequence of a param's."""
    import pty

    (tmp_path / "jobs").write_text('"\\u001b]0;evil\\u0007"\n1\n')
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        script = 'sleep 1; echo "$1"; test "$1" = 2 || exit 65'
        told = ("--from", "jobs", "--format", "jsonl")
        cmd = command(*told, "sh", "-c", script, "x", "{id}")
        os.execve(cmd[0], cmd, environment())
    shown = b""
    try:
        while piece := os.read(fd, 4096):
            shown += piece
    except OSError:  # EIO is how a terminal ends
        pass
    os.close(fd)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    assert b"1 done, 1 dead" in shown
    assert b"\r\x1b[K" in shown
    assert b"evil" not in shown.replace(b"\\x1b]0;evil", b"")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, -2), (signal.SIGTERM, 75)])
def test_signals_while_waiting(tmp_path: Path, number: int, status: int) -> None:
    minion = subprocess.Popen(
        command("--wait", "echo"), cwd=tmp_path, env=environment(), stderr=subprocess.PIPE
    )
    assert minion.stderr is not None
    assert b"waiting" in minion.stderr.readline()
    minion.send_signal(number)
    _, said = minion.communicate(timeout=60)
    assert (minion.returncode, said) == (status, b"")

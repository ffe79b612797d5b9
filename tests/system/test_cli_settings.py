"""Where settings come from: the command line, variables, .env, .minionize.yml, schedulers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from services.command_line import (
    Run,
    command,
    environment,
    only_line,
    runner,
)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return runner(tmp_path)


def test_dotenv_reaches_settings_and_program(run: Run, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MINION_FROM=jobs\nTOKEN=secret\nHOME=nowhere\n")
    (tmp_path / "jobs").write_text("1\n")
    ran = run("sh", "-c", 'echo "$TOKEN $HOME $1"', "x", HOME="/here")
    assert ran.stdout == "secret /here 1\n"


@pytest.mark.parametrize("name", [".env", ".minionize.yml"])
def test_a_folder_of_that_name_ends_no_command(run: Run, tmp_path: Path, name: str) -> None:
    """A virtualenv is often called `.env`."""
    (tmp_path / name / "bin").mkdir(parents=True)
    (tmp_path / "jobs").write_text("1\n")
    note = f"{name} is left out: it is a folder, no file of settings"
    commands = [
        ("feed", "jobs"),
        ("status",),
        ("list",),
        ("show", "1"),
        ("config",),
        ("doctor",),
        ("jobs",),
        ("launch", "local", "--dry-run", "true"),
        ("cp", "minion-queue", "other"),
        ("pause",),
        ("resume",),
        ("purge", "--yes"),
        ("results",),
        ("wait",),
    ]
    for words in commands:
        ran = run(*words, module="minion")
        assert ran.returncode == 0, (words, ran.stderr)
        assert ran.stderr.count(note) == 1, (words, ran.stderr)
    ran = run("--from", "jobs", "echo")
    assert (ran.returncode, ran.stdout) == (0, "1\n")
    assert ran.stderr.splitlines()[0] == f"minionize: {note}"


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


def test_yaml_has_the_whole_campaign(run: Run, tmp_path: Path) -> None:
    (tmp_path / "jobs").write_text("1\n2\n")
    yml = tmp_path / ".minionize.yml"
    yml.write_text("from: jobs\ncommand: echo x{}\nquiet: yes\n")
    assert run().stdout == "x1\nx2\n"
    assert run("--from", "-", input="3\n").stdout == "x3\n"
    assert run("echo", "y").stdout == "y 1\ny 2\n"
    assert run("--dry-run").stdout == "echo x1\necho x2\n"
    yml.write_text("from: jobs\ncommand: echo x{}\ncall: a:b\n")
    ran = run()
    assert ran.returncode == 2
    assert "sets both call and command: keep one of them" in only_line(ran)
    assert run("echo").stdout == "1\n2\n"
    yml.write_text("from: jobs\n")
    ran = run()
    assert ran.returncode == 2
    assert "there is no CMD to run" in only_line(ran)


def test_config_of_a_project(run: Run, tmp_path: Path) -> None:
    (tmp_path / ".minionize.yml").write_text(
        "command: echo 'a b' {}\nlaunch: {slurm: {n: 8, O: [qos=low, throttle=4]}}\n"
    )
    lines = run("config", module="minion").stdout.splitlines()
    told = [line.split(None, 1)[1] for line in lines if line.startswith(("command", "launch"))]
    assert [" ".join(line.split()) for line in told] == [
        "echo 'a b' '{}' .minionize.yml: command",
        "8 .minionize.yml: launch.slurm.n",
        "qos=low throttle=4 .minionize.yml: launch.slurm.O",
    ]
    found = json.loads(run("config", "--json", module="minion").stdout)
    assert found["command"]["value"] == ["echo", "a b", "{}"]
    assert found["launch.slurm.n"]["origin"] == ".minionize.yml: launch.slurm.n"


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
            timeout=180,
        )
        assert ("exec minionize" in ran.stderr) is told
        assert ran.stdout == "hello from $OAR 1\n"

"""How params become arguments, files and standard input of `minionize` programs."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from services.command_line import (
    SHOW,
    Run,
    runner,
)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return runner(tmp_path)


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


def test_the_separator_of_gnu_parallel_is_told(run: Run) -> None:
    ran = run("--from", "-", "echo", ":::", "a", "b", input="1\n")
    assert (ran.returncode, ran.stdout) == (0, "::: a b 1\n")
    assert ran.stderr.count("is no syntax here") == 1 and "minionize --from - CMD" in ran.stderr
    ran = run("--from", "-", "echo", "a:::b", input="1\n")
    assert "no syntax" not in ran.stderr

"""Commands whose reader has left, as `head` does: they end as other programs, of SIGPIPE."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MINION = [sys.executable, "-c", "from minionize.cli.minion import main; main()"]
MINIONIZE = [sys.executable, "-m", "minionize.cli.minionize"]
LIMIT_S = 180.0


def environment() -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MINION")}
    return {**clean, "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A queue with something of everything, and a launch on record."""
    folder = tmp_path_factory.mktemp("used")
    (folder / "params").write_text("".join(f"{n}\n" for n in range(3000)))
    (folder / ".minionize.yml").write_text("command: echo\nlaunch: {local: {n: 2}}\n")
    for words in (
        ("feed", "params"),
        ("launch", "local", "-O", "output=files", "--max-params", "9", "--max-attempts", "1",
         "sh", "-c", 'echo "$1"; test "$1" != 2', "x"),
    ):  # fmt: skip
        ran = subprocess.run(
            [*MINION, *words], cwd=folder, env=environment(), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=LIMIT_S, check=False,
        )  # fmt: skip
        assert ran.returncode in (0, 75), ran.stderr
    return folder


def into_nothing(argv: list[str], folder: Path) -> tuple[int, str]:
    """Status and stderr of a command whose output nobody reads, from the start."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ran = subprocess.run(
            argv, cwd=folder, env=environment(), stdin=subprocess.DEVNULL, stdout=writing,
            stderr=subprocess.PIPE, text=True, timeout=LIMIT_S, check=False,
        )  # fmt: skip
    finally:
        os.close(writing)
    return ran.returncode, ran.stderr


@pytest.mark.parametrize(
    "args",
    ["--help", "--version", "status", "status --json", "list", "show 1", "show 3", "results",
     "results --format jsonl", "failures", "config", "config --json", "config --help", "doctor",
     "jobs", "jobs --json", "logs", "logs -f", "launch local --dry-run",
     "launch --help", "launch slurm --help", "run --help", "run --dry-run", "pause",
     "resume", "stop", "retry", "purge --dead --yes", "feed params", "cp file:minion-queue file:b"],
)  # fmt: skip
def test_minion_ends_quietly(used: Path, args: str) -> None:
    status, said = into_nothing([*MINION, *args.split()], used)
    assert (status, said) == (-signal.SIGPIPE, ""), (status, said)


@pytest.mark.parametrize("args", ["--help", "--version", "--dry-run echo"])
def test_minionize_ends_quietly(used: Path, args: str) -> None:
    assert into_nothing([*MINIONIZE, *args.split()], used) == (-signal.SIGPIPE, "")


@pytest.mark.parametrize("words", [["echo"], ["-j", "2", "echo"], ["--call", "printing:shout"]])
def test_a_minion_behind_head_ends_with_one_short_line(tmp_path: Path, words: list[str]) -> None:
    """What a program wrote and nobody took was not done; it ends as when it is told to stop."""
    (tmp_path / "params").write_text("".join(f"{n}\n" for n in range(500)))
    (tmp_path / "printing.py").write_text("def shout(param):\n    print(param, flush=True)\n")
    subprocess.run([*MINION, "feed", "params"], cwd=tmp_path, env=environment(), check=True,
                   stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT_S)  # fmt: skip
    status, said = into_nothing([*MINIONIZE, *words], tmp_path)
    assert status == 75
    (line,) = said.splitlines()
    assert re.match(r"minionize: \d+ done.*, stopped \(stdout: nobody reads it any more\), ", line)
    assert words[0] == "--call" or line.endswith(", 500 left")


def test_another_pipe_that_breaks_is_no_reader_of_ours(used: Path) -> None:
    code = (
        "from minionize.cli.ending import finish\n"
        "def body(): raise BrokenPipeError(32, 'Broken pipe')\n"
        "finish(body, 'minion')\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=used, env=environment(), capture_output=True, text=True,
        timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert ran.returncode == 70
    assert ran.stderr.startswith("minion: unexpected BrokenPipeError: ")

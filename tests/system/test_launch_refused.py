"""What `minion launch`, `logs` and `cancel` refuse, or warn of, in a line."""

from __future__ import annotations

from pathlib import Path

import pytest
from launches import counts, filled, minion


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return filled(tmp_path)


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        (["locl"], 2, "no scheduler is called 'locl'"),
        ([], 2, "launch where?"),
        (["local"], 2, "there is no CMD to run"),
        (["local", "-n", "0", "--", "true"], 2, "-n: 0 is not a whole number from 1 on"),
        (["local", "-n", "x", "--", "true"], 2, "-n: 'x' is not a whole number from 1 on"),
        (["local", "-q", "none", "--", "true"], 2, "none"),
        (["local", "-n", "100000", "--", "true"], 2, "at most 1,000 minions"),
        (["local", "--wall-time", "0", "--", "true"], 2, "--wall-time: '0' is too short"),
        (["slurm", "--memory", "lots", "--", "true"], 2, "--memory: 'lots' is no size"),
        (["local", "--memory", "4G", "--", "true"], 2, "--memory: nothing here"),
        (["local", "-O", "partition=a", "--", "true"], 2, "local has no such key"),
        (["slurm", "-O", "partion=a", "--", "true"], 2, "did you mean partition?"),
        (["slurm", "-O", "partition", "--", "true"], 2, "write -O KEY=VALUE"),
        (["local", "-O", "output=x", "--", "true"], 2, "'x' is none of prefix, plain, files"),
        (["local", "--env", "NOT_SET_HERE", "--", "true"], 2, "it is not set here"),
        (["local", "--env", "=b", "--", "true"], 2, "names no variable: write --env NAME=VALUE"),
        (["local", "-n", "9" * 20, "--", "true"], 2, "is too large: write 100,000 or less"),
        (["local", "--secret-env", "A", "--", "true"], 2, "write --secret-env NAME=VALUE"),
        (["slurm", "--name", "a\nb", "--", "true"], 2, "--name"),
        (["local", "-q", "memory:x", "--", "true"], 2, "ends with its process"),
        (["local", "--slots", "x", "--", "true"], 2, "--slots"),
        (["slurm", "--minionize", "params", "--", "true"], 2, "--minionize: params is no program"),
        (["slurm", "-O", "sbatch=--wait", "--", "true"], 2, "is for minion launch to say"),
        (["local", "--call", "a:b", "--", "true"], 2, "takes the place of CMD"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(folder: Path, args: list[str], status: int, said: str) -> None:
    _, err = minion(folder, "launch", *args, status=status)
    assert said in err
    assert err.count("\n") == 1
    assert counts(folder).waiting == 20


def test_a_missing_queue_is_told_before_anything_is_submitted(folder: Path) -> None:
    _, err = minion(folder, "launch", "slurm", "-q", "none", "--", "true", status=2, PATH="/none")
    assert "no queue in" in err.splitlines()[-1]


@pytest.mark.parametrize(("scheduler", "program"), [("slurm", "sbatch"), ("oar", "oarsub")])
def test_no_scheduler_here(folder: Path, scheduler: str, program: str) -> None:
    tools = folder / "bin"
    tools.mkdir()
    _, err = minion(folder, "launch", scheduler, "--", "true", status=2, PATH=str(tools))
    assert f"{program} is not found" in err.splitlines()[-1]
    assert "--dry-run prints" in err


def test_a_path_with_a_line_break_is_refused(tmp_path: Path) -> None:
    odd = tmp_path / "a\nb"
    odd.mkdir()
    minion(odd, "feed", "--grid", "x=1:3")
    _, err = minion(odd, "launch", "slurm", "--dry-run", "--", "true", status=2)
    assert "rename it" in err


def test_a_queue_of_one_host_is_warned_of(folder: Path) -> None:
    out, err = minion(folder, "launch", "slurm", "-q", "/tmp/some queue", "--dry-run", "--", "true")
    assert "likely a folder of this machine alone" in err
    assert "exec " in out


def test_a_password_in_the_url_stays_out_of_scripts(folder: Path) -> None:
    _, err = minion(folder, "launch", "slurm", "--minion-queue", "redis://me:pw@host/0",
                    "--dry-run", "--", "true", status=2)  # fmt: skip
    assert "--secret-env" in err
    assert "pw@" not in err


def test_logs_and_cancel_without_launches(folder: Path) -> None:
    assert "no launch is on record" in minion(folder, "logs", status=2)[1]
    assert "no launch oar-3" in minion(folder, "cancel", "oar-3", status=2)[1]
    assert "name the launches" in minion(folder, "cancel", status=2)[1]
    assert minion(folder, "cancel", "--all")[0] == ""


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--call", "gibbon:run"), "no module 'gibbon' in"),
        (
            ("--call", "functions:jump"),
            "module 'functions' has no function 'jump': did you mean dump?",
        ),
        (("--call", "broken:run"), "module 'broken' can't be imported (SystemExit: 1"),
        (("--checkpoint-root", "params", "--", "true"), "params is no folder: name another"),
        (("--checkpoint-root", "params/a", "true"), "params/a can't be made: Not a directory"),
    ],
)
def test_what_keeps_all_from_beginning_is_said_once(
    folder: Path, args: tuple[str, ...], says: str
) -> None:
    (folder / "functions.py").write_text("print('hello')\ndef dump(param): ...\n")
    (folder / "broken.py").write_text("import sys\nsys.exit(1)\n")
    out, err = minion(folder, "launch", "local", "-n", "9", *args, status=2)
    assert out == ""
    (line,) = err.splitlines()
    assert says in line
    _, err = minion(folder, "run", *args, status=2)
    assert says in err
    assert counts(folder).waiting == 20


def test_what_keeps_all_of_them_from_beginning_is_said_once(folder: Path) -> None:
    _, err = minion(folder, "launch", "local", "-n", "8", "--", "./none", status=127)
    assert err == "minion launch: program ./none is not there: mend CMD, or its path\n"
    _, err = minion(folder, "launch", "local", "-n", "8", "--", "./params", status=126)
    assert err.startswith("minion launch: program ./params may not be executed")
    assert err.count("\n") == 1
    assert counts(folder).waiting == 20


def test_logs_say_what_they_cant_read(folder: Path) -> None:
    """Here a folder has the name of a log; as a rule it is somebody else's file."""
    minion(folder, "launch", "local", "-n", "2", "-O", "output=files", "--", "echo", "hi")
    first, second = sorted((folder / "minion-queue/launches/logs").iterdir())
    first.unlink()
    first.mkdir()
    second.write_text("hi\n")
    out, err = minion(folder, "logs", status=66)
    assert out.partition(": ")[2] == "hi\n"
    assert err == f"minion logs: {first} can't be read: Is a directory; ask its owner for it\n"

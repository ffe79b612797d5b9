"""Each example is run as its README says, also as the schedulers would."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

CLONE = Path(__file__).resolve().parents[2]
EXAMPLES = CLONE / "examples"


def run(
    *cmd: str | Path, cwd: Path, env: dict[str, str] | None = None, timeout_s: float = 300
) -> str:
    """What it prints; its commands are those of this environment."""
    path = f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
    ended = subprocess.run(
        [str(word) for word in cmd],
        cwd=cwd,
        env={**os.environ, "PATH": path, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stdout


def compiler() -> str:
    """The C compiler's name."""
    found = next(filter(shutil.which, ("cc", "gcc", "clang")), None)
    if found is None:
        pytest.skip("no C compiler here: the Python twin is tested alone")
    return found


def copy_of(example: str, folder: Path) -> Path:
    shutil.copytree(EXAMPLES / example, folder / example)
    return folder / example


def is_whole(shown: str) -> None:
    """What quickstart.sh prints at its end, when nothing is missing."""
    assert "kill -9" in shown
    assert "160 done, 0 dead" in shown
    assert "160 rows, 160 different, of 160 params" in shown
    assert shown.count("┤") > 10  # two charts


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh clone, with what is not committed yet."""
    fresh = tmp_path_factory.mktemp("fresh") / "a clone"
    git = ["git", "ls-files", "-coz", "--exclude-standard"]
    files = subprocess.run(git, cwd=CLONE, capture_output=True, text=True, check=False)
    if files.returncode:
        pytest.skip("this is no clone of git, which says what the files of the project are")
    for name in filter(None, files.stdout.split("\0")):
        if (CLONE / name).is_file():
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CLONE / name, fresh / name)
    return fresh


@pytest.mark.xdist_group("quickstart")
def test_quickstart_in_a_fresh_clone_and_again(clone: Path, tmp_path: Path) -> None:
    """The first time it makes its environment; then, without a compiler, it takes that one."""
    env = {"PYTHON": sys.executable, "MINION_QUEUE": "file:elsewhere", "MINION_SLOTS": "7"}
    script = clone / "examples" / "quickstart.sh"
    compiler()
    shown = run("sh", script, cwd=tmp_path, env=env, timeout_s=600)
    is_whole(shown)
    assert "ising.c" in shown

    env |= {"CC": "no-such-compiler", "PIP_NO_INDEX": "1", "http_proxy": "http://127.0.0.1:1"}
    shown = run("sh", script, cwd=tmp_path, env=env)
    is_whole(shown)
    assert "ising.py" in shown
    assert os.listdir(tmp_path) == []


def test_ising_twins_print_the_same(tmp_path: Path) -> None:
    run(compiler(), "-O2", "-Wall", "-Werror", "-o", tmp_path / "ising",
        EXAMPLES / "ising" / "ising.c", "-lm", cwd=tmp_path)  # fmt: skip
    for temperature, seed in (("1.5", "0"), ("2.27", "3"), ("3.4", "12345")):
        words = ["--temperature", temperature, "--seed", seed, "--size", "9", "--sweeps", "301"]
        line = run(tmp_path / "ising", *words, cwd=tmp_path)
        assert run(sys.executable, EXAMPLES / "ising" / "ising.py", *words, cwd=tmp_path) == line
        assert set(json.loads(line)) == {"magnetisation", "energy"}
    for wrong in (["--temperature", "x"], ["--temperature", "2"], ["--sweeps"], ["-h"]):
        ended = subprocess.run([tmp_path / "ising", *wrong], capture_output=True, check=False)
        assert ended.returncode == 2
        assert b"usage" in ended.stderr


def test_ising_sweep(tmp_path: Path) -> None:
    compiler()
    chart = run("sh", EXAMPLES / "ising" / "sweep.sh", cwd=tmp_path)
    assert "magnetisation" in chart
    with open(tmp_path / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({(row["temperature"], row["seed"]) for row in rows}) == len(rows) == 160
    cold, hot = (
        [float(row["magnetisation"]) for row in rows if row["temperature"] == temperature]
        for temperature in ("1.5", "3.4")
    )
    assert min(cold) > 0.9 > 0.2 > max(hot)


SCHEDULED = {
    "oar/oar.sh": {
        "OAR_JOB_ID": "1287856",
        "OAR_ARRAY_INDEX": "1",
        "OAR_JOB_WALLTIME_SECONDS": "3600",
    },
    "slurm/slurm.sh": {
        "SLURM_JOB_ID": "1287856",
        "SLURM_ARRAY_TASK_ID": "1",
        "SLURM_CPUS_ON_NODE": "1",
    },
}


@pytest.mark.parametrize("script", SCHEDULED)
def test_scan_scripts_of_schedulers(script: str, tmp_path: Path) -> None:
    """Two jobs of an array, one after the other: the first does it all, the second finds none."""
    (tmp_path / "lines").write_text("".join(f"{number}\n" for number in range(20)))
    run("minion", "feed", "lines", cwd=tmp_path)
    # `pip install minionize` finds it here already; where it doesn't, it changes nothing.
    env = {**SCHEDULED[script], "PIP_DRY_RUN": "1", "PIP_NO_INDEX": "1"}
    first = run("bash", EXAMPLES / script, cwd=tmp_path, env=env)
    hello = [line for line in first.splitlines() if line.startswith("hello")]
    assert sorted(hello) == sorted(f"hello from 1287856 {number}" for number in range(20))
    again = run("bash", EXAMPLES / script, cwd=tmp_path, env=env)
    assert "hello" not in again


@pytest.mark.parametrize("script", SCHEDULED)
def test_signals_of_schedulers_arrive(script: str, tmp_path: Path) -> None:
    """TERM to the script is TERM to the minion: what it could not end is given back."""
    (tmp_path / "lines").write_text("300\n" * 3)
    run("minion", "feed", "lines", cwd=tmp_path)
    text = (EXAMPLES / script).read_text()
    job = tmp_path / "job.sh"
    # Its own program, so that it can be caught at work.
    job.write_text(text.replace("pip install minionize", "").partition("exec ")[0])
    with open(job, "a") as file:
        file.write("exec minionize sh -c 'echo at work; exec sleep \"$1\"' x {}\n")
    path = f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
    with subprocess.Popen(
        ["bash", job],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, **SCHEDULED[script]},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as minion:
        assert minion.stdout is not None and minion.stderr is not None
        try:
            assert minion.stdout.readline() == "at work\n"
            minion.terminate()
            assert minion.wait(180) == 75
        finally:
            minion.kill()
        assert "write `exec minionize`" not in minion.stderr.read()
    status = json.loads(run("minion", "status", "--json", cwd=tmp_path))
    assert (status["waiting"], status["running"], status["done"]) == (3, 0, 0)
    assert "exec minionize" in text


def test_a_python_function_and_its_table(tmp_path: Path) -> None:
    script = EXAMPLES / "python_function" / "walks.py"
    assert run(sys.executable, script, "put", cwd=tmp_path) == "300 params put\n"
    done = run(sys.executable, script, "work", cwd=tmp_path)
    assert done == "300 done here\n"
    table = run(sys.executable, script, "table", cwd=tmp_path).splitlines()
    assert table[0].split() == ["dimensions", "steps", "walks", "distance", "home"]
    assert [line.split()[:3] for line in table[1:]] == [
        [dimensions, steps, "50"] for dimensions in "123" for steps in ("100", "1000")
    ]


def test_a_python_function_from_the_command_line(tmp_path: Path) -> None:
    folder = copy_of("python_function", tmp_path)
    run(sys.executable, "walks.py", "put", cwd=folder)
    run("minionize", "-q", "walks", "-j", "2", "--call", "walks:walk", cwd=folder)
    run("minion", "results", "-q", "walks", "-o", "walks.csv", cwd=folder)
    with open(folder / "walks.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 300
    assert list(rows[0])[:5] == ["dimensions", "steps", "seed", "distance", "home"]


def test_filling_a_queue_from_scripts(tmp_path: Path) -> None:
    folder = copy_of("filling", tmp_path)
    assert run(sys.executable, "fill.py", cwd=folder) == "9 params put; 9 wait\n"
    shown = run("sh", "fill.sh", cwd=folder)
    assert shown.splitlines()[-1].split() == ["5", "waiting", "1", '"5"']
    listed = run("minion", "list", "-q", "trains", "--json", cwd=folder).splitlines()
    params = [json.loads(line)["param"] for line in listed]
    assert len(params) == 9 + 2 + 60 + 2
    assert params[9] == {"lr": 0.1, "layers": 2}
    assert params[11] == {"lr": 0.1, "layers": 2, "seed": 0}
    assert params[-2] == {"lr": 0.5, "tags": ["a", "b"]}

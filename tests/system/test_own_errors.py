"""An error of minionize itself ends with 70, wherever it comes from: 1 says that the queue is
drained and holds dead letters, and ends a Job of Kubernetes for good."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from minionize.launch import Launch
from minionize.launch.kubernetes.manifest import job

ROOT = Path(__file__).parents[2]
LIMIT_S = 180.0


def python(folder: Path, code: str, *args: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MINION")}
    return subprocess.run(
        [sys.executable, "-c", code, *args], cwd=folder, env={**clean, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip


START = "from minionize.cli.start import minion, minionize, status\n"


@pytest.mark.parametrize(
    ("missing", "command"),
    [
        ("click", "minion"),
        ("minionize.cli.minion", "status"),
        ("minionize.cli.being", "minionize"),
        ("minionize.settings", "minionize"),
    ],
)
def test_what_cant_be_loaded(tmp_path: Path, missing: str, command: str) -> None:
    ran = python(tmp_path, f"import sys\nsys.modules[{missing!r}] = None\n{START}{command}()")
    assert (ran.returncode, ran.stdout) == (70, "")
    (line,) = ran.stderr.splitlines()
    assert f"it can't be loaded (ModuleNotFoundError: import of {missing} halted" in line


def test_told_to_stop_while_it_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt")
    ran = python(tmp_path, f"import sys\nsys.path.insert(0, '.')\n{START}minion()")
    assert (ran.returncode, ran.stdout, ran.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.parametrize(
    "error",
    ["RecursionError()", "KeyError('a')", "SystemExit(1)", "GeneratorExit()",
     "BaseException()", "OSError(5, 'Input/output error')", "BrokenPipeError(32, 'Broken pipe')"],
)  # fmt: skip
@pytest.mark.parametrize(
    "place", ["minionize.worker.loop.Worker.run", "minionize.assembly.minion.join_queue",
              "minionize.settings.load"],
)  # fmt: skip
def test_whatever_is_raised(tmp_path: Path, place: str, error: str) -> None:
    """Where a minion works, where it begins, and where it is told what to do."""
    module, _, name = place.rpartition(".")
    code = (
        "import importlib, sys\n"
        f"path = {module!r}\n"
        "try: owner = importlib.import_module(path)\n"
        "except ModuleNotFoundError:\n"
        "    path, _, inner = path.rpartition('.')\n"
        "    owner = getattr(importlib.import_module(path), inner)\n"
        "def broken(*args, **kwargs):\n"
        f"    raise {error}\n"
        f"setattr(owner, {name!r}, broken)\n"
        f"{START}minionize()\n"
    )
    (tmp_path / "params").write_text("1\n2\n")
    ran = python(tmp_path, code, "--from", "params", "true")
    assert (ran.returncode, ran.stdout) == (70, ""), ran.stderr
    (line,) = ran.stderr.splitlines()
    assert line.startswith(f"minionize: unexpected {error.partition('(')[0]}: ")
    assert line.endswith("MINION_DEBUG=1 shows where, please report it")


def test_not_even_memory_for_a_word(tmp_path: Path) -> None:
    code = (
        "from minionize.cli import ending\n"
        "def broken(*args): raise MemoryError\n"
        "ending.told = broken\n"
        "ending.finish(broken, 'minionize')\n"
    )
    assert python(tmp_path, code).returncode == 70


def test_the_commands_begin_there() -> None:
    """What else a console script could call would end with 1 where it can't be imported."""
    text = (ROOT / "pyproject.toml").read_text()
    scripts = text.partition("[project.scripts]")[2].partition("\n[")[0].split("\n")
    told = [line.partition('"')[2] for line in scripts if "=" in line]
    assert told and all(line.startswith("minionize.cli.start:") for line in told)


def test_such_a_pod_is_replaced() -> None:
    launch = Launch(queue="redis://redis/0", command=("a",), options={"image": ("i",)})
    rules = job(launch)["spec"]["podFailurePolicy"]["rules"]
    for rule in rules:
        assert 70 not in rule.get("onExitCodes", {}).get("values", [])

"""What the README of 0.2.1 shows runs as it was typed there."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import minionize

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("execo_engine") is None, reason="needs minionize[execo]"
)

ROOT = str(Path(minionize.__file__).parent.parent)
SWEEP = (
    'python -c "from execo_engine.sweep import ParamSweeper; '
    "ParamSweeper('sweeps', sweeps=range({}), save_sweeps=True)\""
)

Shell = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Runs a script in a fresh folder, with our commands on its PATH."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, module, main in [
        ("minionize", "minionize", "main"),
        ("minion", "minion", "main"),
        ("minion-status", "minion", "status_main"),
    ]:
        script = f"#!{sys.executable}\nfrom minionize.cli.{module} import {main}\n{main}()\n"
        (tools / name).write_text(script)
        (tools / name).chmod(0o755)
    (tools / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tools / "python").chmod(0o755)
    here = tmp_path / "here"
    here.mkdir()
    ours = ("MINION_", "EXECO_", "REPORTER_", "OAR_", "SLURM_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    clean |= {"PYTHONPATH": ROOT, "PATH": f"{tools}:{os.environ['PATH']}"}

    def shell(script: str, **env: str) -> subprocess.CompletedProcess[str]:
        ran = subprocess.run(
            ["bash", "-euc", script],
            cwd=here,
            env={**clean, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )
        assert "Traceback" not in ran.stderr
        return ran

    return shell


def hello(lines: str) -> list[tuple[str, int]]:
    """Each line's text and number, by number: execo hands out a set in no order."""
    pairs = [line.rpartition(" ")[::2] for line in lines.splitlines()]
    return sorted(((text, int(number)) for text, number in pairs), key=lambda pair: pair[1])


def test_the_simplest_use(shell: Shell) -> None:
    assert shell(SWEEP.format(10)).returncode == 0
    ran = shell("MINION_ENGINE=execo minionize echo hello")
    assert ran.returncode == 0, ran.stderr
    assert hello(ran.stdout) == [("hello", number) for number in range(10)]
    # All of it is done.
    assert shell("MINION_ENGINE=execo minionize echo hello").stdout == ""


def test_recording_stats(shell: Shell, tmp_path: Path) -> None:
    assert shell(SWEEP.format(2)).returncode == 0
    ran = shell("MINION_ENGINE=execo MINION_REPORTER=json minionize sleep")
    assert ran.returncode == 0, ran.stderr
    assert "2 done" in ran.stderr
    status = shell("MINION_REPORTER=json minion-status")
    assert status.returncode == 0, status.stderr
    assert "2" in status.stdout


def test_an_oar_scan_script(shell: Shell, tmp_path: Path) -> None:
    """`oarsub --array 3` is three jobs with the same script and folder."""
    assert shell(SWEEP.format(30)).returncode == 0
    assert shell('echo "MINION_ENGINE=execo" > .env').returncode == 0
    script = """
set -eux

minionize echo "hello from $OAR_JOB_ID"
"""
    found: list[tuple[str, int]] = []
    for job in ("1287856", "1287857", "1287858"):
        ran = shell(script, OAR_JOB_ID=job)
        assert ran.returncode == 0, ran.stderr
        assert all(text == f"hello from {job}" for text, _ in hello(ran.stdout))
        found += hello(ran.stdout)
    assert sorted(number for _, number in found) == list(range(30))


def test_a_sweep_is_found_where_there_is_no_queue(shell: Shell) -> None:
    assert shell(SWEEP.format(3)).returncode == 0
    ran = shell("minionize echo hello")
    assert hello(ran.stdout) == [("hello", number) for number in range(3)]
    assert "a sweep in sweeps" in ran.stderr


def test_another_folder(shell: Shell) -> None:
    assert shell(SWEEP.format(3).replace("'sweeps'", "'mine'")).returncode == 0
    ran = shell("EXECO_PERSISTENCE_DIR=mine MINION_ENGINE=execo minionize echo hello")
    assert hello(ran.stdout) == [("hello", number) for number in range(3)]


def test_two_minions_at_once(shell: Shell) -> None:
    assert shell(SWEEP.format(40)).returncode == 0
    ran = shell(
        "export MINION_ENGINE=execo\n"
        "minionize echo a > a & one=$!; minionize -j 2 echo b > b & wait $!; wait $one; cat a b"
    )
    assert ran.returncode == 0, ran.stderr
    assert sorted(number for _, number in hello(ran.stdout)) == list(range(40))

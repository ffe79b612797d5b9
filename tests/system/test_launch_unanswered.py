"""`minion launch slurm` where Slurm's commands are, and Slurm isn't."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from services.processes import free_port
from sites import MINION, ROOT

OF_NOBODY = """\
ClusterName=t
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/none
SlurmctldPort={port}
NodeName=n1 NodeAddr=127.0.0.1
PartitionName=low Nodes=ALL Default=YES
"""


@pytest.fixture(autouse=True)
def slurm_commands(needs_server: Callable[[str], NoReturn]) -> None:
    """Slurm's commands alone."""
    if shutil.which("sbatch") is None:
        needs_server("sbatch is missing: apt-get install slurm-client")


def _launch(folder: Path, configuration: str) -> list[str]:
    """The lines that it wrote to stderr; nothing is submitted."""
    conf = folder / "slurm.conf"
    conf.write_text(configuration)
    env = {**os.environ, "SLURM_CONF": str(conf), "PYTHONPATH": str(ROOT)}
    for args in (("feed", "--grid", "n=1:3"), ("launch", "slurm", "--", "true")):
        ran = subprocess.run(
            [*MINION, args[0], *args[1:]], cwd=folder, env=env, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (69, "")
    return [line for line in ran.stderr.splitlines() if "likely a folder" not in line]


def test_without_configuration(tmp_path: Path) -> None:
    """Of its four lines the one that says what is wrong, and what helps."""
    (line,) = _launch(tmp_path, "")
    assert line.startswith("minion launch: sbatch: Unable to process configuration file: launch on")
    assert line.endswith("; --dry-run prints the script without it")


def test_nobody_answers(tmp_path: Path) -> None:
    """sbatch tries for a while; who waits is told for what."""
    host = socket.gethostname().partition(".")[0]
    waits, line = _launch(tmp_path, OF_NOBODY.format(host=host, port=free_port()))
    assert waits.startswith("minion launch: waiting for Slurm: sbatch has not answered for 5 s; ")
    assert "Unable to contact slurm controller" in line
    assert line.endswith(": see whether it is up (scontrol ping), then try again")

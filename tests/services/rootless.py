"""Podman of a user without any right, with a store of its own in that user's home.

Its containers have no network, or the host's: to make one it takes `/dev/net/tun`, which is not
for all users everywhere.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from services import account
from services.account import Account
from services.podman import Podman
from services.processes import ServerFailed, run

_STORAGE = """\
[storage]
driver = "overlay"
graphroot = "{home}/store"
runroot = "{home}/run/store"
"""
_IDS = "524288-589823"


def lacking() -> str:
    """What it lacks here, beside what `podman` does; empty if nothing."""
    for program, package in (("newuidmap", "uidmap"), ("setpriv", "util-linux")):
        if shutil.which(program) is None:
            return f"{program} is missing: apt-get install {package}"
    if not account.python():
        return "no Python that other users can execute: install one outside of a home"
    return ""


@contextlib.contextmanager
def rootless(podman: Podman, *images: str) -> Iterator[tuple[Account, dict[str, str]]]:
    """A user, and what makes its `podman` use a store with these images of `podman`'s. One at a
    time on this machine."""
    with podman.locked("rootless"), Account("minionize-rootless") as user:
        run("usermod", f"--add-subuids={_IDS}", f"--add-subgids={_IDS}", user.name)
        runtime = user.home / "run"
        runtime.mkdir(mode=0o700)
        shutil.copy2(podman.cache / "runc", user.home)
        conf = (podman.cache / "containers.conf").read_text()
        conf = conf.replace(str(podman.cache), str(user.home)).replace(
            str(podman.run_folder), str(runtime)
        )
        (user.home / "containers.conf").write_text(conf)
        (user.home / "storage.conf").write_text(_STORAGE.format(home=user.home))
        for path in (runtime, *user.home.glob("*.conf")):
            user.own(path)
        env = {
            **user.env,
            "XDG_RUNTIME_DIR": str(runtime),
            "CONTAINERS_STORAGE_CONF": f"{user.home}/storage.conf",
            "CONTAINERS_CONF": f"{user.home}/containers.conf",
        }
        try:
            _load(podman, user, env, images)
            yield user, env
        finally:
            _end(runtime)


def _load(podman: Podman, user: Account, env: dict[str, str], images: tuple[str, ...]) -> None:
    saving = ["podman", "save", "--quiet", "--multi-image-archive", *images]
    with subprocess.Popen(saving, env=podman.env, stdout=subprocess.PIPE) as saved:
        loaded = subprocess.run(
            [*user.words, "podman", "load", "--quiet"], cwd=user.home, env=env, stdin=saved.stdout,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    if loaded.returncode or saved.returncode:
        raise ServerFailed(f"podman load: {loaded.stderr}")


def _end(runtime: Path) -> None:
    """End the process that holds this user's name space."""
    for path in runtime.rglob("pause.pid"):
        with contextlib.suppress(ProcessLookupError, ValueError):
            os.kill(int(path.read_text()), signal.SIGKILL)

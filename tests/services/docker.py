"""A Docker daemon of our own, with the base image of `podman`; it touches nobody's network.

Either its containers have none, or the daemon has a network of its own, in which there is nothing
but they.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from services.podman import BASE, Podman
from services.processes import Server, ServerFailed

_UNUSED_NETWORK = ("--iptables=false", "--ip6tables=false", "--bridge=none")
_OWN_NETWORK = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")


def lacking() -> str:
    """What Docker lacks here, beside what `podman` does; empty if nothing."""
    for program in ("docker", "dockerd"):
        if shutil.which(program) is None:
            return f"{program} is missing: apt-get install docker.io"
    return ""


@contextlib.contextmanager
def docker(podman: Podman, folder: Path, *, network: bool = False) -> Iterator[dict[str, str]]:
    """What makes `docker` use a daemon that runs while this is entered. One at a time on this
    machine (and one with a network), since they share their store in the cache; its files are in
    `folder`, which has a short name."""
    store = podman.cache / ("docker-network" if network else "docker")
    with store.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        socket = folder / "d.sock"
        env = {**os.environ, "DOCKER_HOST": f"unix://{socket}"}
        # containerd is its child, so both end with it.
        server = Server(
            [*(_OWN_NETWORK if network else ()), "dockerd",
             f"--host=unix://{socket}", f"--data-root={store}",
             f"--exec-root={folder}/run", f"--pidfile={folder}/pid", "--storage-driver=overlay2",
             "--exec-opt=native.cgroupdriver=cgroupfs",
             *(("--bridge=none",) if network else _UNUSED_NETWORK)], folder / "out",
        )  # fmt: skip
        try:
            server.ready(lambda: _run(["docker", "version"], env) == 0)
            load(podman, env, BASE)
            yield env
        finally:
            server.stop(patience_s=15.0)


def _run(argv: list[str], env: dict[str, str]) -> int:
    return subprocess.run(argv, env=env, capture_output=True, check=False).returncode


def load(podman: Podman, env: dict[str, str], image: str) -> None:
    """Have an image of podman's in the store, if this very one is not there yet."""
    wanted = podman("image", "inspect", "--format={{.Id}}", image).strip()
    have = subprocess.run(
        ["docker", "image", "inspect", "--format={{.Id}}", image], env=env, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    if have.stdout.strip().removeprefix("sha256:") == wanted:
        return
    argv = ["podman", "save", "--quiet", image]
    with subprocess.Popen(argv, env=podman.env, stdout=subprocess.PIPE) as saved:
        loaded = subprocess.run(
            ["docker", "load"], env=env, stdin=saved.stdout, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
    if loaded.returncode or saved.returncode:
        raise ServerFailed(f"docker load: {loaded.stderr}")

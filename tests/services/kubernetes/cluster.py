"""The cluster that tests use: one for all test processes of a session, started by the first.

    python -m services.kubernetes.cluster FOLDER

keeps it: a control plane and two nodes, in a process namespace of their own. It ends when no
process holds the lock on `FOLDER/users` any more, however those ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from services.kubernetes import memory
from services.kubernetes.build import PROGRAM
from services.kubernetes.calls import Api
from services.kubernetes.control_plane import ADMIN, ControlPlane, write_kubeconfig
from services.processes import Server, until

NODES = ("node-1", "node-2")
_TESTS = Path(__file__).parents[2]


def lacking() -> str:
    """What a cluster lacks here; empty if nothing. It builds nothing."""
    if os.geteuid() != 0:
        return "pods as processes need root"
    for program, package in (
        ("unshare", "util-linux"), ("setpriv", "util-linux"), ("openssl", "openssl"),
    ):  # fmt: skip
        if shutil.which(program) is None:
            return f"{program} is missing: apt-get install {package}"
    return PROGRAM.lacking() or memory.lacking()


@dataclass(frozen=True)
class Cluster:
    """Where it is."""

    port: int
    certificate: str
    etcd_port: int
    folder: Path

    def api(self, token: str = ADMIN) -> Api:
        """Calls as the owner of that token."""
        return Api(self.port, self.certificate, token)

    def kubeconfig(self, token: str = ADMIN) -> str:
        """A file for clients, as the owner of that token."""
        return str(write_kubeconfig(self.folder, self.port, self.certificate, token))

    def forget(self, version: str) -> None:
        """Forget what changed up to that version, as etcd does after 5 minutes."""
        urllib.request.urlopen(
            f"http://127.0.0.1:{self.etcd_port}/v3/kv/compaction",
            json.dumps({"revision": version, "physical": True}).encode(),
        ).close()

    @contextlib.contextmanager
    def node(self, name: str, pool: str) -> Iterator[Server]:
        """One more node, with the label and the taint pool=`pool`. When its process is killed,
        it is gone."""
        server = Server(node_argv(self, name, f"pool={pool}"), self.folder / f"{name}.log")
        try:
            server.ready(lambda: _ready(self.api(), name))
            yield server
        finally:
            _kill(server)
            self.api().call("DELETE", f"/api/v1/nodes/{name}")


def node_argv(cluster: Cluster, name: str, *labels: str) -> list[str]:
    """The command line of a node."""
    folder = cluster.folder / name
    return [
        # unshare heeds no TERM.
        "setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child",
        "--mount", "--propagation", "private", "--mount-proc",
        "env", f"PYTHONPATH={_TESTS}", sys.executable, "-m",
        "services.kubernetes.kubelet",
        name, str(cluster.port), cluster.certificate, str(folder), *labels,
    ]  # fmt: skip


@contextlib.contextmanager
def shared(folder: Path) -> Iterator[Cluster]:
    """The cluster of all that name this folder. CannotBuild, AssertionError if there is none."""
    program = PROGRAM.built()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "users").open("w") as users, (folder / "starting").open("w") as starting:
        fcntl.flock(users, fcntl.LOCK_SH)
        fcntl.flock(starting, fcntl.LOCK_EX)
        where = folder / "cluster.json"
        if not where.exists():
            _start_keeper(program, folder, where)
        fcntl.flock(starting, fcntl.LOCK_UN)
        found = json.loads(where.read_text())
        yield Cluster(**found, folder=folder)


def _start_keeper(program: Path, folder: Path, where: Path) -> None:
    # It outlives whoever starts it, and ends with the last user.
    with (folder / "keeper.log").open("ab") as log:
        subprocess.run(
            ["setsid", "--fork", "unshare", "--pid", "--fork", "--kill-child", "--mount",
             "--propagation", "private", "--mount-proc", sys.executable, "-m",
             "services.kubernetes.cluster", str(program), str(folder)],
            cwd=_TESTS, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True,
        )  # fmt: skip
    failed = folder / "failed"
    until(lambda: where.exists() or failed.exists(), (folder / "keeper.log").read_text)
    assert where.exists(), (folder / "keeper.log").read_text()[-2000:]


def _kill(node: Server) -> None:
    node.process.kill()
    node.process.wait()


def _ready(api: Api, name: str) -> bool:
    for node in api.call("GET", "/api/v1/nodes")["items"]:
        if node["metadata"]["name"] == name:
            kinds = {one["type"]: one["status"] for one in node["status"].get("conditions", [])}
            taints = {one["key"] for one in node["spec"].get("taints", [])}
            return kinds.get("Ready") == "True" and taints <= {"pool"}
    return False


def _users(users: TextIO) -> bool:
    """Whether anybody uses the cluster."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def keep(program: Path, folder: Path) -> None:
    """Start the cluster, and end it with its last user."""
    plane = ControlPlane(program, folder)
    cluster = Cluster(plane.port, plane.certificate, plane.etcd_port, folder)
    nodes = [Server(node_argv(cluster, name), folder / f"{name}.log") for name in NODES]
    for name, node in zip(NODES, nodes, strict=True):
        node.ready(lambda name=name: _ready(cluster.api(), name))  # type: ignore[misc]
    draft = folder / "cluster.draft"
    where = {"port": plane.port, "certificate": plane.certificate, "etcd_port": plane.etcd_port}
    draft.write_text(json.dumps(where))
    draft.rename(folder / "cluster.json")
    with (folder / "users").open() as users:
        while _users(users):
            time.sleep(0.2)
    for node in nodes:
        _kill(node)
    memory.sweep(f"{plane.port}-")
    plane.stop()


if __name__ == "__main__":
    try:
        keep(Path(sys.argv[1]), Path(sys.argv[2]))
    except BaseException:  # whatever it was, who waits for the cluster must know
        Path(sys.argv[2], "failed").touch()
        raise

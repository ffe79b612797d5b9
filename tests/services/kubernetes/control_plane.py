"""etcd, API server, controller manager and scheduler, on loopback, in a folder of their own.

No certificates to make: the API server signs its own, which serves as CA for every client.
Users are tokens in a file: `ADMIN` may do everything, `NOBODY` nothing until it is given a role.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from services.kubernetes.calls import Api, Refused
from services.processes import Server, free_ports, until

ADMIN = "admin-token"
NOBODY = "nobody-token"
_USERS = """\
admin-token,admin,1,"system:masters"
nobody-token,nobody,2,
manager-token,system:kube-controller-manager,3,
scheduler-token,system:kube-scheduler,4,
"""
# How soon a node that says nothing is NotReady. Stock is 40 s.
NODE_GRACE_S = 6


class ControlPlane:
    """The four, started; `stop` ends them."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program = str(program)
        self._folder = folder
        self._servers: list[Server] = []
        self.port, self.etcd_port, peer, manager, scheduler = free_ports(5)
        self.certificate = str(folder / "certificates" / "apiserver.crt")
        try:
            self._start_all(peer, manager, scheduler)
        except BaseException:  # Ctrl-C as well
            self.stop()
            raise

    def _start_all(self, peer: int, manager: int, scheduler: int) -> None:
        folder = self._folder
        (folder / "users.csv").write_text(_USERS)
        subprocess.run(
            ["openssl", "genrsa", "-out", str(folder / "accounts.key"), "2048"],
            check=True, capture_output=True,
        )  # fmt: skip
        etcd, peers = f"http://127.0.0.1:{self.etcd_port}", f"http://127.0.0.1:{peer}"
        self._start("etcd", [
            f"--data-dir={folder}/etcd", f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}", f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}", f"--initial-cluster=default={peers}",
            "--unsafe-no-fsync", "--log-level=warn",
        ])  # fmt: skip
        api = self._start("apiserver", [
            f"--etcd-servers={etcd}", "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none",
            f"--secure-port={self.port}", f"--cert-dir={folder}/certificates",
            "--service-cluster-ip-range=10.96.0.0/24",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={folder}/accounts.key",
            f"--service-account-key-file={folder}/accounts.key",
            f"--token-auth-file={folder}/users.csv", "--authorization-mode=Node,RBAC",
            "--anonymous-auth=false", "--allow-privileged",
            "--kubelet-preferred-address-types=InternalIP",
            "--enable-priority-and-fairness=false", "--profiling=false",
            # What changed of pods long ago is asked of etcd, which `Cluster.forget` makes forget.
            "--watch-cache-sizes=pods#0",
            # Pods leave a node that is gone after 1 s instead of 5 minutes.
            "--default-not-ready-toleration-seconds=1",
            "--default-unreachable-toleration-seconds=1",
        ])  # fmt: skip
        api.ready(lambda: Path(self.certificate).exists())
        self._start("manager", [
            f"--kubeconfig={self.kubeconfig('manager-token')}", "--bind-address=127.0.0.1",
            f"--secure-port={manager}", f"--cert-dir={folder}/manager",
            f"--service-account-private-key-file={folder}/accounts.key",
            f"--root-ca-file={self.certificate}", "--use-service-account-credentials",
            "--leader-elect=false", "--kube-api-qps=500", "--kube-api-burst=500",
            "--pvclaimbinder-sync-period=1s", f"--node-monitor-grace-period={NODE_GRACE_S}s",
            "--node-monitor-period=1s",
        ])  # fmt: skip
        self._start("scheduler", [
            f"--kubeconfig={self.kubeconfig('scheduler-token')}", "--bind-address=127.0.0.1",
            f"--secure-port={scheduler}", f"--cert-dir={folder}/scheduler",
            "--leader-elect=false",
        ])  # fmt: skip
        api.ready(self._usable)
        wait_for_namespace(self.api(), "default")

    def api(self, token: str = ADMIN) -> Api:
        """Calls as one of the users."""
        return Api(self.port, self.certificate, token)

    def kubeconfig(self, token: str) -> Path:
        """A file for clients, as one of the users."""
        return write_kubeconfig(self._folder, self.port, self.certificate, token)

    def _start(self, name: str, options: Sequence[str]) -> Server:
        os.environ["KUBETEST_JOB_BACKOFF"] = "1s"
        server = Server([self._program, name, *options], self._folder / f"{name}.log")
        self._servers.append(server)
        return server

    def _usable(self) -> bool:
        try:
            return self.api().call("GET", "/readyz") == {"text": "ok"}
        except (OSError, Refused):
            return False

    def stop(self) -> None:
        """End all; the API server would wait for open watches."""
        for server in reversed(self._servers):
            server.stop(patience_s=0.5)


def write_kubeconfig(folder: Path, port: int, certificate: str, token: str) -> Path:
    """A file for clients of the API server at `port`, with that token."""
    path = folder / f"{token[:40]}.kubeconfig"
    path.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {
            "server": f"https://127.0.0.1:{port}", "certificate-authority": certificate}}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    }))  # fmt: skip
    return path


def wait_for_namespace(api: Api, name: str) -> None:
    """Until pods may be made there: before its service account exists they are refused."""

    def there() -> bool:
        try:
            api.call("GET", f"/api/v1/namespaces/{name}/serviceaccounts/default")
        except Refused:
            return False
        return True

    until(there, f"no service account in {name}")

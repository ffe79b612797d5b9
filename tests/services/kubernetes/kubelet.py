"""A node: runs the pods that the scheduler gives it, as processes of this machine.

    python -m services.kubernetes.kubelet NODE PORT CERTIFICATES FOLDER [LABEL=VALUE ...]

Run it in a process namespace of its own (`cluster.node_argv`): a program in a pod that kills
all processes that it may must reach only those of this node. When it is killed, the node is
gone, with all that ran there. Not done: images, probes, init containers, restarts in place.
"""

from __future__ import annotations

import http.server
import ssl
import sys
import threading
import time
import urllib.parse
from pathlib import Path

from services.kubernetes.calls import MERGE, STRATEGIC, Api, Refused, Thing
from services.kubernetes.control_plane import ADMIN
from services.kubernetes.pod_run import PodRun
from services.kubernetes.written import stamp


class Node:
    """The pods of one node, by their uid."""

    def __init__(self, api: Api, name: str, folder: Path, labels: dict[str, str]) -> None:
        self._api = api
        self._name = name
        self._folder = folder
        self._labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", **labels}
        self._pods: dict[str, PodRun] = {}

    def register(self, log_port: int) -> None:
        """Make the node known, and keep it alive."""
        self._api.call("POST", "/api/v1/nodes", {
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": self._name, "labels": self._labels},
            # A node with a pool is for those who tolerate it.
            "spec": {"taints": [{"key": "pool", "value": self._labels["pool"],
                                 "effect": "NoSchedule"}]} if "pool" in self._labels else {},
        })  # fmt: skip
        capacity = {"cpu": "8", "memory": "16Gi", "pods": "200", "ephemeral-storage": "100Gi"}
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._api.call("PATCH", f"/api/v1/nodes/{self._name}/status", {"status": {
            "capacity": capacity, "allocatable": capacity,
            "conditions": [{"type": "Ready", "status": "True", "reason": "Started",
                            "lastHeartbeatTime": now, "lastTransitionTime": now}],
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": log_port}}}}, STRATEGIC)  # fmt: skip
        threading.Thread(target=self._renew, daemon=True).start()

    def _renew(self) -> None:
        leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        lease: Thing = {
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": self._name},
            "spec": {"holderIdentity": self._name, "leaseDurationSeconds": 40},
        }  # fmt: skip
        made = False
        while True:
            now = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
            lease["spec"]["renewTime"] = now
            try:
                if made:
                    self._api.call(
                        "PATCH", f"{leases}/{self._name}", {"spec": lease["spec"]}, MERGE
                    )
                else:
                    self._api.call("POST", leases, lease)
                made = True
            except (OSError, Refused) as error:
                print("lease:", error, flush=True)
            time.sleep(1.0)

    def work(self) -> None:
        """Follow what the API server wants of this node, for ever."""
        path = f"/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3D{self._name}"
        while True:
            try:
                for event in self._api.events(path):
                    self._handle(event["type"], event["object"])
            except (OSError, Refused) as error:
                print("watch:", error, flush=True)
            time.sleep(0.1)

    def _handle(self, kind: str, pod: Thing) -> None:
        metadata = pod.get("metadata", {})
        uid = metadata.get("uid")
        if uid is None:
            return  # an error of the watch
        if kind == "DELETED":
            gone = self._pods.pop(uid, None)
            if gone is not None:
                gone.delete(0.0)
            return
        if uid not in self._pods:
            if pod["status"].get("phase") in ("Succeeded", "Failed"):
                return
            self._pods[uid] = PodRun(self._api, pod, self._folder / uid)
        if "deletionTimestamp" in metadata:
            self._pods[uid].delete(float(metadata.get("deletionGracePeriodSeconds", 0)))

    def pod(self, namespace: str, name: str) -> PodRun | None:
        """The one of that name, if it is here."""
        for run in list(self._pods.values()):
            metadata = run.pod["metadata"]
            if (metadata["namespace"], metadata["name"]) == (namespace, name):
                return run
        return None


def log_server(node: Node, certificate: str) -> http.server.ThreadingHTTPServer:
    """Serves what containers wrote, to the API server."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urllib.parse.urlsplit(self.path)
            asked = {key: values[-1] for key, values in urllib.parse.parse_qs(url.query).items()}
            _, kind, namespace, name, container, *_ = [*url.path.split("/"), "", "", "", ""]
            run = node.pod(namespace, name) if kind == "containerLogs" else None
            found = [one for one in run.containers if one.name == container] if run else []
            if not found:
                self.send_error(404)
                return
            self.send_response(200)
            self.end_headers()
            since = (
                time.time_ns() - int(float(asked["sinceSeconds"]) * 1e9)
                if "sinceSeconds" in asked
                else 0
            )
            for at_ns, line in found[0].written.lines(
                follow=asked.get("follow") == "true", since_ns=since,
                tail=int(asked["tailLines"]) if "tailLines" in asked else None,
            ):  # fmt: skip
                stamped = f"{stamp(at_ns)} ".encode() if asked.get("timestamps") == "true" else b""
                self.wfile.write(stamped + line)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, certificate.replace(".crt", ".key"))
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def main() -> None:
    """Be a node."""
    name, port, certificate, folder, *labels = sys.argv[1:]
    api = Api(int(port), certificate, ADMIN, keep=True)
    node = Node(api, name, Path(folder), dict(label.split("=", 1) for label in labels))
    server = log_server(node, certificate)
    node.register(server.server_address[1])
    node.work()


if __name__ == "__main__":
    main()

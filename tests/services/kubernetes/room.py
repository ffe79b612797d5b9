"""A namespace of its own for a test, where only `restricted` pods are admitted, with a volume."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from minionize import open_queue
from minionize.launch import Job, Launch, Submitted
from minionize.launch.kubernetes import states, submit
from services.kubernetes.calls import MERGE, Thing
from services.kubernetes.cluster import Cluster
from services.kubernetes.control_plane import wait_for_namespace
from services.processes import until

CLAIM = "data"
_ENFORCE = "pod-security.kubernetes.io/enforce"


class Room:
    """The namespace `name`. `folder` is what pods have at /data, by the claim `data`."""

    def __init__(self, cluster: Cluster, name: str, folder: Path) -> None:
        self.cluster = cluster
        self.name = name
        self.folder = folder
        self.api = cluster.api()
        self.path = f"/api/v1/namespaces/{name}"
        self.jobs_path = f"/apis/batch/v1/namespaces/{name}/jobs"
        self.api.call("POST", "/api/v1/namespaces", {
            "metadata": {"name": name, "labels": {_ENFORCE: "restricted"}}})  # fmt: skip
        self._make_volume()
        wait_for_namespace(self.api, name)

    def _make_volume(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        size = {"storage": "1Gi"}
        common = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
        anywhere = {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]}
        self.api.call("POST", "/api/v1/persistentvolumes", {
            "metadata": {"name": self.name},
            "spec": {
                **common, "capacity": size, "local": {"path": str(self.folder)},
                "claimRef": {"namespace": self.name, "name": CLAIM},
                "nodeAffinity": {
                    "required": {"nodeSelectorTerms": [{"matchExpressions": [anywhere]}]}},
            },
        })  # fmt: skip
        self.api.call("POST", f"{self.path}/persistentvolumeclaims", {
            "metadata": {"name": CLAIM},
            "spec": {**common, "volumeName": self.name, "resources": {"requests": size}},
        })  # fmt: skip

    @property
    def queue(self) -> str:
        """A queue in the volume, as this machine sees it."""
        return f"file:{self.folder}/queue"

    def feed(self, params: Sequence[object]) -> None:
        """Put these into it; pods may then write there as well."""
        with open_queue(self.queue) as queue:
            queue.put(params)

    def apply(self, *things: Thing) -> None:
        """Create these here, as `kubectl create` would; server-side validation is strict."""
        for thing in things:
            version, kind = thing["apiVersion"], thing["kind"].lower()
            plural = f"{kind}es" if kind.endswith("s") else f"{kind}s"
            root = f"/api/{version}" if version == "v1" else f"/apis/{version}"
            path = f"{root}/namespaces/{self.name}/{plural}?fieldValidation=Strict"
            self.api.call("POST", path, thing)

    def launch(
        self,
        *command: str,
        minions: int = 1,
        minionize: Sequence[str] = (),
        options: Mapping[str, Sequence[str]] | None = None,
        queue: str = "file:/data/queue",
        grace_s: float = 5.0,
        memory_mib: int | None = None,
        wall_time_s: float | None = None,
        secret_env: Mapping[str, str] | None = None,
        kubeconfig: str = "",
        env: Mapping[str, str] | None = None,
    ) -> Submitted:
        """Minions on the queue in the volume."""
        given = {
            "image": ("minions",), "namespace": (self.name,), "volume": (f"{CLAIM}:/data",),
            "kubeconfig": (kubeconfig or self.cluster.kubeconfig(),),
            **{key: tuple(values) for key, values in (options or {}).items()},
        }  # fmt: skip
        return submit(Launch(
            minions=minions, queue=queue, command=command, options=given, grace_s=grace_s,
            minionize_options=("--grace", str(grace_s), *minionize), memory_mib=memory_mib,
            wall_time_s=wall_time_s, secret_env=secret_env or {}, env=env or {},
        ))  # fmt: skip

    def job(self, submitted: Submitted) -> Thing:
        """The Job, as the API server has it."""
        return self.api.call("GET", f"{self.jobs_path}/{submitted.job_ids[0]}")

    def over(self, submitted: Submitted) -> Thing:
        """The condition that ended it; empty while it is at work."""
        for condition in self.job(submitted)["status"].get("conditions", []):
            if condition["type"] in ("Complete", "Failed"):
                found: Thing = condition
                return found
        return {}

    def wait(self, submitted: Submitted, *, timeout_s: float = 180.0) -> Thing:
        """The condition that ends it."""
        return until(
            lambda: self.over(submitted), lambda: self.told(submitted), timeout_s=timeout_s
        )

    def pods(self) -> list[Thing]:
        """All pods here."""
        found: list[Thing] = self.api.call("GET", f"{self.path}/pods")["items"]
        return found

    def until_pods(self, condition: Callable[[list[Thing]], object], what: str) -> list[Thing]:
        """The pods, as soon as that is true of them."""

        def asked() -> list[Thing]:
            pods = self.pods()
            return pods if condition(pods) else []

        return until(asked, lambda: f"{what}: {[pod['status'] for pod in self.pods()]}")

    def log(self, pod: str) -> str:
        """What it wrote."""
        text = self.api.call("GET", f"{self.path}/pods/{pod}/log").get("text", "")
        return str(text)

    def told(self, submitted: Submitted) -> str:
        """All that could explain a failure."""
        jobs: Sequence[Job] = states([submitted])
        logs = [f"{pod['metadata']['name']}: {self.log(pod['metadata']['name'])}"
                for pod in self.pods() if pod["status"]["phase"] != "Pending"]  # fmt: skip
        return "\n".join([str(self.job(submitted)["status"]), *map(str, jobs), *logs])

    def taint(self, node: str, key: str) -> None:
        """Say this of a node: nothing may stay there."""
        path = f"/api/v1/nodes/{node}"
        there = self.api.call("GET", path)["spec"].get("taints", [])
        body = {"spec": {"taints": [*there, {"key": key, "value": "x", "effect": "NoExecute"}]}}
        self.api.call("PATCH", path, body, MERGE)

    def close(self) -> None:
        """Delete all of it, without waiting for that."""
        self.api.call("DELETE", self.path)
        self.api.call("DELETE", f"/api/v1/persistentvolumes/{self.name}")


def running(pods: Sequence[Thing]) -> list[Thing]:
    """Those of them that run."""
    return [pod for pod in pods if pod["status"]["phase"] == "Running"]


def session_folder(basetemp: Path) -> Path:
    """A folder that the processes of a test session share, and no other session has."""
    return (basetemp.parent if os.environ.get("PYTEST_XDIST_WORKER") else basetemp) / "kubernetes"

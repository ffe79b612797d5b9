"""One pod on this node: from Pending to its end, in a thread of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

from services.kubernetes.box import Box, Mount, Spec
from services.kubernetes.calls import STRATEGIC, Api, Refused, Thing
from services.kubernetes.memory import MemoryGroup
from services.kubernetes.volumes import ConfigError, environment, expanded, folders
from services.kubernetes.written import Written

_UNITS = {"": 1, "k": 1000, "M": 1000**2, "G": 1000**3, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}


class Running:
    """A container that was started."""

    def __init__(self, name: str, image: str, box: Box, group: MemoryGroup) -> None:
        self.name = name
        self.image = image
        self.box = box
        self.group = group
        self.written = Written()
        self.started = _now()
        self.ended: Thing | None = None
        self._all_read = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._watch_memory, daemon=True).start()

    def _read(self) -> None:
        self.written.take(self.box.output)
        self._all_read.set()

    def _watch_memory(self) -> None:
        # cgroup 1 kills one process for want of memory; a container that lost one dies whole.
        while self.ended is None:
            if self.group.ooms():
                self.box.signal(signal.SIGKILL)
                return
            time.sleep(0.05)

    def wait(self) -> None:
        """Until it ended; `ended` then says how."""
        status = self.box.wait()
        self._all_read.wait()
        ooms = self.group.ooms()
        self.ended = {
            "exitCode": 137 if ooms else status, "reason": _reason(status, ooms),
            "startedAt": self.started, "finishedAt": _now(),
        }  # fmt: skip
        self.group.close()

    def status(self) -> Thing:
        """Its part of the pod's status."""
        state = (
            {"terminated": self.ended} if self.ended else {"running": {"startedAt": self.started}}
        )
        return {
            "name": self.name, "image": self.image, "imageID": self.image, "restartCount": 0,
            "ready": self.ended is None, "containerID": f"box://{self.box.pid}", "state": state,
        }  # fmt: skip


class PodRun:
    """A pod that was given to this node."""

    def __init__(self, api: Api, pod: Thing, folder: Path) -> None:
        self._api = api
        self.pod = pod
        self._folder = folder
        self._deleted = threading.Event()
        self._finished = threading.Event()
        self._grace_s = 0.0
        self.containers: list[Running] = []
        threading.Thread(target=self._run, daemon=True).start()

    @property
    def path(self) -> str:
        """Of the pod, for the API."""
        metadata = self.pod["metadata"]
        return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"

    def delete(self, grace_s: float) -> None:
        """TERM, and KILL when the grace is over. May be repeated."""
        if self._deleted.is_set():
            return
        self._grace_s = grace_s
        self._deleted.set()
        for container in list(self.containers):
            container.box.signal(signal.SIGTERM)
        threading.Thread(target=self._kill_later, daemon=True).start()

    def _kill_later(self) -> None:
        if not self._finished.wait(self._grace_s):
            self.kill()

    def kill(self) -> None:
        """All of it, now."""
        for container in list(self.containers):
            container.box.signal(signal.SIGKILL)

    def _run(self) -> None:
        try:
            self._folder.mkdir(parents=True)
            started = self._started()
            if started:
                self._report("Running")
                for container in self.containers:
                    container.wait()
            self._finished.set()
            good = started and all(
                one.ended and one.ended["exitCode"] == 0 for one in self.containers
            )
            self._report("Succeeded" if good else "Failed", reason="" if started else "Deleted")
            self._deleted.wait()
            self._remove()
        except Refused as refused:
            if refused.status not in (404, 409):
                raise
            self.kill()  # the pod is gone: deleted by force
        finally:
            self._finished.set()

    def _started(self) -> bool:
        """False if it was deleted before it could start."""
        if self.pod["spec"]["containers"][0]["image"].startswith("missing"):
            self._report_waiting("ErrImagePull", "there is no such image")
            self._deleted.wait()
            return False
        while not self._deleted.is_set():
            try:
                mounted = folders(self._api, self.pod, self._folder)
                for container in self.pod["spec"]["containers"]:
                    self.containers.append(self._start(container, mounted))
                return True
            except ConfigError as error:
                self._report_waiting("CreateContainerConfigError", str(error))
                self._deleted.wait(0.3)
        return False

    def _start(self, container: Thing, mounted: dict[str, str]) -> Running:
        given = environment(self._api, self.pod, container)
        security = {
            **self.pod["spec"].get("securityContext", {}),
            **container.get("securityContext", {}),
        }
        if security.get("runAsNonRoot") and not security.get("runAsUser"):
            raise ConfigError("container has runAsNonRoot and image will run as root")
        # Pods of an indexed Job are given one.
        host = self.pod["spec"].get("hostname", self.pod["metadata"]["name"])
        environment_ = {
            "PATH": f"{Path(sys.prefix, 'bin')}:/usr/local/bin:/usr/bin:/bin",
            "HOME": "/", "HOSTNAME": host,
            "KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": self._api.port,
            **given,
        }  # fmt: skip
        limit = container.get("resources", {}).get("limits", {}).get("memory")
        group = MemoryGroup(
            f"{self._api.port}-{self.pod['metadata']['uid']}", limit and quantity(limit)
        )
        box = self._folder / "box"
        box.mkdir(exist_ok=True)
        words = [*container.get("command", ["minionize"]), *container.get("args", [])]
        return Running(container["name"], container["image"], Box(Spec(
            argv=[expanded(word, given) for word in words],
            env=environment_,
            folder=str(box),
            hostname=host,
            workdir=container.get("workingDir", "/"),
            mounts=[_mount(one, mounted) for one in container.get("volumeMounts", [])],
            entrance=str(group.entrance),
            user=security.get("runAsUser", 0),
            group=security.get("runAsGroup", 0),
            groups=[security["fsGroup"]] if "fsGroup" in security else [],
            read_only=security.get("readOnlyRootFilesystem", False),
            no_new_privileges=security.get("allowPrivilegeEscalation") is False,
            no_capabilities="ALL" in security.get("capabilities", {}).get("drop", []),
        )), group)  # fmt: skip

    def _report(self, phase: str, *, reason: str = "") -> None:
        running = phase == "Running"
        ready = [
            {"type": kind, "status": "True" if running or kind == "Initialized" else "False",
             "lastTransitionTime": _now()}
            for kind in ("Initialized", "Ready", "ContainersReady", "PodReadyToStartContainers")
        ]  # fmt: skip
        statuses = [one.status() for one in self.containers]
        if not statuses:
            ended = {"exitCode": 137, "reason": reason, "startedAt": None, "finishedAt": _now()}
            statuses = [
                _unstarted(one, {"terminated": ended}) for one in self.pod["spec"]["containers"]
            ]
        self._patch({"phase": phase, "conditions": ready, "containerStatuses": statuses,
                     "startTime": self.containers[0].started if self.containers else _now(),
                     "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]})  # fmt: skip

    def _report_waiting(self, reason: str, message: str) -> None:
        state = {"waiting": {"reason": reason, "message": message}}
        self._patch({"phase": "Pending", "containerStatuses": [
            _unstarted(one, state) for one in self.pod["spec"]["containers"]]})  # fmt: skip

    def _patch(self, status: Thing) -> None:
        # Only this pod, should its name have been given again.
        body = {"metadata": {"uid": self.pod["metadata"]["uid"]}, "status": status}
        self._api.call("PATCH", f"{self.path}/status", body, STRATEGIC)

    def _remove(self) -> None:
        uid = self.pod["metadata"]["uid"]
        self._api.call("DELETE", self.path, {
            "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
            "preconditions": {"uid": uid}})  # fmt: skip
        shutil.rmtree(self._folder, ignore_errors=True)


def quantity(text: str) -> int:
    """Bytes, from a quantity of Kubernetes."""
    match = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", text)
    assert match is not None, text
    return int(float(match[1]) * _UNITS[match[2]])


def _mount(mount: Thing, mounted: dict[str, str]) -> Mount:
    source = os.path.join(mounted[mount["name"]], mount.get("subPath", ""))
    return Mount(source.rstrip("/"), mount["mountPath"], mount.get("readOnly", False))


def _unstarted(container: Thing, state: Thing) -> Thing:
    return {"name": container["name"], "image": container["image"], "imageID": "",
            "restartCount": 0, "ready": False, "state": state}  # fmt: skip


def _reason(status: int, ooms: int) -> str:
    if ooms:
        return "OOMKilled"
    return "Error" if status else "Completed"


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

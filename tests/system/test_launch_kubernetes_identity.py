"""Whose a Job is, and what it waits for, on a real control plane: sidecars, suspended Jobs, Jobs of
the same name, and creations whose answer is lost."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from services.kubernetes.room import CLAIM, Room
from services.processes import until
from services.proxy import Proxy

from minionize.errors import LaunchRefused, MinionizeError
from minionize.launch import JobState, Launch, Submitted
from minionize.launch.kubernetes import cancel, logs, states
from minionize.launch.kubernetes.manifest import job

MERGE = "application/merge-patch+json"
SIDECAR = "a-proxy"
"""Before `minion` in the order of names."""


def _launch(room: Room, *command: str) -> Launch:
    options = {"image": ("minions",), "namespace": (room.name,), "volume": (f"{CLAIM}:/data",)}
    return Launch(queue="file:/data/queue", command=command, options=options, grace_s=5.0)


def _created(room: Room, body: dict[str, Any]) -> Submitted:
    made = room.api.call("POST", room.jobs_path, body)["metadata"]
    details = {"kubeconfig": room.cluster.kubeconfig(), "namespace": room.name, "uid": made["uid"]}
    return Submitted("kubernetes", (made["name"],), "minions", "file:/data/queue", 1,
                     details=details)  # fmt: skip


def _body(room: Room, *command: str, sidecar: bool = False) -> dict[str, Any]:
    body = job(_launch(room, *command))
    spec = body["spec"]["template"]["spec"]
    if sidecar:
        (minion,) = spec["containers"]
        beside = {**minion, "name": SIDECAR, "command": ["sleep", "600"]}
        spec["containers"] = [beside, minion]
    return body


def _one(submitted: Submitted) -> tuple[JobState, str]:
    (found,) = states([submitted])
    return found.state, found.detail


def test_the_container_called_minion_counts(room: Room) -> None:
    """The pod goes to no node: its status is written here, as a kubelet does it."""
    body = _body(room, "true", sidecar=True)
    body["spec"]["template"]["spec"]["nodeSelector"] = {"none": "none"}
    submitted = _created(room, body)
    (pod,) = until(room.pods, "no pod")
    up: dict[str, Any] = {"running": {}}
    assert _one(submitted)[0] is JobState.PENDING
    _tell(room, pod, {SIDECAR: up, "minion": up})
    assert _one(submitted) == (JobState.RUNNING, "")
    _tell(room, pod, {SIDECAR: up, "minion": {"terminated": {"exitCode": 0}}})
    state, detail = _one(submitted)
    assert state is JobState.ENDED
    assert detail.startswith(
        f"exit 0, but container {SIDECAR} runs on and keeps the Job from ending: "
    )
    assert cancel(submitted) == 1


def _tell(room: Room, pod: dict[str, Any], states: dict[str, dict[str, Any]]) -> None:
    statuses = [
        {"name": name, "state": state, "ready": False, "restartCount": 0, "image": "minions",
         "imageID": ""} for name, state in states.items()
    ]  # fmt: skip
    body = {"status": {"phase": "Running", "containerStatuses": statuses}}
    path = f"{room.path}/pods/{pod['metadata']['name']}/status"
    room.api.call("PATCH", path, body, MERGE)


def test_a_suspended_job_says_what_it_waits_for(room: Room) -> None:
    room.feed(["a"])
    body = _body(room, "true")
    body["spec"]["suspend"] = True
    by_hand = _created(room, body)
    state, detail = _one(by_hand)
    assert state is JobState.PENDING
    assert f"kubectl patch job {by_hand.job_ids[0]} -p" in detail
    queued = json.loads(json.dumps(body))
    queued["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "batch"
    assert "until Kueue admits it to queue batch" in _one(_created(room, queued))[1]
    room.api.call("PATCH", f"{room.jobs_path}/{by_hand.job_ids[0]}", {"spec": {"suspend": False}},
                  MERGE)  # fmt: skip
    until(lambda: _one(by_hand)[0] is JobState.ENDED, lambda: room.told(by_hand))


def test_another_job_of_that_name_is_left_alone(room: Room) -> None:
    body = _body(room, "true")
    body["spec"]["suspend"] = True
    theirs = _created(room, body)
    before = {**theirs.details, "uid": "00000000-0000-0000-0000-000000000000"}
    ours = dataclasses.replace(theirs, details=before)
    assert _one(ours) == (JobState.UNKNOWN, f"another Job is called {ours.job_ids[0]} now")
    assert [line.unread for line in logs(ours, follow=False)] == [True]
    with pytest.raises(LaunchRefused, match=r"left alone: .*another Job is called"):
        cancel(ours)
    assert _one(theirs)[0] is JobState.PENDING
    # At another server a Job that is not there may be there all the same.
    away = {**before, "server": "https://elsewhere:6443"}
    elsewhere = dataclasses.replace(ours, job_ids=("none",), details=away)
    assert _one(elsewhere)[0] is JobState.UNKNOWN
    here = {**away, "server": ""}
    assert states([dataclasses.replace(elsewhere, details=here)]) == []


@pytest.fixture
def through(room: Room, tmp_path: Path) -> Iterator[tuple[Proxy, str]]:
    """A proxy before the server, and a kubeconfig that goes through it."""
    config = json.loads(Path(room.cluster.kubeconfig()).read_text())
    host, _, port = config["clusters"][0]["cluster"]["server"].rpartition("/")[2].rpartition(":")
    with Proxy(host, int(port)) as proxy:
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{proxy.port}"
        path = tmp_path / "through.kubeconfig"
        path.write_text(json.dumps(config))
        yield proxy, str(path)


def test_what_was_created_without_an_answer_is_created_once(
    room: Room, through: tuple[Proxy, str]
) -> None:
    """Whichever answer is lost, there are as many Jobs as launches that were told of."""
    proxy, kubeconfig = through
    made: list[str] = []
    lost = 0
    for after in range(8):
        proxy.lose(after)
        try:
            made += room.launch("true", kubeconfig=kubeconfig).job_ids
        except MinionizeError:
            lost += 1
        proxy.mend()
        there = [each["metadata"]["name"] for each in room.api.call("GET", room.jobs_path)["items"]]
        assert sorted(there) == sorted(made), (after, there, made)
    assert len(made) > lost

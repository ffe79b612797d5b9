"""Minions as pods, on a real control plane whose nodes run them as processes: what is launched,
and what is seen of it. In every namespace here the `restricted` level is enforced."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
import yaml
from services.kubernetes.box import QUEUE_HOST
from services.kubernetes.calls import Refused
from services.kubernetes.room import CLAIM, Room, running
from services.processes import until
from services.redis import RedisServer, lacking

from minionize import open_queue
from minionize.launch import JobState
from minionize.launch.kubernetes import cancel, logs, states

CLONE = Path(__file__).parents[2]
EXAMPLE = CLONE / "examples" / "kubernetes"


@pytest.fixture
def redis(needs_server: Callable[[str], NoReturn], tmp_path: Path) -> Iterator[RedisServer]:
    """A server with a password, where pods and this machine reach it by different names."""
    if lacking("valkey"):
        needs_server(lacking("valkey"))
    with RedisServer(tmp_path / "redis", "valkey", "--requirepass", "s3cret") as server:
        yield server


def test_a_job_of_three_over_a_file_queue_in_a_volume(room: Room) -> None:
    room.feed([{"x": x} for x in range(60)])
    submitted = room.launch(
        "sh", "-c", 'echo "x is $1, $2"; sleep 0.1', "sh", "{x}", "$$ $(HOME)", minions=3
    )
    condition = room.wait(submitted)
    assert condition["type"] == "Complete", room.told(submitted)
    with open_queue(room.queue) as queue:
        stats = queue.stats()
    assert (stats.done, stats.dead) == (60, 0)
    assert room.job(submitted)["status"]["completedIndexes"] == "0-2"
    jobs = states([submitted])
    assert [job.state for job in jobs] == [JobState.ENDED] * 3
    assert {job.where for job in jobs} <= {"node-1", "node-2"}
    lines = list(logs(submitted, follow=False))
    said = sorted(line.text for line in lines if line.text.startswith("x is "))
    assert said == sorted(f"x is {x}, $$ $(HOME)" for x in range(60))
    assert {line.job for line in lines} == {job.id for job in jobs}
    assert cancel(submitted) == 0
    assert running(room.pods()) == []


def test_a_job_of_three_over_redis(room: Room, redis: RedisServer) -> None:
    room.apply(_secret("redis", password="s3cret"))
    with open_queue(f"redis://:s3cret@127.0.0.1:{redis.port}/0?stream=q") as queue:
        queue.put(range(60))
        submitted = room.launch(
            "sh", "-c", 'sleep 0.1; echo "did $1"', "sh", "{}", minions=3,
            queue=f"redis://{QUEUE_HOST}:{redis.port}/0?stream=q",
            secret_env={"REDIS_PASSWORD": "redis:password"},
        )  # fmt: skip
        assert room.wait(submitted)["type"] == "Complete", room.told(submitted)
        stats = queue.stats()
    assert (stats.done, stats.dead) == (60, 0)
    did = [line for line in logs(submitted, follow=False) if line.text.startswith("did ")]
    assert sorted(line.text for line in did) == sorted(f"did {n}" for n in range(60))
    assert len({line.job for line in did}) == 3


def _minion(room: Room, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.prefix, "bin", "minion")), *words], capture_output=True, text=True,
        env={**os.environ, "KUBECONFIG": room.cluster.kubeconfig(), "MINION_QUEUE": room.queue},
        stdin=subprocess.DEVNULL, timeout=180, check=False, cwd=room.folder,
    )  # fmt: skip


def test_the_commands_from_launch_to_cancel(room: Room) -> None:
    room.feed(["a", "b", "c"])
    options = ["-n", "2", "-O", "image=minions", "-O", f"namespace={room.name}",
               "-O", f"volume={CLAIM}:/data", "--minion-queue", "file:/data/queue"]  # fmt: skip
    shown = _minion(room, "launch", "kubernetes", *options, "--dry-run", "--", "echo", "to")
    asked = yaml.safe_load(shown.stdout)
    waited = _minion(room, "launch", "kubernetes", *options, "--wait", "--", "echo", "to")
    assert waited.returncode == 0, waited.stderr
    assert "3 done, 0 dead" in waited.stdout
    id = waited.stdout.partition(":")[0]
    submitted = room.api.call("GET", room.jobs_path)["items"][0]
    assert id == f"kubernetes-{submitted['metadata']['name']}"
    # What was shown is what the server got, which adds its defaults to it.
    assert _contains(submitted, {key: asked[key] for key in ("metadata", "spec")})
    told = _minion(room, "jobs", id)
    assert told.stdout.count("ended  node-") == 2, told.stdout
    written = _minion(room, "logs", "-f")
    said = sorted(
        line.partition(": ")[2] for line in written.stdout.splitlines() if ": to " in line
    )
    assert said == ["to a", "to b", "to c"], written.stdout + written.stderr
    ended = _minion(room, "cancel", id)
    assert ended.stdout == f"{id}: 0 minions told to end\n"
    until(lambda: not room.api.call("GET", room.jobs_path)["items"], "the Job is still there")
    assert "forgotten" in _minion(room, "jobs").stdout


def _contains(there: object, asked: object) -> bool:
    if isinstance(asked, dict):
        return isinstance(there, dict) and all(
            _contains(there.get(key), value) for key, value in asked.items()
        )
    if isinstance(asked, list):
        return isinstance(there, list) and len(there) == len(asked) and all(
            map(_contains, there, asked)
        )  # fmt: skip
    return there == asked


def test_the_namespace_is_made_only_when_asked(room: Room) -> None:
    name = f"{room.name}-more"
    where = {"namespace": [name], "volume": [], "secret_volume": ["s:/data"]}
    with pytest.raises(Exception, match=f'namespaces "{name}" not found'):
        room.launch("true", queue="redis://redis/0?stream=q", options=where)
    room.launch("true", queue="redis://redis/0?stream=q",
                options={**where, "create_namespace": ["yes"]})  # fmt: skip
    assert room.api.call("GET", f"/api/v1/namespaces/{name}")["status"]["phase"] == "Active"
    room.api.call("DELETE", f"/api/v1/namespaces/{name}")


@pytest.mark.parametrize("name", ["small", "large", "old"])
def test_the_golden_manifests_are_taken(room: Room, name: str) -> None:
    job = yaml.safe_load((CLONE / f"tests/unit/golden_kubernetes/{name}.yaml").read_text())
    job["metadata"].pop("namespace", None)
    room.api.call("POST", f"{room.jobs_path}?dryRun=All&fieldValidation=Strict", job)


def test_only_restricted_pods_are_admitted_here(room: Room) -> None:
    container = {"name": "a", "image": "minions", "command": ["true"]}
    with pytest.raises(Refused, match="violates PodSecurity"):
        room.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
                    "spec": {"containers": [container]}})  # fmt: skip


def test_a_minion_has_no_more_rights_than_it_needs(room: Room) -> None:
    room.feed(["a"])
    look = """
        id -u; id -G; grep -E 'CapBnd|NoNewPrivs' /proc/self/status
        touch /usr/x 2>&1; touch /tmp/x /data/x && echo written; echo home $HOME
        ls /var/run/secrets 2>&1; env | grep -c '^REDIS_PORT'
    """
    submitted = room.launch("sh", "-c", look, "sh", "{}", minionize=["--on-exit", "1=done"])
    assert room.wait(submitted)["type"] == "Complete", room.told(submitted)
    said = [line.text for line in logs(submitted, follow=False)]
    assert said[:2] == ["1000", "1000"]
    assert "CapBnd:\t0000000000000000" in said and "NoNewPrivs:\t1" in said
    assert any("/usr/x" in line and "Read-only" in line for line in said)
    assert "written" in said and "home /tmp" in said
    assert any("/var/run/secrets" in line and "No such" in line for line in said)


def test_the_examples_are_taken(room: Room) -> None:
    for name in ("job", "redis", "rbac", "deployment"):
        room.apply(*yaml.safe_load_all((EXAMPLE / f"{name}.yaml").read_text()))


def test_a_deployment_serves_what_is_fed_and_gives_back_when_scaled_down(
    room: Room, redis: RedisServer
) -> None:
    text = (EXAMPLE / "deployment.yaml").read_text()
    text = text.replace("redis:6379", f"{QUEUE_HOST}:{redis.port}").replace(
        "replicas: 3", "replicas: 2"
    )
    deployment = yaml.safe_load(text)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    container["args"] = [
        "sh",
        "-c",
        "test $1 != long || exec sleep 600; echo served $1",
        "sh",
        "{}",
    ]
    container["command"][-1] = "2"  # --grace
    room.apply(_secret("redis", password="s3cret"), deployment)
    with open_queue(f"redis://:s3cret@127.0.0.1:{redis.port}/0?stream=ising") as queue:
        queue.put(["a", "b"])
        until(lambda: queue.stats().done == 2, lambda: [pod["status"] for pod in room.pods()])
        queue.put(["c", "long"])
        until(lambda: (queue.stats().done, queue.stats().running) == (3, 1), queue.stats)
        path = f"/apis/apps/v1/namespaces/{room.name}/deployments/ising"
        room.api.call("PATCH", path, {"spec": {"replicas": 0}}, "application/merge-patch+json")
        until(lambda: not room.pods(), "pods are left")
        stats = queue.stats()
        assert (stats.waiting, stats.running, stats.done) == (1, 0, 3)
        # What keda.yaml looks at: names of streams, and of their group.
        scaler = yaml.safe_load_all((EXAMPLE / "keda.yaml").read_text())
        triggers = [one["metadata"] for one in list(scaler)[1]["spec"]["triggers"]]
        lag = {one["stream"]: one["consumerGroup"] for one in triggers if "lagCount" in one}
        client = redis.client(password="s3cret")
        waiting = 0
        for stream, group in lag.items():
            (found,) = client.xinfo_groups(stream)
            assert found["name"].decode() == group
            waiting += found["lag"]
        assert waiting == 1


def _secret(name: str, **values: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}

"""A launch as a Job of Kubernetes: whole manifests, and each thing that is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from minionize.errors import UsageError
from minionize.launch import Job, JobState, Launch, launcher
from minionize.launch.kubernetes import render
from minionize.launch.kubernetes.following import stamp_ns
from minionize.launch.kubernetes.manifest import job, literal, prefix
from minionize.launch.kubernetes.seen import JobSeen, PodSeen, indexes, job_seen, jobs_of, pod_seen

GOLDEN = Path(__file__).parent / "golden_kubernetes"

SMALL = Launch(queue="redis://redis/0?stream=q", command=("./a.out", "{x}"),
               options={"image": ("registry/ising:1",)})  # fmt: skip
LARGE = Launch(
    minions=50, name="Ising 2-D", queue="file:/data/ising", command=("sh", "-c", "echo $$ $(A)"),
    minionize_options=("--slots", "auto", "--grace", "60"), wall_time_s=7199.5, cpus=4,
    memory_mib=8192, gpus=1, grace_s=60.0, env={"OMP_NUM_THREADS": "4"},
    secret_env={"REDIS_PASSWORD": "redis:password"},
    options={
        "image": ("registry/ising:1",), "pull_policy": ("Always",), "pull_secret": ("registry",),
        "namespace": ("physics",), "request": ("ephemeral-storage=1Gi",), "limit": ("cpu=4",),
        "select": ("pool=batch",), "tolerate": ("sku=gpu:NoSchedule", "flaky:NoExecute:60", "any"),
        "spot": ("gke",), "affinity": ('{"podAntiAffinity": {}}',), "service_account": ("runner",),
        "config_env": ("LEVEL=settings:log.level",), "token": ("yes",),
        "volume": ("data:/data", "data/in:/input:ro", "models:/models:ro"),
        "secret_volume": ("tls:/tls",), "config_volume": ("settings:/etc/ising",),
        "scratch": ("10Gi",), "label": ("azure.workload.identity/use=true",),
        "annotation": ("team=physics",), "priority_class": ("low",), "runtime_class": ("gvisor",),
        "backoff_limit": ("3",), "ttl": ("60",), "user": ("1234",),
    },
)  # fmt: skip
OLD = Launch(
    minions=3, queue="redis://redis/0", command=("true",), env={"HOME": "/home/me"},
    options={
        "image": ("a",), "server": ("1.28",), "user": ("image",), "ttl": ("never",),
        "writable_root": ("yes",),
    },
)  # fmt: skip


@pytest.mark.parametrize("name, launch", [("small", SMALL), ("large", LARGE), ("old", OLD)])
def test_the_whole_manifest(name: str, launch: Launch) -> None:
    assert render(launch) == (GOLDEN / f"{name}.yaml").read_text()
    assert launcher("kubernetes").render(launch) == render(launch)


def test_the_example_is_what_its_script_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    example = Path(__file__).parents[2] / "examples" / "kubernetes"
    monkeypatch.setenv("MINION_QUEUE", "redis://localhost/0?stream=ising")
    monkeypatch.setenv("PATH", f"{Path(sys.prefix, 'bin')}:/usr/bin:/bin")
    ran = subprocess.run(
        ["sh", str(example / "launch.sh"), "--dry-run"], capture_output=True, text=True, check=True
    )
    assert ran.stdout == (example / "job.yaml").read_text()


def test_the_manifest_is_the_value_that_is_submitted() -> None:
    assert yaml.safe_load(render(LARGE)) == job(LARGE)


def _with(options: Mapping[str, tuple[str, ...]], **more: Any) -> Launch:
    return Launch(**{"queue": "redis://redis/0", "command": ("true",), **more},
                  options={"image": ("a",), **options})  # fmt: skip


@pytest.mark.parametrize(
    "launch, says",
    [
        (_with({}, queue="redis://localhost/0"), "--minion-queue"),
        (_with({}, queue="redis://127.0.0.2:6379/0"), "loopback (127.0.0.2)"),
        (_with({}, queue="redis://[::1]/0"), "loopback"),
        (_with({}, queue="rediss://0.0.0.0/0"), "loopback"),
        (_with({}, queue="unix:///run/redis.sock?stream=a"), "loopback (/run/redis.sock)"),
        (_with({}, queue="redis:///0?stream=a"), "loopback"),
        (_with({}, queue="redis:///0?stream=a", env={"REDIS_HOST": "::1"}), "loopback (::1)"),
        (_with({}, queue="rediss://:secret@redis/0"), "--secret-env REDIS_PASSWORD=NAME:KEY"),
        (_with({}, queue="redis://:secret@redis/0"), "--secret-env REDIS_PASSWORD=NAME:KEY"),
        (_with({}, queue="memory:a"), "one process's own"),
        (_with({}, queue="file:/data/q"), "-O volume=CLAIM:/PATH"),
        (_with({}, queue="runs/q"), "relative"),
        (_with({"volume": ("c:/data:ro",)}, queue="file:/data/q"), "that pods can write"),
        (_with({"volume": ("c:/data",)}, queue="file:/database/q"), "that pods can write"),
        (_with({"volume": ("c:/data",)}, queue="file:/tmp/q"), "that pods can write"),
        (_with({"volume": ("c",)}), "is no volume: write CLAIM:/PATH"),
        (_with({"volume": ("c:data",)}), "is no volume: write CLAIM:/PATH"),
        (_with({"secret_volume": (":/a",)}), "is no volume: write NAME:/PATH"),
        (_with({"image": ()}), "no image"),
        (_with({"user": ("0",)}), "root"),
        (_with({"user": ("me",)}), "not a whole number"),
        (_with({"spot": ("azure",)}), "aks, eks, gke, karpenter"),
        (_with({"tolerate": ("a:Never",)}), "NoExecute"),
        (_with({"tolerate": ("a:NoSchedule:5",)}), "goes with NoExecute alone"),
        (_with({"affinity": ("{",)}), "no JSON"),
        (_with({"label": ("a",)}), "-O label=a: 'a' has no value: write NAME=VALUE"),
        (_with({"config_env": ("A=b",)}), "NAME:KEY"),
        (
            _with({}, secret_env={"A": "/etc/secret"}),
            "--secret-env A=/etc/secret: '/etc/secret' is no reference: write NAME:KEY",
        ),
        (_with({"server": ("new",)}), "write it as 1.28"),
        (_with({"token": ("maybe",)}), "neither yes nor no"),
    ],
)
def test_what_can_not_be_is_said_with_its_remedy(launch: Launch, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        render(launch)
    assert says in str(caught.value)
    assert "secret@" not in str(caught.value)


@pytest.mark.parametrize(
    "queue, volume",
    [
        ("file:/data/q", "c:/data"),
        ("file:/data", "c:/data/"),
        ("file:///data/q", "c:/data"),
        ("/data/a/../q", "c/sub:/data"),
        ("execo:/data/sweeps", "c:/data"),
    ],
)
def test_a_queue_in_a_volume(queue: str, volume: str) -> None:
    assert queue in render(_with({"volume": (volume,)}, queue=queue))


@pytest.mark.parametrize(
    "queue, options",
    [
        ("redis://redis/0?stream=q", {}),
        ("redis:///0?stream=q", {"config_env": ("REDIS_HOST=redis:host",)}),
        ("pulsar://pulsar:6650/public/default/q", {}),
        ("pubsub://project/topic?subscription=s", {}),
    ],
)
def test_a_queue_on_another_machine(queue: str, options: Mapping[str, tuple[str, ...]]) -> None:
    assert queue in render(_with(options, queue=queue))


def _expanded(text: str, variables: Mapping[str, str]) -> str:
    """As the kubelet does, letter by letter."""
    made, at = "", 0
    while at < len(text):
        if text.startswith("$$", at):
            made, at = made + "$", at + 2
        elif text.startswith("$(", at) and ")" in text[at:]:
            end = text.index(")", at)
            made, at = made + variables.get(text[at + 2 : end], text[at : end + 1]), end + 1
        else:
            made, at = made + text[at], at + 1
    return made


@pytest.mark.parametrize(
    "text", ["", "$", "$$", "$$$", "$(A)", "$$(A)", "a$b", "$(A", "$A", "${A}", "$($(A))", "x$$"]
)
def test_no_dollar_of_a_command_means_anything_to_the_cluster(text: str) -> None:
    assert _expanded(literal(text), {"A": "wrong"}) == text


@pytest.mark.parametrize(
    "name, made",
    [("minions", "minions"), ("Ising 2-D", "ising-2-d"), ("é", "minions"), ("-a_", "a"),
     ("x" * 99, "x" * 40), ("a" * 39 + ".b", "a" * 39)],
)  # fmt: skip
def test_the_name_of_a_job(name: str, made: str) -> None:
    assert prefix(name) == made


def test_indexes() -> None:
    assert indexes("1,3-5") == {1, 3, 4, 5}
    assert indexes(None) == indexes("") == frozenset()


@pytest.mark.parametrize(
    "text, second, ns",
    [
        ("1970-01-01T00:00:01Z", 1, 0),
        ("1970-01-01T00:00:01.5Z", 1, 500_000_000),
        ("1970-01-01T01:00:01.000000001+01:00", 1, 1),
        ("1969-12-31T19:00:01.12-05:00", 1, 120_000_000),
    ],
)
def test_the_times_of_lines(text: str, second: int, ns: int) -> None:
    assert stamp_ns(text) == second * 1_000_000_000 + ns


def _pod(number: int, phase: str, **more: Any) -> PodSeen:
    fields = {"name": f"j-{number}-x", "uid": f"{number}{phase}", "created": "1", **more}
    return PodSeen(job="j", number=number, phase=phase, **fields)


ENDED, FAILED, PENDING, RUNNING, CANCELLED = (
    JobState.ENDED, JobState.FAILED, JobState.PENDING, JobState.RUNNING, JobState.CANCELLED
)  # fmt: skip


@pytest.mark.parametrize(
    "seen, pods, jobs",
    [
        (JobSeen("j", 1), [], [Job("j-0", PENDING, "", "no quota")]),
        (JobSeen("j", 1), [_pod(0, "Pending", why="ErrImagePull")],
         [Job("j-0-x", PENDING, "", "ErrImagePull")]),
        (JobSeen("j", 1), [_pod(0, "Running", node="n")], [Job("j-0-x", RUNNING, "n")]),
        (JobSeen("j", 1), [_pod(0, "Running", leaving=True)],
         [Job("j-0-x", RUNNING, "", "stopping")]),
        # Its replacement is to come, and then it is what counts.
        (JobSeen("j", 1), [_pod(0, "Failed", exit_status=75)],
         [Job("j-0-x", PENDING, "", "to be replaced: exit 75")]),
        (JobSeen("j", 1), [_pod(0, "Failed"), _pod(0, "Running", name="new", created="2")],
         [Job("new", RUNNING)]),
        (JobSeen("j", 2, completed=frozenset({0}), failed=frozenset({1})),
         [_pod(0, "Succeeded"), _pod(1, "Failed", exit_status=137, why="OOMKilled")],
         [Job("j-0-x", ENDED), Job("j-1-x", FAILED, "", "OOMKilled")]),
        (JobSeen("j", 2, ended="Failed", why="deadline"),
         [_pod(0, "Failed", exit_status=75)],
         [Job("j-0-x", ENDED, "", "exit 75"), Job("j-1", FAILED, "", "deadline")]),
        (JobSeen("j", 2, completed=frozenset({0, 1}), ended="Complete"), [],
         [Job("j-0", ENDED), Job("j-1", ENDED)]),
        (JobSeen("j", 2, leaving=True), [_pod(0, "Failed", exit_status=75)],
         [Job("j-0-x", CANCELLED, "", "exit 75"), Job("j-1", CANCELLED)]),
    ],
)  # fmt: skip
def test_what_is_seen_of_a_job(seen: JobSeen, pods: list[PodSeen], jobs: list[Job]) -> None:
    assert jobs_of(seen, pods, "no quota") == jobs


@pytest.mark.parametrize(
    ("options", "env", "home"),
    [
        ({}, {}, "/tmp"),
        ({}, {"HOME": "/home/me"}, "/home/me"),
        ({"writable_root": ("yes",)}, {}, None),
        ({"writable_root": ("yes",)}, {"HOME": "/home/me"}, "/home/me"),
        ({"writable_root": ("no",)}, {}, "/tmp"),
    ],
)
def test_a_home_is_given_where_the_image_has_none_that_can_be_written(
    options: Mapping[str, tuple[str, ...]], env: Mapping[str, str], home: str | None
) -> None:
    made = job(_with(options, env=env))
    (container,) = made["spec"]["template"]["spec"]["containers"]
    found = {each["name"]: each.get("value") for each in container["env"]}
    assert found.get("HOME") == home


def _status(**containers: dict[str, Any]) -> dict[str, Any]:
    statuses = [
        {"name": name.replace("_", "-"), "state": state} for name, state in containers.items()
    ]
    return {
        "metadata": {"name": "j-0-x", "uid": "u", "creationTimestamp": "1",
                     "labels": {"job-name": "j", "batch.kubernetes.io/controller-uid": "7"}},
        "spec": {}, "status": {"phase": "Running", "containerStatuses": statuses},
    }  # fmt: skip


UP: dict[str, Any] = {"running": {"startedAt": "1"}}


@pytest.mark.parametrize(
    ("containers", "state", "detail"),
    [
        ({"istio": UP, "minion": UP}, RUNNING, ""),
        ({"istio": {"terminated": {"exitCode": 1}}, "minion": UP}, RUNNING, ""),
        ({"istio": UP, "minion": {"terminated": {"exitCode": 0}}}, ENDED, "exit 0, but "),
        ({"minion": {"terminated": {"exitCode": 75}}, "other": UP, "z": UP}, ENDED,
         "exit 75, but container other, z runs on"),
        ({"istio": UP, "minion": {"terminated": {"exitCode": 70}}}, FAILED, "exit 70, but "),
        ({"istio": UP}, RUNNING, ""),
    ],
)  # fmt: skip
def test_the_container_called_minion_counts(
    containers: dict[str, Any], state: JobState, detail: str
) -> None:
    seen = pod_seen(_status(**containers))
    assert seen.owner == "7"
    (job,) = jobs_of(JobSeen("j", 1), [seen])
    assert job.state is state
    assert job.detail.startswith(detail) and bool(job.detail) == bool(detail)


def test_a_suspended_job_has_pods_that_are_not_replaced() -> None:
    body = {"metadata": {"name": "j", "uid": "7"}, "spec": {"completions": 2, "suspend": True}}
    seen = job_seen(body)
    assert seen.uid == "7" and "kubectl patch job j -p" in seen.suspended
    found = jobs_of(seen, [_pod(0, "Failed", exit_status=75)], "no quota")
    assert found == [Job("j-0-x", PENDING, "", seen.suspended),
                     Job("j-1", PENDING, "", seen.suspended)]  # fmt: skip
    over = {**body, "status": {"conditions": [{"type": "Failed", "status": "True"}]}}
    assert not job_seen(over).suspended

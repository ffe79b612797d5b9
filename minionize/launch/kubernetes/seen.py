"""What a cluster shows of a Job and its pods, and what that means for its minions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from minionize.launch.kubernetes.manifest import CONTAINER
from minionize.launch.values import FINE, Job, JobState

INDEX = "batch.kubernetes.io/job-completion-index"
_AGAIN = 75


class PodSeen(NamedTuple):
    """A pod, as far as it matters here."""

    name: str
    uid: str
    job: str
    number: int
    created: str
    phase: str
    node: str = ""
    exit_status: int | None = None
    why: str = ""
    """Why it waits or how it ended, in the cluster's word."""
    leaving: bool = False
    started: bool = False
    """Whether there is, or was, a container with output."""
    owner: str = ""
    """The uid of its Job."""
    beside: tuple[str, ...] = ()
    """Containers that run on, now that the minion has ended."""


class JobSeen(NamedTuple):
    """A Job, as far as it matters here."""

    name: str
    minions: int
    completed: frozenset[int] = frozenset()
    failed: frozenset[int] = frozenset()
    ended: str = ""
    """Complete or Failed; empty while it is neither."""
    why: str = ""
    leaving: bool = False
    uid: str = ""
    suspended: str = ""
    """Why it gets no pods, and what helps; empty where it is not suspended."""


def pod_seen(pod: Mapping[str, Any]) -> PodSeen:
    """From the JSON of a pod."""
    metadata, status = pod["metadata"], pod.get("status", {})
    labels = metadata.get("labels") or {}
    # Others may have been put beside it (`istio-proxy`), and the names are in order.
    containers = {one["name"]: one.get("state") or {}
                  for one in status.get("containerStatuses") or []}  # fmt: skip
    container = containers.pop(CONTAINER, {})
    ended, waiting = container.get("terminated") or {}, container.get("waiting") or {}
    return PodSeen(
        name=metadata["name"],
        uid=metadata["uid"],
        job=labels.get("job-name", ""),
        number=int((metadata.get("annotations") or {}).get(INDEX, 0)),
        created=metadata["creationTimestamp"],
        phase=status.get("phase", "Pending"),
        node=pod["spec"].get("nodeName") or "",
        exit_status=ended.get("exitCode"),
        why=_why(status, ended, waiting),
        leaving=bool(metadata.get("deletionTimestamp")),
        started=bool(ended or container.get("running")),
        owner=labels.get("batch.kubernetes.io/controller-uid") or labels.get("controller-uid", ""),
        beside=tuple(name for name, state in containers.items() if ended and state.get("running")),
    )


def _why(status: Mapping[str, Any], ended: Mapping[str, Any], waiting: Mapping[str, Any]) -> str:
    conditions = {one["type"]: one for one in status.get("conditions") or []}
    disrupted = conditions.get("DisruptionTarget")
    if disrupted is not None:
        return str(disrupted.get("reason", "disrupted"))
    if ended.get("reason") not in (None, "Completed", "Error"):
        return str(ended["reason"])
    unplaced = conditions.get("PodScheduled", {})
    if unplaced.get("status") == "False":
        return str(unplaced.get("message") or unplaced.get("reason") or "")
    if waiting.get("reason") not in (None, "ContainerCreating"):
        return ": ".join(filter(None, (waiting["reason"], waiting.get("message"))))
    return str(status.get("reason") or "")


def job_seen(job: Mapping[str, Any]) -> JobSeen:
    """From the JSON of a Job."""
    metadata, spec, status = job["metadata"], job["spec"], job.get("status", {})
    over = [
        one
        for one in status.get("conditions") or []
        if one["type"] in ("Complete", "Failed") and one["status"] == "True"
    ]
    return JobSeen(
        name=metadata["name"],
        minions=spec.get("completions") or spec.get("parallelism") or 1,
        completed=indexes(status.get("completedIndexes")),
        failed=indexes(status.get("failedIndexes")),
        ended=over[0]["type"] if over else "",
        why=over[0].get("message", "") if over else "",
        leaving=bool(metadata.get("deletionTimestamp")),
        uid=metadata.get("uid", ""),
        suspended=_suspended(metadata) if spec.get("suspend") and not over else "",
    )


def _suspended(metadata: Mapping[str, Any]) -> str:
    queue = (metadata.get("labels") or {}).get("kueue.x-k8s.io/queue-name")
    namespace = metadata.get("namespace", "default")
    if queue:
        return (
            f"suspended until Kueue admits it to queue {queue}: kubectl describe workloads -n "
            f"{namespace} tells why it waits"
        )
    patch = '{"spec":{"suspend":false}}'
    return (
        "suspended, by a person or a system that admits Jobs, as Kueue: "
        f"kubectl patch job {metadata['name']} -p '{patch}' -n {namespace} lets it go on"
    )


def indexes(text: str | None) -> frozenset[int]:
    """The numbers of `1,3-5`."""
    found: set[int] = set()
    for part in filter(None, (text or "").split(",")):
        first, _, end = part.partition("-")
        found.update(range(int(first), int(end or first) + 1))
    return frozenset(found)


def jobs_of(job: JobSeen, pods: Sequence[PodSeen], why_no_pods: str = "") -> list[Job]:
    """One for each minion: its newest pod, or that it has none (yet, or any more)."""
    newest: dict[int, PodSeen] = {}
    for pod in sorted(pods, key=lambda pod: (pod.created, pod.name)):
        newest[pod.number] = pod
    return [
        _with_pod(job, newest[index]) if index in newest else _without_pod(job, index, why_no_pods)
        for index in range(job.minions)
    ]


def _with_pod(job: JobSeen, pod: PodSeen) -> Job:
    state, detail = _state(job, pod)
    return Job(pod.name, state, pod.node, detail)


def _state(job: JobSeen, pod: PodSeen) -> tuple[JobState, str]:
    if pod.phase == "Succeeded" or pod.number in job.completed:
        return JobState.ENDED, ""
    if pod.phase == "Running" and pod.beside and pod.exit_status is not None:
        state = JobState.ENDED if pod.exit_status in FINE else JobState.FAILED
        return state, _kept(pod)
    if pod.phase == "Running":
        return JobState.RUNNING, "stopping" if pod.leaving else ""
    if pod.phase == "Pending" and not (job.leaving or pod.leaving):
        return JobState.PENDING, pod.why
    how = pod.why or ("" if pod.exit_status is None else f"exit {pod.exit_status}")
    if job.leaving:
        return JobState.CANCELLED, how
    if not job.ended and pod.number not in job.failed:
        if job.suspended:
            return JobState.PENDING, job.suspended
        return JobState.PENDING, f"to be replaced: {how}" if how else "to be replaced"
    if pod.exit_status == _AGAIN:
        return JobState.ENDED, how
    return JobState.FAILED, how


def _without_pod(job: JobSeen, index: int, why: str) -> Job:
    name = f"{job.name}-{index}"
    if index in job.completed:
        return Job(name, JobState.ENDED)
    if job.leaving:
        return Job(name, JobState.CANCELLED)
    if index in job.failed or job.ended == "Failed":
        return Job(name, JobState.FAILED, detail=job.why)
    if job.ended:
        return Job(name, JobState.ENDED)
    return Job(name, JobState.PENDING, detail=job.suspended or why)


def _kept(pod: PodSeen) -> str:
    """Said of a minion that has ended, in a pod that has not."""
    return (
        f"exit {pod.exit_status}, but container {', '.join(pod.beside)} runs on and keeps the Job "
        "from ending: have it put into no minion's pod (-O label= or -O annotation=, as its "
        "injector wants), then cancel and launch again"
    )

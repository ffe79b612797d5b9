"""Kubernetes: minions as the pods of an indexed Job.

An *indexed* Job, since it replaces a lost pod also when others have ended well, and counts
failures of each pod by itself. The exit status of a minion says what becomes of its pod:
75 and a node's end cost nothing, 1, 2, 126 and 127 end the Job, and 0 is the end of that minion.
The client library is imported when the cluster is asked something; `render` needs none.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from minionize.launch.kubernetes.keys import KEYS
from minionize.launch.kubernetes.manifest import as_yaml, job
from minionize.launch.script import yes
from minionize.launch.values import Job, Launch, LogLine, Submitted

SHARES_FILES = False

__all__ = ["KEYS", "SHARES_FILES", "cancel", "logs", "render", "states", "submit"]


def render(launch: Launch) -> str:
    """The Job as YAML. `kubectl create -f -` takes it: the server completes its name."""
    return as_yaml(job(launch))


def submit(launch: Launch) -> Submitted:
    """Create the Job. A server older than 1.29 gets one without limits per pod."""
    import getpass
    import socket

    from minionize.launch.kubernetes.cluster import connected, place_of

    rendered = job(launch)  # its faults are said before the cluster is asked
    with connected(place_of(launch)) as cluster:
        if not cluster.has_limits_per_index() and not launch.options.get("server"):
            rendered = job(launch, limits_per_index=False)
        if yes(launch, "create_namespace", default=False):
            cluster.create_namespace()
        name = cluster.create_job(rendered)
    return Submitted(
        scheduler="kubernetes",
        job_ids=(name,),
        name=launch.name,
        queue=launch.queue,
        minions=launch.minions,
        at=time.time(),
        user=getpass.getuser(),
        host=socket.gethostname(),
        details=cluster.place.details(),
    )


def states(submitted: Sequence[Submitted]) -> Sequence[Job]:
    """A job for each index of each Job; two requests for all Jobs of one namespace."""
    from minionize.launch.kubernetes.cluster import Place, connected
    from minionize.launch.kubernetes.seen import jobs_of

    places: dict[Place, list[str]] = {}
    for each in submitted:
        places.setdefault(Place.of(each.details), []).extend(each.job_ids)
    found: list[Job] = []
    for place, names in places.items():
        with connected(place) as cluster:
            pods = cluster.pods(names)
            for each_job in cluster.jobs(names):
                own = [pod for pod in pods if pod.job == each_job.name]
                why = cluster.why_no_pods(each_job.name) if not own and not each_job.ended else ""
                found += jobs_of(each_job, own, why)
    return found


def logs(submitted: Submitted, *, follow: bool) -> Iterator[LogLine]:
    """The lines of all its pods, also of those that were replaced and are still there."""
    from minionize.launch.kubernetes.cluster import Place, connected
    from minionize.launch.kubernetes.following import followed, written

    lines = followed if follow else written
    with connected(Place.of(submitted.details)) as cluster:
        for name in submitted.job_ids:
            yield from lines(cluster, name)


def cancel(submitted: Submitted) -> int:
    """Delete the Job. Its pods get TERM, and KILL when their grace is over."""
    from minionize.launch.kubernetes.cluster import Place, connected

    with connected(Place.of(submitted.details)) as cluster:
        pods = cluster.pods(submitted.job_ids)
        for name in submitted.job_ids:
            cluster.delete_job(name)
    return sum(pod.phase in ("Pending", "Running") for pod in pods)

"""Kubernetes: minions as the pods of an indexed Job.

An *indexed* Job, since it replaces a lost pod also when others have ended well, and counts
failures of each pod by itself. The exit status of a minion says what becomes of its pod:
75 and a node's end cost nothing, 1, 2, 126 and 127 end the Job, and 0 is the end of that minion.
The client library is imported when the cluster is asked something; `render` needs none.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from minionize.launch.kubernetes.keys import KEYS
from minionize.launch.kubernetes.manifest import as_yaml, job
from minionize.launch.script import yes
from minionize.launch.values import Job, JobState, Launch, LogLine, Submitted

if TYPE_CHECKING:
    from minionize.launch.kubernetes.cluster import Cluster
    from minionize.launch.kubernetes.seen import JobSeen

SHARES_FILES = False

__all__ = ["KEYS", "SHARES_FILES", "cancel", "logs", "render", "states", "states_of_each", "submit"]


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
        name, uid = cluster.create_job(rendered)
    return Submitted(
        scheduler="kubernetes",
        job_ids=(name,),
        name=launch.name,
        queue=launch.queue,
        minions=launch.minions,
        at=time.time(),
        user=getpass.getuser(),
        host=socket.gethostname(),
        details={**cluster.place.details(), "uid": uid, "server": cluster.url},
    )


def states(submitted: Sequence[Submitted]) -> Sequence[Job]:
    """A job for each index of each Job; a request for each Job, and one for the pods of all of a
    namespace."""
    from minionize.launch.kubernetes.cluster import Place, connected
    from minionize.launch.kubernetes.seen import jobs_of

    places: dict[Place, list[Submitted]] = {}
    for each in submitted:
        places.setdefault(Place.of(each.details), []).append(each)
    found: list[Job] = []
    for place, launches in places.items():
        with connected(place) as cluster:
            pods = cluster.pods([name for each in launches for name in each.job_ids])
            for each in launches:
                for name in each.job_ids:
                    seen, why = _own_job(cluster, each, name)
                    found += _not_known(each, name, why)
                    if seen is None:
                        continue
                    own = [pod for pod in pods if pod.job == name and pod.owner in ("", seen.uid)]
                    bare = not own and not seen.ended and not seen.suspended
                    found += jobs_of(seen, own, cluster.why_no_pods(name) if bare else "")
    return found


def _own_job(cluster: Cluster, submitted: Submitted, name: str) -> tuple[JobSeen | None, str]:
    """The Job of that launch, or why it is not known whether it is there; neither where it is
    gone."""
    seen = cluster.job(name)
    uid, server = (submitted.details.get(key, "") for key in ("uid", "server"))
    if seen is None:
        elsewhere = server and server != cluster.url
        return None, f"no such Job at {cluster.url}, but at {server}" if elsewhere else ""
    if uid and seen.uid != uid:
        return None, f"another Job is called {name} now"
    return seen, ""


def _not_known(submitted: Submitted, name: str, why: str) -> list[Job]:
    if not why:
        return []
    names = [f"{name}-{index}" for index in range(submitted.minions)]
    return [Job(each, JobState.UNKNOWN, "", why) for each in names]


def states_of_each(submitted: Sequence[Submitted]) -> Sequence[Sequence[Job]]:
    """Each launch asked for by itself."""
    return [states([each]) for each in submitted]


def logs(submitted: Submitted, *, follow: bool) -> Iterator[LogLine]:
    """The lines of all its pods, also of those that were replaced and are still there."""
    from minionize.launch.kubernetes.cluster import Place, connected
    from minionize.launch.kubernetes.following import followed, written

    lines = followed if follow else written
    with connected(Place.of(submitted.details)) as cluster:
        for name in submitted.job_ids:
            _, why = _own_job(cluster, submitted, name)
            if why:
                yield LogLine(name, f"{name}: {why}", unread=True)
            else:
                yield from lines(cluster, name)


def cancel(submitted: Submitted) -> int:
    """Delete the Job. Its pods get TERM, and KILL when their grace is over."""
    from minionize.launch.identity import leave_alone
    from minionize.launch.kubernetes.cluster import Place, connected

    told, unknown = 0, []
    with connected(Place.of(submitted.details)) as cluster:
        for name in submitted.job_ids:
            seen, why = _own_job(cluster, submitted, name)
            unknown += _not_known(submitted, name, why)
            if seen is None:
                continue
            pods = [pod for pod in cluster.pods([name]) if pod.owner in ("", seen.uid)]
            cluster.delete_job(seen)
            told += sum(pod.phase in ("Pending", "Running") for pod in pods)
    leave_alone(unknown, told)
    return told

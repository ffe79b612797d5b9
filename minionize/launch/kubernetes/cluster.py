"""The API server, through the official client: the only place that imports it."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NamedTuple

from minionize.errors import LaunchRefused, MissingDriver, UsageError
from minionize.launch.kubernetes.manifest import CONTAINER
from minionize.launch.kubernetes.seen import JobSeen, PodSeen, job_seen, pod_seen
from minionize.launch.kubernetes.texts import has_limits_per_index
from minionize.launch.records import TOLD_CONFIG
from minionize.launch.script import last
from minionize.launch.values import Launch

TIMEOUT_S = 30.0
_HOME_CONFIG = "~/.kube/config"
_TRIES = 3
_AGAIN_S = 2.0
"""So long, and so often, a Job is created again whose creation was not answered."""
_WATCH_S = 240
"""A watch is renewed after this, before something between cuts it off."""


QUIET_S = 60.0
"""A log that is silent for so long is asked for anew: a connection can die without a word."""


class Gone(Exception):
    """A watch asked for changes that the server no longer has: list anew."""


class Unreachable(LaunchRefused):
    """The API server does not answer, or a connection to it broke; worth a retry."""


class Place(NamedTuple):
    """Which cluster, and where in it. Empty: what the kubeconfig says."""

    kubeconfig: str = ""
    context: str = ""
    namespace: str = ""

    @classmethod
    def of(cls, details: Mapping[str, str]) -> Place:
        """From `Submitted.details`. UsageError if it was launched by a kubeconfig that is not the
        one of now: a record is never taken at its word for a file that can start programs."""
        told = details.get(TOLD_CONFIG)
        if told and _real(told) != _real(os.environ.get("KUBECONFIG") or _HOME_CONFIG):
            raise UsageError(
                f"it was launched with -O kubeconfig={told}, which a record may not choose: ask "
                f"again with KUBECONFIG={told}"
            )
        return cls(**{name: details.get(name, "") for name in cls._fields})

    def details(self) -> dict[str, str]:
        """For `Submitted.details`."""
        return {name: value for name, value in self._asdict().items() if value}


def _real(path: str) -> str:
    return os.path.realpath(os.path.expanduser(path))


def place_of(launch: Launch) -> Place:
    """Where that launch goes."""
    kubeconfig = last(launch, "kubeconfig")
    return Place(
        os.path.abspath(os.path.expanduser(kubeconfig)) if kubeconfig else "",
        last(launch, "context") or "",
        last(launch, "namespace") or "",
    )


@contextmanager
def connected(place: Place) -> Iterator[Cluster]:
    """The cluster there. UsageError if no configuration says how to reach it."""
    cluster = _connect(place)
    try:
        yield cluster
    finally:
        cluster.close()


def _connect(place: Place) -> Cluster:
    try:
        client: Any = import_module("kubernetes.client")
        config: Any = import_module("kubernetes.config")
    except ImportError as error:
        raise MissingDriver("kubernetes needs: pip install 'minionize[kubernetes]'") from error
    made = client.Configuration()
    namespace, context = place.namespace, place.context
    try:
        if place.kubeconfig or os.environ.get("KUBECONFIG") or not _in_pod():
            file = place.kubeconfig or None
            config.load_kube_config(file, context or None, made)
            contexts, current = config.list_kube_config_contexts(file)
            # load_kube_config has refused a context that is not there.
            chosen = {one["name"]: one for one in contexts}[context] if context else current
            context = chosen["name"]
            namespace = namespace or chosen["context"].get("namespace") or "default"
        else:
            config.load_incluster_config(made)
            namespace = namespace or _own_namespace()
    except (config.ConfigException, OSError) as error:
        raise UsageError(
            f"no cluster: {error}; name a kubeconfig in KUBECONFIG or -O kubeconfig="
        ) from error
    return Cluster(client, made, Place(place.kubeconfig, context, namespace))


_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


def _in_pod() -> bool:
    return os.path.exists(f"{_ACCOUNT}/token") and not os.path.exists(
        os.path.expanduser("~/.kube/config")
    )


def _own_namespace() -> str:
    with open(f"{_ACCOUNT}/namespace", encoding="utf-8") as file:
        return file.read().strip()


class Cluster:
    """One namespace of a cluster. LaunchRefused, with the server's words, from all methods."""

    def __init__(self, client: Any, configuration: Any, place: Place) -> None:
        self._errors = client.exceptions
        self._api = api = client.ApiClient(configuration)
        self._core = client.CoreV1Api(api)
        self._batch = client.BatchV1Api(api)
        self._version = client.VersionApi(api)
        self._url: str = configuration.host
        self.place = place

    def close(self) -> None:
        """Its connections; threads that still read end by themselves."""
        self._api.rest_client.pool_manager.clear()
        self._api.close()

    def has_limits_per_index(self) -> bool:
        """Whether the server is 1.29 or later."""
        with self._said("ask for its version"):
            version = self._version.get_code(_request_timeout=TIMEOUT_S)
        minor = "".join(filter(str.isdecimal, version.minor)) or "0"
        # A server that was built without its version says 0.0.
        return has_limits_per_index(f"{version.major}.{minor}") or version.major == "0"

    def create_namespace(self) -> None:
        """Unless it is there."""
        body = {"metadata": {"name": self.place.namespace}}
        with self._said(f"create namespace {self.place.namespace}", fine=[409]):
            self._core.create_namespace(body, _request_timeout=TIMEOUT_S)

    def create_job(self, job: Mapping[str, Any]) -> tuple[str, str]:
        """Its name and uid. Where no answer comes it may be there all the same: so the name is
        ours, and the same one is created again."""
        metadata = dict(job["metadata"])
        name = metadata["name"] = metadata["generateName"] + secrets.token_hex(4)
        body = {**job, "metadata": metadata}
        for tried in range(1, _TRIES + 1):
            try:
                # 409: it is there, by an attempt whose answer was lost.
                with self._said("create the Job", fine=[409]):
                    made = self._batch.create_namespaced_job(
                        self.place.namespace, body, _request_timeout=TIMEOUT_S
                    )
                    return str(made.metadata.name), made.metadata.uid or ""
                seen = self.job(name)
                if seen is not None:
                    return seen.name, seen.uid
            except Unreachable:
                if tried == _TRIES:
                    raise
            time.sleep(_AGAIN_S)
        raise LaunchRefused(f"kubernetes: Job {name} was created, and is gone: launch again")

    def delete_job(self, job: JobSeen) -> None:
        """And its pods, gently. It stays visible until they have ended. LaunchRefused if the
        server has it as before."""
        body = {"propagationPolicy": "Foreground", "preconditions": {"uid": job.uid}}
        with self._said(f"delete Job {job.name}", fine=[404]):
            self._batch.delete_namespaced_job(
                job.name, self.place.namespace, body=body, _request_timeout=TIMEOUT_S
            )
        after = self.job(job.name)
        if after is not None and after.uid == job.uid and not after.leaving:
            raise LaunchRefused(
                f"kubernetes: Job {job.name} was told to end, and goes on: see kubectl describe job"
            )

    @property
    def url(self) -> str:
        """Of the server."""
        return self._url

    def job(self, name: str) -> JobSeen | None:
        """None if it is not there."""
        with self._said(f"read Job {name}", fine=[404]):
            answer = self._batch.read_namespaced_job(
                name, self.place.namespace, _preload_content=False, _request_timeout=TIMEOUT_S
            )
            return job_seen(json.loads(answer.data))
        return None

    def pod(self, name: str) -> PodSeen | None:
        """None if it is not there."""
        with self._said(f"read pod {name}", fine=[404]):
            answer = self._core.read_namespaced_pod(
                name, self.place.namespace, _preload_content=False, _request_timeout=TIMEOUT_S
            )
            return pod_seen(json.loads(answer.data))
        return None

    def pods(self, jobs: Sequence[str]) -> list[PodSeen]:
        """All pods of these Jobs."""
        return self.listed(jobs)[0]

    def listed(self, jobs: Sequence[str]) -> tuple[list[PodSeen], str]:
        """The same, and the version from which `changes` goes on."""
        with self._said("list pods"):
            answer = self._core.list_namespaced_pod(
                self.place.namespace, label_selector=f"job-name in ({','.join(jobs)})",
                _preload_content=False, _request_timeout=TIMEOUT_S,
            )  # fmt: skip
            found = json.loads(answer.data)
        return [pod_seen(pod) for pod in found["items"]], found["metadata"]["resourceVersion"]

    def changes(self, job: str, version: str) -> Iterator[tuple[PodSeen | None, str]]:
        """Each pod that changed since, and the version at that; None where only the version
        grew. Ends when the server ends it. Gone if it no longer knows what changed since."""
        with self._said("watch pods", gone=True):
            answer = self._core.list_namespaced_pod(
                self.place.namespace, label_selector=f"job-name={job}", watch=True,
                resource_version=version, allow_watch_bookmarks=True, timeout_seconds=_WATCH_S,
                _preload_content=False, _request_timeout=(TIMEOUT_S, _WATCH_S + TIMEOUT_S),
            )  # fmt: skip
            try:
                for line in _lines(answer):
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise Gone(event["object"].get("message", ""))
                    seen = None if event["type"] == "BOOKMARK" else pod_seen(event["object"])
                    yield seen, event["object"]["metadata"]["resourceVersion"]
            finally:
                answer.release_conn()

    def output(
        self, pod: str, *, follow: bool, since_s: int | None = None
    ) -> Iterator[tuple[str, str]]:
        """When (RFC 3339) and what a pod wrote, line by line. Nothing if it has not started, or
        is gone."""
        with self._said(f"read the log of {pod}", fine=[400, 404]):
            more = {} if since_s is None else {"since_seconds": since_s}
            answer = self._core.read_namespaced_pod_log(
                pod, self.place.namespace, container=CONTAINER, follow=follow, timestamps=True,
                _preload_content=False,
                _request_timeout=(TIMEOUT_S, QUIET_S if follow else TIMEOUT_S), **more,
            )  # fmt: skip
            try:
                for line in _lines(answer):
                    at, _, text = line.decode("utf-8", "replace").rstrip("\n").partition(" ")
                    yield at, text
            finally:
                answer.release_conn()

    def why_no_pods(self, job: str) -> str:
        """What the cluster says of a Job that gets none (a quota, an admission); empty if
        nothing, or if that may not be asked."""
        try:
            with self._said("list events"):
                answer = self._core.list_namespaced_event(
                    self.place.namespace,
                    field_selector=f"involvedObject.kind=Job,involvedObject.name={job},type=Warning",
                    _preload_content=False, _request_timeout=TIMEOUT_S,
                )  # fmt: skip
                events = json.loads(answer.data)["items"]
        except LaunchRefused:
            return ""
        return str(events[-1].get("message", "")) if events else ""

    @contextmanager
    def _said(self, what: str, *, fine: Sequence[int] = (), gone: bool = False) -> Iterator[None]:
        """Errors of the client as ours; a status of `fine` ends the block without one."""
        from urllib3.exceptions import HTTPError

        try:
            yield
        except self._errors.ApiException as error:
            if error.status in fine:
                return
            if gone and error.status == 410:
                raise Gone(str(error.reason)) from error
            raise LaunchRefused(f"kubernetes: could not {what}: {_words(error)}") from error
        except (HTTPError, OSError) as error:
            raise Unreachable(
                f"kubernetes: could not {what}: {self._url} can't be reached ({_short(error)})"
            ) from error


def _words(error: Any) -> str:
    """What the server said."""
    try:
        said = json.loads(error.body)["message"]
    except (TypeError, ValueError, KeyError):
        said = error.reason
    return " ".join(str(said).split())


def _short(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    return " ".join(str(reason).split())[-200:]


def _lines(answer: Any) -> Iterator[bytes]:
    """Whole lines as they come, whatever pieces they come in."""
    rest = b""
    for piece in answer.stream(amt=None, decode_content=False):
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
    if rest:
        yield rest

"""A launch as a Job of Kubernetes: a plain value, from which all else follows."""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from minionize.errors import UsageError
from minionize.launch.kubernetes.keys import pairs, read, read_last, read_text
from minionize.launch.kubernetes.nodes import narrowing, resources
from minionize.launch.kubernetes.texts import reference
from minionize.launch.kubernetes.volumes import SCRATCH, check_queue, read_only_root, volumes
from minionize.launch.script import last, yes
from minionize.launch.values import Launch

CONTAINER = "minion"
LABELS = {"app.kubernetes.io/name": "minionize", "app.kubernetes.io/component": "minion"}

_AGAIN = 75
"""A minion that was told to stop: its pod is replaced, and that counts for nothing."""
_OVER = (1, 2, 126, 127)
"""Drained with dead letters, or what no other pod can mend: wrong usage, no such program."""
_MARGIN_S = 10
"""After --grace a minion kills its runs, and gives back what they held."""


def job(launch: Launch, *, limits_per_index: bool = True) -> dict[str, Any]:
    """The Job. `limits_per_index`: whether the server knows them (1.29 and later), unless
    `-O server=` says so. UsageError for what can't be said in Kubernetes."""
    check_queue(launch)
    limits_per_index = read_last(launch, "server", limits_per_index)
    metadata: dict[str, Any] = {"generateName": f"{prefix(launch.name)}-"}
    namespace = last(launch, "namespace")
    if namespace is not None:
        metadata["namespace"] = namespace
    metadata.update(_marks(launch))
    backoff = read_last(launch, "backoff_limit", 10)
    spec: dict[str, Any] = {
        "completionMode": "Indexed",
        "completions": launch.minions,
        "parallelism": launch.minions,
    }
    if limits_per_index:
        spec["backoffLimitPerIndex"] = backoff
    else:
        spec["backoffLimit"] = backoff * launch.minions
    spec["podFailurePolicy"] = {"rules": _rules()}
    if launch.wall_time_s is not None:
        spec["activeDeadlineSeconds"] = math.ceil(launch.wall_time_s)
    ttl_s = read_last(launch, "ttl", 86400)
    if ttl_s is not None:
        spec["ttlSecondsAfterFinished"] = ttl_s
    spec["template"] = {"metadata": _marks(launch), "spec": _pod(launch)}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def as_yaml(value: dict[str, Any]) -> str:
    """The same for equal values, in the order that they were made."""
    return yaml.dump(value, Dumper=_NoAliases, sort_keys=False, allow_unicode=True, width=100)


class _NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


def prefix(name: str) -> str:
    """A name of Kubernetes that resembles `name`, short enough for those of the pods."""
    made = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return made[:40].strip("-") or "minions"


def _rules() -> list[dict[str, Any]]:
    def exits(*statuses: int) -> dict[str, Any]:
        return {"containerName": CONTAINER, "operator": "In", "values": list(statuses)}

    return [
        # First: whatever a minion said, its node took it away.
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "Ignore", "onExitCodes": exits(_AGAIN)},
        {"action": "FailJob", "onExitCodes": exits(*_OVER)},
    ]


def _marks(launch: Launch) -> dict[str, Any]:
    found: dict[str, Any] = {"labels": {**LABELS, **pairs(launch, "label")}}
    annotations = pairs(launch, "annotation")
    if annotations:
        found["annotations"] = annotations
    return found


def _pod(launch: Launch) -> dict[str, Any]:
    spec: dict[str, Any] = {
        # What failed is replaced by the Job, which counts; not restarted by a node.
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": math.ceil(launch.grace_s) + _MARGIN_S,
        "automountServiceAccountToken": yes(launch, "token", default=False),
        "enableServiceLinks": False,
        "securityContext": _pod_security(launch),
    }
    for key, name in (
        ("service_account", "serviceAccountName"),
        ("priority_class", "priorityClassName"),
        ("runtime_class", "runtimeClassName"),
    ):
        value = last(launch, key)
        if value is not None:
            spec[name] = value
    secrets = launch.options.get("pull_secret", ())
    if secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in secrets]
    spec.update(narrowing(launch))
    spec["containers"] = [_container(launch)]
    spec["volumes"] = volumes(launch).volumes
    return spec


def _pod_security(launch: Launch) -> dict[str, Any]:
    found: dict[str, Any] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    user = read_last(launch, "user", 1000)
    if user is not None:
        found.update(runAsUser=user, runAsGroup=user, fsGroup=user)
        # Else each start of a pod would walk through the whole volume.
        found["fsGroupChangePolicy"] = "OnRootMismatch"
    return found


def _container(launch: Launch) -> dict[str, Any]:
    image = last(launch, "image")
    if image is None:
        raise UsageError("no image: name one that has minionize in it, -O image=IMAGE")
    found: dict[str, Any] = {"name": CONTAINER, "image": image}
    policy = last(launch, "pull_policy")
    if policy is not None:
        found["imagePullPolicy"] = policy
    found["command"] = [literal(word) for word in launch.minionize_argv]
    if launch.workdir is not None:
        found["workingDir"] = launch.workdir
    found["env"] = _environment(launch)
    asked = resources(launch)
    if asked:
        found["resources"] = asked
    found["securityContext"] = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": read_only_root(launch),
    }
    found["volumeMounts"] = volumes(launch).mounts
    return found


def _environment(launch: Launch) -> list[dict[str, Any]]:
    plain = {} if "HOME" in launch.env or not read_only_root(launch) else {"HOME": SCRATCH}
    made: list[dict[str, Any]] = [
        {"name": name, "value": literal(value)} for name, value in {**plain, **launch.env}.items()
    ]
    secrets = [
        (variable, *read_text(f"--secret-env {variable}", text, reference))
        for variable, text in launch.secret_env.items()
    ]
    for found, kind in ((secrets, "secretKeyRef"), (read(launch, "config_env"), "configMapKeyRef")):
        for variable, name, key in found:
            made.append({"name": variable, "valueFrom": {kind: {"name": name, "key": key}}})
    return made


def literal(text: str) -> str:
    """`text` as it must be written for a container to get it: Kubernetes replaces `$(NAME)` in
    command and environment, and makes one of two dollars."""
    return re.sub(r"\$(?=[$(])", "$$", text)

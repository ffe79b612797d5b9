"""The volumes of a pod, and what a queue must be for pods to reach it."""

from __future__ import annotations

import ipaddress
import posixpath
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from minionize.errors import UsageError
from minionize.launch.kubernetes.keys import read
from minionize.launch.script import last, yes
from minionize.launch.values import Launch

SCRATCH = "/tmp"


class Volumes(NamedTuple):
    """Volumes of a pod, and where its container has them."""

    volumes: list[dict[str, Any]]
    mounts: list[dict[str, Any]]


def volumes(launch: Launch) -> Volumes:
    """All that a launch asks for, and a scratch folder. UsageError for a path that is none."""
    found = Volumes([], [])
    scratch = last(launch, "scratch")
    found.volumes.append({"name": "scratch", "emptyDir": {"sizeLimit": scratch} if scratch else {}})
    found.mounts.append({"name": "scratch", "mountPath": SCRATCH})
    names: dict[str, str] = {}
    for source, path, read_only in read(launch, "volume"):
        claim, _, sub = source.partition("/")
        if claim not in names:
            names[claim] = f"claim-{len(names)}"
            found.volumes.append(
                {"name": names[claim], "persistentVolumeClaim": {"claimName": claim}}
            )
        mount: dict[str, Any] = {"name": names[claim], "mountPath": path}
        if sub:
            mount["subPath"] = sub
        if read_only:
            mount["readOnly"] = True
        found.mounts.append(mount)
    for key, kind, naming in (
        ("secret_volume", "secret", "secretName"),
        ("config_volume", "configMap", "name"),
    ):
        for at, (source, path, _) in enumerate(read(launch, key)):
            name = f"{key.partition('_')[0]}-{at}"
            found.volumes.append({"name": name, kind: {naming: source}})
            found.mounts.append({"name": name, "mountPath": path, "readOnly": True})
    return found


def check_queue(launch: Launch) -> None:
    """UsageError if pods could not reach the queue, or the manifest would show a password."""
    scheme, colon, rest = launch.queue.partition(":")
    if not colon or scheme in ("file", "execo"):
        _check_folder(launch, rest if colon else scheme)
        return
    if scheme == "memory":
        raise UsageError("a queue in memory is one process's own: name another with --minion-queue")
    url = urlsplit(launch.queue)
    if url.password:
        variable = "REDIS_PASSWORD" if scheme in ("redis", "rediss") else "VARIABLE"
        raise UsageError(
            "the queue's URL holds a password, which the Job would show to all: leave it out and "
            f"say --secret-env {variable}=NAME:KEY"
        )
    host = url.hostname or launch.env.get("REDIS_HOST", "")
    if scheme in ("unix", "redis+unix") or _is_here(host) or not (host or _told(launch)):
        raise UsageError(
            f"pods can't reach a queue on this machine's loopback ({host or url.path}): "
            "name the address that they see with --minion-queue URL"
        )


def _told(launch: Launch) -> bool:
    """Whether a variable says where the server is."""
    from_config = {variable for variable, _name, _key in read(launch, "config_env")}
    return "REDIS_HOST" in {*launch.secret_env, *from_config}


def _is_here(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _check_folder(launch: Launch, folder: str) -> None:
    path = posixpath.normpath(folder)
    if path.startswith("//"):
        path = path[1:]
    if not path.startswith("/"):
        raise UsageError(
            f"the queue {folder} is relative: name the folder as pods see it, "
            "with --minion-queue file:/PATH"
        )
    for mount in volumes(launch).mounts:
        inside = path == mount["mountPath"] or path.startswith(f"{mount['mountPath']}/")
        if inside and mount["name"].startswith("claim-") and not mount.get("readOnly"):
            return
    raise UsageError(
        f"the queue {folder} is in no volume that pods can write: say -O volume=CLAIM:/PATH, and "
        "--minion-queue file:/PATH/… if pods see it elsewhere than you"
    )


def read_only_root(launch: Launch) -> bool:
    """Whether minions write nowhere but in volumes and the scratch folder."""
    return not yes(launch, "writable_root", default=False)

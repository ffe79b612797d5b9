"""The volumes of a pod, as folders of this machine; and its environment from references."""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path
from typing import Any

from services.kubernetes.calls import Api, Refused, Thing


class ConfigError(Exception):
    """The pod names something that is not there (yet)."""


def folders(api: Api, pod: Thing, folder: Path) -> dict[str, str]:
    """The folder of each volume. ConfigError if one can't be had."""
    made = {}
    group = pod["spec"].get("securityContext", {}).get("fsGroup")
    for volume in pod["spec"].get("volumes", []):
        path, owned = _folder(api, pod["metadata"]["namespace"], volume, folder)
        if owned and group is not None:
            _give_to_group(path, group)
        made[volume["name"]] = path
    return made


def _folder(api: Api, namespace: str, volume: Thing, folder: Path) -> tuple[str, bool]:
    """Where it is, and whether `fsGroup` applies to it."""
    own = folder / "volumes" / volume["name"]
    if "hostPath" in volume:
        return volume["hostPath"]["path"], False
    if "persistentVolumeClaim" in volume:
        claim = volume["persistentVolumeClaim"]["claimName"]
        found = _get(api, f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{claim}")
        bound = _get(api, f"/api/v1/persistentvolumes/{found['spec']['volumeName']}")["spec"]
        source = bound.get("local") or bound["hostPath"]
        return source["path"], "local" in bound
    own.mkdir(parents=True, exist_ok=True)
    if "secret" in volume:
        name = volume["secret"]["secretName"]
        secret = _get(api, f"/api/v1/namespaces/{namespace}/secrets/{name}")
        for key, value in secret.get("data", {}).items():
            (own / key).write_bytes(base64.b64decode(value))
    elif "configMap" in volume:
        name = volume["configMap"]["name"]
        config = _get(api, f"/api/v1/namespaces/{namespace}/configmaps/{name}")
        for key, value in config.get("data", {}).items():
            (own / key).write_text(value)
    elif "emptyDir" in volume:
        own.chmod(0o777)
    return str(own), True


def _give_to_group(path: str, group: int) -> None:
    for top, names, files in os.walk(path):
        for name in (".", *names, *files):
            one = os.path.join(top, name)
            os.chown(one, -1, group)
            os.chmod(one, os.stat(one).st_mode | (0o2070 if os.path.isdir(one) else 0o060))


def environment(api: Api, pod: Thing, container: Thing) -> dict[str, str]:
    """The container's variables. ConfigError if a Secret, a ConfigMap or a key is missing."""
    made: dict[str, str] = {}
    for entry in container.get("env", []):
        source = entry.get("valueFrom")
        if source is None:
            made[entry["name"]] = expanded(entry.get("value", ""), made)
        else:
            made[entry["name"]] = _referred(api, pod, source)
    return made


def _referred(api: Api, pod: Thing, source: Thing) -> str:
    namespace = pod["metadata"]["namespace"]
    if "fieldRef" in source:
        return _field(pod, source["fieldRef"]["fieldPath"])
    kind = "secrets" if "secretKeyRef" in source else "configmaps"
    reference = source.get("secretKeyRef") or source["configMapKeyRef"]
    found = _get(api, f"/api/v1/namespaces/{namespace}/{kind}/{reference['name']}")
    value: str | None = found.get("data", {}).get(reference["key"])
    if value is None:
        raise ConfigError(f"couldn't find key {reference['key']} in {kind} {reference['name']}")
    return base64.b64decode(value).decode() if kind == "secrets" else value


def _field(pod: Thing, path: str) -> str:
    match = re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path)
    if match:
        return str(pod["metadata"].get(match[1], {}).get(match[2], ""))
    found: Any = pod
    for name in path.split("."):
        found = found.get(name, "")
    return str(found)


def expanded(text: str, variables: dict[str, str]) -> str:
    """`$(NAME)` replaced, `$$` made one, as Kubernetes does in env, command and args."""

    def one(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return variables.get(match[1], match[0])

    return re.sub(r"\$\$|\$\(([^()]*)\)", one, text)


def _get(api: Api, path: str) -> Thing:
    try:
        return api.call("GET", path)
    except Refused as refused:
        if refused.status == 404:
            raise ConfigError(f"{path.rpartition('/')[2]} is not there") from refused
        raise

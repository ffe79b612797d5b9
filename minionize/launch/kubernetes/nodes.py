"""Which nodes a pod fits: what it asks for, and where it may go."""

from __future__ import annotations

from typing import Any

from minionize.launch.kubernetes.keys import pairs, read, read_last
from minionize.launch.kubernetes.texts import tolerates
from minionize.launch.script import last
from minionize.launch.values import Launch


def resources(launch: Launch) -> dict[str, dict[str, str]]:
    """Requests and limits. Memory is limited to what is asked for, so that a node never has to
    choose whom to kill; CPU is not, since a limit there only throttles."""
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}
    if launch.cpus is not None:
        requests["cpu"] = str(launch.cpus)
    if launch.memory_mib is not None:
        requests["memory"] = limits["memory"] = f"{launch.memory_mib}Mi"
    if launch.gpus:
        limits[gpu(launch)] = str(launch.gpus)
    requests.update(pairs(launch, "request"))
    limits.update(pairs(launch, "limit"))
    found = {"requests": requests, "limits": limits}
    return {name: values for name, values in found.items() if values}


def gpu(launch: Launch) -> str:
    """The resource that `--gpus` counts."""
    return last(launch, "gpu") or "nvidia.com/gpu"


def narrowing(launch: Launch) -> dict[str, Any]:
    """Selector, affinity and tolerations, as the fields of a pod's spec."""
    selector = pairs(launch, "select")
    tolerations = read(launch, "tolerate")
    if launch.gpus:
        # GPU nodes are mostly kept free for those that ask for one.
        tolerations.append({"key": gpu(launch), "operator": "Exists", "effect": "NoSchedule"})
    spot = read_last(launch, "spot", None)
    if spot is not None:
        label, value = spot
        selector[label] = value
        tolerations.append(tolerates(label, value))
    found = {
        "nodeSelector": selector,
        "affinity": read_last(launch, "affinity", None),
        "tolerations": tolerations,
    }
    return {name: value for name, value in found.items() if value}

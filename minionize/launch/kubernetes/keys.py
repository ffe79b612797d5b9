"""What `-O key=value` understands here, and how its values are read."""

from __future__ import annotations

from typing import Any

from minionize.errors import UsageError
from minionize.launch.contract import Key
from minionize.launch.kubernetes import texts
from minionize.launch.script import last
from minionize.launch.values import Launch
from minionize.settings.parsing import Parse, flag, whole_from

KEYS = {
    "image": Key("The image, with minionize in it (needed)"),
    "pull_policy": Key("When the image is pulled: Always, IfNotPresent, Never"),
    "pull_secret": Key("A Secret with the registry's credentials", many=True),
    "namespace": Key("Where the Job goes (the namespace of the context)"),
    "create_namespace": Key("yes: make the namespace if it is missing", parse=flag),
    "context": Key("The context of the kubeconfig (its current one)"),
    "kubeconfig": Key("Its file (KUBECONFIG, ~/.kube/config, or the pod's own account)"),
    "server": Key(
        "The version to write for, as 1.28 (submit asks; --dry-run: a current one)",
        parse=texts.has_limits_per_index,
    ),
    "request": Key("A request of each pod, as ephemeral-storage=10Gi", many=True, parse=texts.pair),
    "limit": Key("A limit of each pod, as cpu=4", many=True, parse=texts.pair),
    "gpu": Key("What --gpus counts (nvidia.com/gpu)"),
    "select": Key("A label that nodes must have: pool=batch", many=True, parse=texts.pair),
    "affinity": Key("The pod's affinity, in JSON", parse=texts.from_json),
    "tolerate": Key(
        "A taint to accept: KEY, KEY=VALUE, with :EFFECT and :SECONDS",
        many=True,
        parse=texts.toleration,
    ),
    "spot": Key("Run on the spot nodes of aks, eks, gke or karpenter", parse=texts.spot),
    "service_account": Key("The account of the pods"),
    "token": Key("yes: give pods the token of their account (no)", parse=flag),
    "config_env": Key(
        "A variable from a ConfigMap: VAR=NAME:KEY", many=True, parse=texts.variable_from
    ),
    "volume": Key(
        "A claim at a path: CLAIM:/PATH, with :ro; CLAIM/SUB:/PATH",
        many=True,
        parse=texts.mount_of("CLAIM"),
    ),
    "secret_volume": Key("A Secret as files: NAME:/PATH", many=True, parse=texts.mount_of("NAME")),
    "config_volume": Key(
        "A ConfigMap as files: NAME:/PATH", many=True, parse=texts.mount_of("NAME")
    ),
    "scratch": Key("How much /tmp may hold, as 10Gi (no limit)"),
    "writable_root": Key("yes: programs may write outside /tmp and volumes too (no)", parse=flag),
    "user": Key(
        "Number of the user and group that minions run as, or image (1000)", parse=texts.user
    ),
    "label": Key("A label of Job and pods: KEY=VALUE", many=True, parse=texts.pair),
    "annotation": Key("An annotation of Job and pods: KEY=VALUE", many=True, parse=texts.pair),
    "priority_class": Key("The priority class of the pods"),
    "runtime_class": Key("The runtime class of the pods"),
    "backoff_limit": Key("So often may the pod of one minion fail (10)", parse=whole_from(0)),
    "ttl": Key(
        "How long the Job and its logs stay when it ended, in seconds, or never (86400)",
        parse=texts.ttl_s,
    ),
}


def read(launch: Launch, key: str) -> list[Any]:
    """All values of a key, read. UsageError for one that it can't have."""
    return [read_text(f"-O {key}", text, KEYS[key].parse) for text in launch.options.get(key, ())]


def read_text(what: str, text: str, parse: Parse) -> Any:
    """`text`, read. UsageError, which names `what` it is a value of, where it can't be."""
    try:
        return parse(text)
    except ValueError as error:
        raise UsageError(f"{what}={text}: {error}") from None


def read_last(launch: Launch, key: str, default: Any) -> Any:
    """The last value of a key, read; `default` where there is none."""
    text = last(launch, key)
    return default if text is None else read_text(f"-O {key}", text, KEYS[key].parse)


def pairs(launch: Launch, key: str) -> dict[str, str]:
    """The values of a key that are NAME=VALUE. UsageError for others."""
    return dict(read(launch, key))

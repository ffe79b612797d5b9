"""Reads the values of `-O key=value`. A ValueError's message completes "-O KEY=VALUE: ..."."""

from __future__ import annotations

import json
import posixpath
import re
from typing import Any, NamedTuple

from minionize.settings.parsing import Parse, whole_from

_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")

SPOT = {
    "aks": ("kubernetes.azure.com/scalesetpriority", "spot"),
    "eks": ("eks.amazonaws.com/capacityType", "SPOT"),
    "gke": ("cloud.google.com/gke-spot", "true"),
    "karpenter": ("karpenter.sh/capacity-type", "spot"),
}
"""Label, and taint where they are tainted, of the spot nodes of each."""


class Mount(NamedTuple):
    """What is seen where."""

    source: str
    path: str
    read_only: bool


def pair(text: str) -> tuple[str, str]:
    """NAME=VALUE; the value may be empty."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ValueError(f"{text!r} has no value: write NAME=VALUE")
    return name, value


def reference(text: str) -> tuple[str, str]:
    """NAME and KEY of `NAME:KEY`."""
    match = re.fullmatch(r"([a-z0-9][a-z0-9.-]*):([A-Za-z0-9_.-]+)", text)
    if match is None:
        raise ValueError(f"{text!r} is no reference: write NAME:KEY")
    return match[1], match[2]


def variable_from(text: str) -> tuple[str, str, str]:
    """A variable, and the NAME and KEY it comes from: `VAR=NAME:KEY`."""
    variable, told = pair(text)
    return (variable, *reference(told))


def from_json(text: str) -> object:
    """What the JSON says."""
    try:
        found: object = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{text!r:.100} is no JSON ({error}): mend it") from None
    return found


def spot(text: str) -> tuple[str, str]:
    """Label and value of the spot nodes of that provider."""
    if text not in SPOT:
        raise ValueError(
            f"{text!r} is not known: there are {', '.join(SPOT)}; elsewhere say -O select= and "
            "-O tolerate="
        )
    return SPOT[text]


def tolerates(key: str, value: str | None = None, effect: str = "NoSchedule") -> dict[str, Any]:
    """A toleration of one taint, whatever its value if none is given."""
    if value is None:
        return {"key": key, "operator": "Exists", "effect": effect}
    return {"key": key, "operator": "Equal", "value": value, "effect": effect}


def toleration(text: str) -> dict[str, Any]:
    """KEY[=VALUE][:EFFECT[:SECONDS]]."""
    taint, *more = text.split(":")
    key, equals, value = taint.partition("=")
    effect, seconds = [*more, "", ""][:2]
    if not key or len(more) > 2 or (effect and effect not in _EFFECTS):
        raise ValueError(
            f"{text!r} is no toleration: write KEY, KEY=VALUE, KEY:NoSchedule, "
            f"KEY=VALUE:NoExecute:SECONDS (effects: {', '.join(_EFFECTS)})"
        )
    made: dict[str, Any] = {"key": key, "operator": "Equal" if equals else "Exists"}
    if equals:
        made["value"] = value
    if effect:
        made["effect"] = effect
    if seconds:
        if effect != "NoExecute" or not seconds.isdecimal():
            raise ValueError(
                f"{text!r} is no toleration: SECONDS is a whole number, and goes with NoExecute "
                "alone"
            )
        made["tolerationSeconds"] = int(seconds)
    return made


def mount_of(word: str) -> Parse:
    """Reads `SOURCE:/PATH[:ro]`, where `word` is what a source is called."""

    def mount(text: str) -> Mount:
        source, colon, rest = text.partition(":")
        path, _, mode = rest.partition(":")
        if not source or not colon or not path.startswith("/") or mode not in ("", "ro"):
            raise ValueError(f"{text!r} is no volume: write {word}:/PATH")
        return Mount(source, posixpath.normpath(path), mode == "ro")

    return mount


def has_limits_per_index(version: str) -> bool:
    """Whether that version (1.28, v1.31.2) has `backoffLimitPerIndex` switched on."""
    match = re.match(r"v?(\d+)\.(\d+)", version)
    if match is None:
        raise ValueError(f"{version!r} is no version: write it as 1.28")
    return (int(match[1]), int(match[2])) >= (1, 29)


def user(text: str) -> int | None:
    """The number of a user that is not root; None: that of the image."""
    if text == "image":
        return None
    number = int(whole_from(0)(text))
    if number == 0:
        raise ValueError(f"{text!r} is root, which minions need not be: name another")
    return number


def ttl_s(text: str) -> int | None:
    """Seconds; None: for ever."""
    return None if text == "never" else int(whole_from(0)(text))

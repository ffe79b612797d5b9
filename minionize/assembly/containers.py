"""A callback in containers, where the settings say so."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from minionize.settings import Settings


def in_container(settings: Settings, callback: Any, lines: Callable[[str], None]) -> Any:
    """`callback` itself; with `--image` its programs, each in a container of that image. One
    that brings its own containers keeps them. UsageError if there is no runtime."""
    if hasattr(callback, "apart"):
        callback.apart.say = lines
        return callback
    if settings.image is None or not hasattr(callback, "invocation"):
        return callback
    from minionize.callbacks.container import Contained, Containers

    containers = Containers(
        settings.image,
        runtime=settings.runtime,
        options=settings.container_options,
        path=settings.env.get("PATH", os.defpath),
        program=getattr(callback, "program", None),
    )
    containers.say = lines
    return Contained(callback, containers)

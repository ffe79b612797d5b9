"""docker/compose.yaml with Docker Compose itself: Redis, minions to scale, and their status."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from services import docker, worker_image
from services.compose import project
from services.compose.project import Project
from services.podman import Podman
from services.processes import until

CLONE = Path(__file__).parents[2]
FILE = CLONE / "docker/compose.yaml"


@pytest.fixture
def compose(pod: Podman, needs_server: Callable[[str], NoReturn]) -> Iterator[Project]:
    if lacks := project.lacking():
        needs_server(lacks)
    image = worker_image.build(pod)
    with project.project(pod, FILE, f"minions{os.getpid()}") as made:
        docker.load(pod, made.env, image)
        made.build("pi", CLONE / "examples/containers", MINIONIZE=image)
        yield made


def done(compose: Project) -> str:
    """What the service `status` says."""
    return compose("logs", "--no-log-prefix", "--tail=20", "status")


def test_up_scaled_fed_drained_and_down(compose: Project) -> None:
    told = compose.tried("config")
    assert told.returncode != 0 and "the image of your program" in told.stderr
    compose.env["MINION_WORKER"] = "pi"
    compose("up", "--detach", "--scale", "minion=3")
    assert len(compose.containers("minion")) == 3
    fed = compose("run", "--rm", "queue", "feed", "--grid", "seed=0:20", "points=1000")
    assert "20" in fed, fed
    until(lambda: "done 20" in done(compose), lambda: done(compose), timeout_s=120)
    assert compose("logs", "minion").count('"pi"') == 20
    assert "20" in compose("run", "--rm", "queue", "status")
    # One after the other, as one scales down: what they have is given back.
    compose("up", "--detach", "--scale", "minion=1")
    assert len(compose.containers("minion")) == 1
    compose("stop")
    (minion,) = compose.containers("minion")
    form = "{{.State.ExitCode}} {{.Config.User}} {{.HostConfig.ReadonlyRootfs}}"
    assert compose.docker("inspect", f"--format={form}", minion).split() == [
        "0",
        "1000:1000",
        "true",
    ]
    compose("down")
    assert not compose.containers()
    # What was put and done outlives all containers.
    compose("up", "--detach")
    until(lambda: "done 20" in done(compose), lambda: done(compose), timeout_s=120)

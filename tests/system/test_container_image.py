"""The image of docker/: `FROM` it and `CMD ["./a.out"]` make a worker of any program."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml
from services import podman, redis, worker_image
from services.podman import Podman
from services.processes import ServerFailed, until

from minionize.contracts.engine import EngineOptions
from minionize.engines.registry import open_queue
from minionize.values import State, Stats

CLONE = Path(__file__).parents[2]
COMPOSE = CLONE / "docker/compose.yaml"
USER = 1000


@functools.cache
def _built() -> tuple[Podman, str]:
    pod = Podman()
    return pod, worker_image.build(pod)


class Workers:
    """Containers of the image over a queue in a folder, removed in the end."""

    def __init__(self, podman: Podman, image: str, folder: Path) -> None:
        self.podman = podman
        self.image = image
        self.folder = folder
        os.chown(folder, USER, USER)
        self.url = f"file:{folder}/q"
        self._names: list[str] = []

    def put(self, *params: object) -> None:
        queue = open_queue(self.url, EngineOptions())
        queue.put(params)
        queue.close()
        for path in [self.folder, *self.folder.rglob("*")]:
            os.chown(path, USER, USER)

    def stats(self) -> Stats:
        queue = open_queue(self.url, EngineOptions())
        try:
            return queue.stats()
        finally:
            queue.close()

    def start(
        self, *cmd: str, options: Sequence[str] = ("--network=none",), image: str = ""
    ) -> str:
        """A worker as it is meant to be run; returns its name."""
        name = f"worker-{os.getpid()}-{id(self)}-{len(self._names)}"
        self._names.append(name)
        self.podman(
            "run", "--detach", f"--name={name}", "--read-only", "--cap-drop=all",
            "--security-opt=no-new-privileges", f"--volume={self.folder}:/work",
            "--env=MINION_QUEUE=file:/work/q", *options, image or self.image, *cmd,
        )  # fmt: skip
        return name

    def exit_status(self, name: str) -> int:
        """Once it has ended."""
        return int(self.podman("wait", name))

    def logs(self, name: str) -> str:
        ran = subprocess.run(
            ["podman", "logs", name], env=self.podman.env, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return ran.stdout

    def inside(self, name: str, *argv: str) -> str:
        return self.podman("exec", name, *argv)

    def wait_for(self, name: str, file: str) -> None:
        until((self.folder / file).exists, lambda: self.logs(name))

    def close(self) -> None:
        for name in self._names:
            self.podman("rm", "--force", "--time=0", name)


@pytest.fixture
def workers(tmp_path: Path, needs_server: Callable[[str], NoReturn]) -> Iterator[Workers]:
    if lacks := podman.lacking():
        needs_server(lacks)
    pod, image = _built()
    made = Workers(pod, image, tmp_path)
    try:
        yield made
    finally:
        made.close()


def test_a_program_from_the_image_works_as_no_root_on_a_read_only_root(workers: Workers) -> None:
    context = workers.folder / "context"
    context.mkdir()
    (context / "a.out").write_text('#!/bin/sh\nprintf "%s %s\\n" "$1" "$(id -u)" >>/work/done\n')
    (context / "a.out").chmod(0o755)
    (context / "Dockerfile").write_text(
        f'FROM {workers.image}\nCOPY a.out /opt/\nCMD ["/opt/a.out", "{{x}}"]\n'
    )
    own = workers.podman("build", "--quiet", "--pull=never", "--network=none", str(context))
    workers.put(*({"x": f"$(x) {number}"} for number in range(3)))
    name = workers.start(image=own.split()[-1])
    assert workers.exit_status(name) == 0, workers.logs(name)
    lines = sorted((workers.folder / "done").read_text().splitlines())
    assert lines == [f"$(x) {number} {USER}" for number in range(3)]
    assert workers.stats().done == 3
    workers.close()
    workers.podman("rmi", "--force", own.split()[-1])


def test_podman_stop_gives_back_what_runs(workers: Workers) -> None:
    workers.put(1, 2)
    script = "trap 'touch /work/told; exit 143' TERM; touch /work/up; while :; do sleep 0.1; done"
    name = workers.start("sh", "-c", script)
    workers.wait_for(name, "up")
    workers.podman("stop", "--time=20", name)
    assert workers.exit_status(name) == 75, workers.logs(name)
    assert (workers.folder / "told").exists()
    queue = open_queue(workers.url, EngineOptions())
    left = [(entry.param, entry.attempt, entry.crashes) for entry in queue.scan(State.WAITING)]
    queue.close()
    assert sorted(left) == [(1, 1, 0), (2, 1, 0)]


@pytest.mark.parametrize(("signal", "status"), [("INT", 130), ("USR1", 75)])
def test_signals_reach_the_minion_as_process_1(workers: Workers, signal: str, status: int) -> None:
    workers.put(1)
    name = workers.start("sh", "-c", "touch /work/up; exec sleep 100")
    workers.wait_for(name, "up")
    workers.podman("kill", f"--signal={signal}", name)
    assert workers.exit_status(name) == status, workers.logs(name)
    assert workers.stats().waiting == 1


ORPHANS = "for i in 1 2 3 4 5; do (setsid sh -c 'sleep 0.2' &); done; touch /work/up; sleep 100"
STATES = "cat /proc/[0-9]*/stat 2>/dev/null | sed 's/.*) //' | cut -d' ' -f1,2"


def test_orphans_are_reaped(workers: Workers) -> None:
    workers.put(1)
    name = workers.start("sh", "-c", ORPHANS)
    workers.wait_for(name, "up")

    def orphans() -> list[str]:
        rows = workers.inside(name, "sh", "-c", STATES).splitlines()
        # State and parent: process 1 is the parent of the minion, which doesn't die meanwhile.
        return [row for row in rows if row.endswith(" 1")]

    until(lambda: len(orphans()) == 1, orphans)
    assert "Z" not in orphans()[0]


STOP = """
for p in /proc/[0-9]*; do
    grep -q '[/]opt/minionize/bin' $p/cmdline && kill -STOP ${p#/proc/}
done 2>/dev/null
true
"""


def test_a_minion_that_is_well_is_healthy_and_one_that_hangs_is_not(workers: Workers) -> None:
    workers.put(1)
    name = workers.start("sh", "-c", "touch /work/up; exec sleep 100")
    workers.wait_for(name, "up")
    workers.podman("healthcheck", "run", name)
    # Stopped, and as if that were half a minute ago.
    workers.inside(name, "sh", "-c", STOP)
    workers.inside(name, "touch", "-d", "40 seconds ago", "/tmp/minion-beat")
    with pytest.raises(ServerFailed):
        workers.podman("healthcheck", "run", name)


def test_dead_letters_and_bad_commands_end_the_container_with_their_status(
    workers: Workers,
) -> None:
    workers.put(1)
    name = workers.start("no-such-program")
    assert workers.exit_status(name) == 127, workers.logs(name)
    name = workers.start("--max-attempts", "1", "false")
    assert workers.exit_status(name) == 1, workers.logs(name)


def example(workers: Workers) -> str:
    """The image of examples/containers."""
    said = workers.podman(
        "build", "--quiet", "--pull=never", "--network=none", "--format=docker",
        f"--build-arg=MINIONIZE={workers.image}", str(CLONE / "examples/containers"),
    )  # fmt: skip
    return said.split()[-1]


def test_the_example_over_a_queue_in_a_folder(workers: Workers) -> None:
    workers.put(*({"seed": seed, "points": 1000} for seed in range(3)))
    variables = ("--env=MINION_CAPTURE=1", "--env=MINION_SLOTS=auto", "--network=none")
    name = workers.start(options=variables, image=example(workers))
    assert workers.exit_status(name) == 0, workers.logs(name)
    stats = workers.stats()
    assert (stats.done, stats.dead) == (3, 0), workers.logs(name)


def service(name: str) -> dict[str, Any]:
    """One of the compose file."""
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"][name]
    return found


def test_the_services_of_the_compose_file_work_with_redis(
    workers: Workers, tmp_path: Path, needs_server: Callable[[str], NoReturn]
) -> None:
    if lacks := redis.lacking("redis7"):
        needs_server(lacks)
    program, *arguments = map(str, service("redis")["command"])
    assert program == "redis-server"
    with redis.RedisServer(tmp_path / "redis", "redis7", *arguments) as server:
        image = example(workers)

        def start(name: str, *cmd: str) -> str:
            """As compose would, but for the network."""
            one = service(name)
            assert one["read_only"] and one["cap_drop"] == ["ALL"] and one["tmpfs"] == ["/tmp"]
            options = ["--network=host"]
            for variable, value in one["environment"].items():
                here = value.replace("//redis:6379/", f"//127.0.0.1:{server.port}/")
                options.append(f"--env={variable}={here}")
            if "entrypoint" in one:
                options.append(f"--entrypoint={one['entrypoint'][0]}")
            return workers.start(*(cmd or one.get("command", ())), options=options, image=image)

        fed = start("queue", "feed", "--grid", "seed=0:5", "points=100")
        assert workers.exit_status(fed) == 0, workers.logs(fed)
        names = [start("minion"), start("minion")]
        status = start("status")
        until(lambda: "done 5" in workers.logs(status), lambda: workers.logs(status))
        for name in [*names, status]:
            workers.podman("stop", "--time=15", name)
        assert "".join(map(workers.logs, names)).count('"pi"') == 5
        assert [workers.exit_status(name) for name in names] == [0, 0]

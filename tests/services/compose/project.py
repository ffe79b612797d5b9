"""A project of Docker Compose, on a daemon of its own with a network of its own.

No registry is reached: the image of Redis is the base image with Debian's Redis, under the name
that the compose file asks for.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from services import docker
from services.compose.build import PROGRAM
from services.podman import BASE, Podman
from services.processes import ServerFailed, run

_REDIS = ("redis-server", "redis-cli")
_DOCKERFILE = f"""\
FROM {BASE}
COPY files/usr/bin /usr/bin
COPY files/lib /usr/lib
WORKDIR /data
"""


def lacking() -> str:
    """What it lacks here, beside what `podman` does; empty if nothing."""
    for program in _REDIS:
        if shutil.which(program) is None:
            return f"{program} is missing: apt-get install redis-server"
    return docker.lacking() or PROGRAM.lacking()


class Project:
    """`docker compose` with one file; what it starts is gone in the end."""

    def __init__(self, file: Path, name: str, env: dict[str, str]) -> None:
        self.file = file
        self.name = name
        self.env = env
        self._program = PROGRAM.built()

    def tried(self, *argv: str, timeout_s: float = 300.0) -> subprocess.CompletedProcess[str]:
        """`docker compose ARGV`, however it ends."""
        return subprocess.run(
            [self._program, f"--file={self.file}", f"--project-name={self.name}", *argv],
            env=self.env, stdin=subprocess.DEVNULL, text=True, capture_output=True, check=False,
            timeout=timeout_s,
        )  # fmt: skip

    def __call__(self, *argv: str) -> str:
        """What it prints. ServerFailed if it fails."""
        ran = self.tried(*argv)
        if ran.returncode:
            raise ServerFailed(f"compose {' '.join(argv)}: {ran.stdout}{ran.stderr}")
        return ran.stdout

    def docker(self, *argv: str) -> str:
        """What `docker ARGV` prints, with the same daemon. ServerFailed if it fails."""
        ran = subprocess.run(
            ["docker", *argv], env=self.env, stdin=subprocess.DEVNULL, text=True,
            capture_output=True, check=False,
        )  # fmt: skip
        if ran.returncode:
            raise ServerFailed(f"docker {' '.join(argv)}: {ran.stderr}")
        return ran.stdout

    def containers(self, service: str = "") -> list[str]:
        """Ids of its containers, or of those of one service, whatever their state."""
        argv = ["ps", "--all", "--quiet", f"--filter=label=com.docker.compose.project={self.name}"]
        if service:
            argv.append(f"--filter=label=com.docker.compose.service={service}")
        return self.docker(*argv).split()

    def build(self, tag: str, context: Path, **arguments: str) -> None:
        """An image of what is here."""
        words = [f"--build-arg={name}={value}" for name, value in arguments.items()]
        self.docker("build", "--quiet", "--network=none", f"--tag={tag}", *words, str(context))


@contextlib.contextmanager
def project(podman: Podman, file: Path, name: str) -> Iterator[Project]:
    """One at a time on this machine."""
    with (
        tempfile.TemporaryDirectory(prefix="mz") as short,
        docker.docker(podman, Path(short), network=True) as env,
    ):
        made = Project(file, name, env)
        # What a killed test left.
        for kind in ("container", "network", "volume"):
            made.docker(kind, "prune", "--force")
        made.docker("image", "prune", "--force", "--filter=until=24h")
        found = re.search(r"image: (\S*/redis:\S+)", file.read_text())
        assert found is not None
        _redis(made, found[1], Path(short))
        try:
            yield made
        finally:
            made.tried("--profile=*", "down", "--volumes", "--timeout=0")


def _redis(made: Project, image: str, folder: Path) -> None:
    context = folder / "redis"
    for program in _REDIS:
        path = shutil.which(program)
        assert path is not None
        found = re.findall(r"(/lib\S*\.so\S*) \(", run("ldd", path))
        for source, target in [(path, f"usr/bin/{program}"), *((lib, lib[1:]) for lib in found)]:
            copy = context / "files" / target
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy)
    (context / "Dockerfile").write_text(_DOCKERFILE)
    made.build(image, context)

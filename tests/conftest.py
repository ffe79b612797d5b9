"""What all tests share: a clean environment, and the rule for tests that need a server."""

from __future__ import annotations

import os
import re
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from services.container_bench import Bench
    from services.kubernetes.cluster import Cluster
    from services.kubernetes.room import Room
    from services.podman import Podman
    from services.pubsub import Pubsub
    from services.pulsar import Shared
    from services.two_users import TwoUsers

# How long an example takes says more about the machine's other work than about the code.
settings.register_profile("minionize", deadline=None)
settings.load_profile("minionize")

# Whoever starts tests in the background of a script has them ignore Ctrl-C, and all they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# The same of nohup.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# A developer's own settings, or the scheduler that this runs under, decide nothing here.
_TELLING = ("MINION_", "REPORTER_", "EXECO_", "OAR_", "SLURM_", "PBS_")
for name in list(os.environ):
    if name.startswith(_TELLING):
        del os.environ[name]

# What minionize notes for its user goes to a folder of the tests.
os.environ["XDG_STATE_HOME"] = f"{tempfile.gettempdir()}/minionize-tests-state-{os.getuid()}"


def lacks_server(reason: str) -> NoReturn:
    """Skips for this reason; fails in `tests/run.sh all`."""
    if os.environ.get("MINIONIZE_TESTS") == "all":
        pytest.fail(f"needs a server: {reason}")
    pytest.skip(f"needs a server: {reason}")


@pytest.fixture
def needs_server() -> Callable[[str], NoReturn]:
    """Call it with the reason where a server is missing: skips; fails in `tests/run.sh all`."""
    return lacks_server


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder, and an environment that tells minionize nothing, and is put back
    as it was."""
    before = dict(os.environ)
    monkeypatch.chdir(tmp_path)
    for name in [name for name in before if name.startswith(_TELLING)]:
        del os.environ[name]
    yield tmp_path
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def pulsar_broker() -> Iterator[Shared]:
    """A Pulsar broker that all tests share, each with a topic of its own."""
    from services import pulsar

    reason = pulsar.lacking()
    if reason:
        lacks_server(reason)
    with pulsar.shared_broker() as broker:
        yield broker


@pytest.fixture(scope="session")
def pubsub_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pubsub]:
    """A Pub/Sub server, the emulator or a fake, that the tests of this process share, each with
    a topic of its own."""
    from services import pubsub
    from services.processes import ServerFailed

    try:
        server = pubsub.start(tmp_path_factory.mktemp("pubsub"))
    except ServerFailed as error:
        lacks_server(str(error))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def pair() -> Iterator[TwoUsers]:
    """Two users of this machine, of one group, with a folder that both may write to."""
    from services import two_users

    if lacks := two_users.lacking():
        lacks_server(lacks)
    with two_users.two_users() as found:
        yield found


@pytest.fixture(scope="session")
def podman_here() -> Podman | str:
    """Podman with the base image, or what it lacks."""
    from services import podman

    return podman.lacking() or podman.Podman()


@pytest.fixture
def pod(podman_here: Podman | str, needs_server: Callable[[str], NoReturn]) -> Podman:
    """Podman, with the base image."""
    return needs_server(podman_here) if isinstance(podman_here, str) else podman_here


@pytest.fixture
def bench(pod: Podman, tmp_path: Path) -> Bench:
    """Minions whose params run in podman's containers."""
    from services.container_bench import Bench

    return Bench(tmp_path, pod.env, "podman")


@pytest.fixture
def docked(pod: Podman, tmp_path: Path, needs_server: Callable[[str], NoReturn]) -> Iterator[Bench]:
    """The same with Docker."""
    from services import docker
    from services.container_bench import Bench

    if lacks := docker.lacking():
        needs_server(lacks)
    with tempfile.TemporaryDirectory(prefix="mz") as short, docker.docker(pod, Path(short)) as env:
        yield Bench(tmp_path, env, "docker")


@pytest.fixture(scope="session")
def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster | str]:
    """The cluster of this session, or what it lacks."""
    from services.kubernetes import cluster
    from services.kubernetes.room import session_folder

    if lacking := cluster.lacking():
        yield lacking
        return
    with cluster.shared(session_folder(tmp_path_factory.getbasetemp())) as found:
        yield found


@pytest.fixture
def room(
    kubernetes: Cluster | str,
    needs_server: Callable[[str], NoReturn],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Iterator[Room]:
    """A namespace for this test, in the cluster."""
    from services.kubernetes.room import Room

    if isinstance(kubernetes, str):
        needs_server(kubernetes)
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:50].strip("-")
    made = Room(kubernetes, name, tmp_path / "volume")
    yield made
    made.close()

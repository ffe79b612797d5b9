"""Google Pub/Sub on loopback: the emulator of Google's SDK, or the Go library's fake of it.

The emulator is a jar, beside `gcloud` or where PUBSUB_EMULATOR_JAR says; it keeps all in memory.
The fake (`cloud.google.com/go/pubsub/pstest`) needs Go to be built, once, into the cache; its
clock can be moved by hand, and it knows nothing of exactly-once delivery.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import glob
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import grpc

from services.processes import Server, ServerFailed, free_port

PSTEST = "cloud.google.com/go/pubsub@v1.52.0"
_GO = Path(__file__).parent / "pstest"


class Pubsub:
    """A server, its address in PUBSUB_EMULATOR_HOST's words."""

    def __init__(self, argv: list[str], address: str, output: Path) -> None:
        self.address = address
        self.env = {"PUBSUB_EMULATOR_HOST": address}
        self.port = int(address.rpartition(":")[2])
        self._server = Server(argv, output)
        self._server.ready(lambda: answers(address), timeout_s=180)

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._server.process.pid

    def kill(self) -> None:
        """As kill -9 does."""
        self._server.process.kill()
        self._server.process.wait()

    def stop(self) -> None:
        """End it."""
        self._server.stop()


class Fake(Pubsub):
    """The fake, whose clock stands still until it is moved."""

    def __init__(self, argv: list[str], address: str, clock: str, output: Path) -> None:
        super().__init__(argv, address, output)
        host, port = clock.split(":")
        self._clock = socket.create_connection((host, int(port)), timeout=10)

    def set_time(self, unix_s: float) -> None:
        """From now on it is then."""
        self._clock.sendall(f"{unix_s:.6f}\n".encode())
        assert self._clock.recv(1) == b"."

    def stop(self) -> None:
        self._clock.close()
        super().stop()


@functools.cache
def emulator_jar() -> str | None:
    """The emulator, if it is here and Java is."""
    said = os.environ.get("PUBSUB_EMULATOR_JAR")
    if shutil.which("java") is None:
        return None
    if said:
        return said
    roots = ["/usr/lib/google-cloud-sdk", os.path.expanduser("~/google-cloud-sdk")]
    gcloud = shutil.which("gcloud")
    if gcloud:
        roots.insert(0, str(Path(os.path.realpath(gcloud)).parent.parent))
    for root in roots:
        if found := glob.glob(f"{root}/platform/pubsub-emulator/lib/cloud-pubsub-emulator-*.jar"):
            return sorted(found)[-1]
    return None


def why_no_emulator() -> str:
    """The reason for a skip."""
    return (
        "no Pub/Sub emulator: needs java and google-cloud-cli-pubsub-emulator, or "
        "PUBSUB_EMULATOR_JAR"
    )


def start_emulator(folder: Path, port: int | None = None, heap: str = "256m") -> Pubsub:
    """A new emulator; ServerFailed without one. `heap`: it keeps all messages in memory."""
    jar = emulator_jar()
    if jar is None:
        raise ServerFailed(why_no_emulator())
    port = port or free_port()
    argv = ["java", f"-Xmx{heap}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-jar", jar,
            "--host=127.0.0.1", f"--port={port}"]  # fmt: skip
    return Pubsub(argv, f"127.0.0.1:{port}", folder / f"emulator-{port}.log")


def start_fake(folder: Path) -> Fake:
    """A new fake; ServerFailed where it can't be built."""
    port, clock = free_port(), free_port()
    addresses = (f"127.0.0.1:{port}", f"127.0.0.1:{clock}")
    return Fake([str(built_fake()), *addresses], *addresses, folder / f"pstest-{port}.log")


def start(folder: Path, port: int | None = None) -> Pubsub:
    """The emulator; where it is missing, the fake in real time. ServerFailed without both."""
    if emulator_jar() is not None:
        return start_emulator(folder, port)
    address = f"127.0.0.1:{port or free_port()}"
    try:
        program = str(built_fake())
    except ServerFailed as error:
        raise ServerFailed(f"{why_no_emulator()}; {error}") from error
    return Pubsub([program, address], address, folder / "pstest.log")


def built_fake() -> Path:
    """The fake's program, built at the first call."""
    go = shutil.which("go")
    if go is None:
        raise ServerFailed("no Go: it builds the fake of Pub/Sub")
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    source = (_GO / "main.go").read_text()
    import hashlib

    key = hashlib.sha256(f"{PSTEST}\n{source}".encode()).hexdigest()[:16]
    folder = Path(base) / "minionize-tests" / f"pstest-{key}"
    program = folder / "pstest"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            (folder / "main.go").write_text(source)
            (folder / "go.mod").write_text("module pstest\n\ngo 1.23\n")
            for argv in (["get", PSTEST], ["mod", "tidy"], ["build", "-o", "new", "."]):
                ran = subprocess.run(
                    [go, *argv], cwd=folder, capture_output=True, text=True, timeout=600,
                    check=False,
                )  # fmt: skip
                if ran.returncode:
                    raise ServerFailed(f"go {' '.join(argv)}: {ran.stderr[-1000:]}")
            (folder / "new").rename(program)
    return program


def answers(address: str) -> bool:
    """Whether something speaks gRPC there."""
    with contextlib.closing(grpc.insecure_channel(address)) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=0.5)
        except grpc.FutureTimeoutError:
            return False
    return True


@contextlib.contextmanager
def running(server: Pubsub) -> Iterator[Pubsub]:
    """Stopped at the end."""
    try:
        yield server
    finally:
        server.stop()


def fresh(kind: str) -> str:
    """A name that no other test has."""
    return f"{kind}-{os.getpid()}-{time.monotonic_ns():x}"

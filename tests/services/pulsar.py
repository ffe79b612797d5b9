"""A real Apache Pulsar broker, from Maven Central: standalone, one JVM, loopback only.

Fetched once into the cache, with a class archive that makes a start take 3 to 5 s. `shared_broker`
is one broker for all workers of a test run, since each takes 270 MB; `Broker` is one's own, that
can be killed.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from services.processes import Server, ServerFailed, free_ports, run, until

VERSION = "4.0.8"
_HERE = Path(__file__).parent / "pulsar_broker"
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minionize-tests"
_HOME = _CACHE / f"pulsar-{VERSION}"

_OPENS = {
    "java.base": ("java.io", "java.nio", "java.util.zip", "jdk.internal.misc",
                  "jdk.internal.platform"),
    "java.management": ("sun.management",),
    "jdk.management": ("com.sun.management.internal",),
}  # fmt: skip
_SETTINGS = {
    "bindAddress": "127.0.0.1",
    "advertisedAddress": "127.0.0.1",
    "listeningInterface": "lo",
    "allowLoopback": "true",
    "allowEphemeralPorts": "true",
    "acknowledgmentAtBatchIndexLevelEnabled": "true",
    "managedLedgerNewEntriesCheckDelayInMillis": "0",
    "managedLedgerDefaultMarkDeleteRateLimit": "0",
    "keepAliveIntervalSeconds": "5",
    # As on no real broker: a lease of a second needs delays that are exact.
    "delayedDeliveryTickTimeMillis": "20",
}


def lacking() -> str:
    """What a broker lacks here; empty if nothing. Fetches it if that was not done yet."""
    for program, package in (("java", "default-jdk-headless"), ("javac", "default-jdk-headless")):
        if shutil.which(program) is None:
            return f"{program} is missing: apt-get install {package}"
    if not (_HOME / "ready").exists() and shutil.which("mvn") is None:
        return "mvn is missing: apt-get install maven"
    try:
        _prepare()
    except (ServerFailed, subprocess.TimeoutExpired, OSError) as error:
        return f"no Pulsar broker: {error}"
    return ""


class Broker:
    """A broker with its data in `folder`. `start` after `kill` goes on with that data."""

    def __init__(
        self, folder: Path, settings: Mapping[str, str] | None = None, *, token: str = ""
    ) -> None:
        """`settings`: more of standalone.conf. `token`: of an administrator, where one must be."""
        self.folder = folder
        self.port, self.web_port, self._bookie_port = free_ports(3)
        self.url = f"pulsar://127.0.0.1:{self.port}"
        self.admin = f"http://127.0.0.1:{self.web_port}"
        self.token = token
        self.settings = dict(settings or {})
        self._server: Server | None = None

    def start(self) -> None:
        """Start it and wait until it serves."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "logs").mkdir(exist_ok=True)
        self._server = Server(self._argv(), self.folder / "broker.log")
        self._server.ready(self._serves, timeout_s=180)

    def kill(self) -> None:
        """As a power cut would: kill -9."""
        assert self._server is not None
        self._server.process.kill()
        self._server.process.wait()

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()

    @property
    def pid(self) -> int:
        assert self._server is not None
        return self._server.process.pid

    def ask(self, path: str, method: str = "GET", body: object = None) -> object:
        """The admin API's answer at `path` below /admin/v2."""
        return ask(self.admin, path, method, body, token=self.token)

    def _serves(self) -> bool:
        try:
            spaces = self.ask("namespaces/public")
            # The health check passes before the namespace is there.
            if not isinstance(spaces, list) or "public/default" not in spaces:
                return False
            self.ask("brokers/health")
        except OSError:
            return False
        return True

    def _argv(self, *more: str) -> list[str]:
        home = _HOME / f"apache-pulsar-{VERSION}"
        settings = {
            **_SETTINGS,
            "brokerServicePort": str(self.port),
            "webServicePort": str(self.web_port),
            **self.settings,
        }
        conf = self.folder / "standalone.conf"
        lines = (home / "conf" / "standalone.conf").read_text().splitlines()
        kept = [line for line in lines if line.partition("=")[0] not in settings]
        conf.write_text("\n".join([*kept, *(f"{k}={v}" for k, v in settings.items())]) + "\n")
        archive = _HOME / "classes.jsa"
        return [
            "java", "-Xms64m", "-Xmx256m", "-XX:MaxDirectMemorySize=256m", "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1", "-Xshare:auto",
            *([f"-XX:SharedArchiveFile={archive}"] if archive.exists() else []), *more,
            *(
                part
                for module, packages in _OPENS.items()
                for package in packages
                for part in ("--add-opens", f"{module}/{package}=ALL-UNNAMED")
            ),
            "-Djava.net.preferIPv4Stack=true", "-Dio.netty.tryReflectionSetAccessible=true",
            "-Dlog4j2.is.webapp=false", "-Dlog4j.shutdownHookEnabled=false",
            f"-Dlog4j.configurationFile={home}/conf/log4j2.yaml",
            "-Dpulsar.log.appender=Console", "-Dpulsar.routing.appender.default=Console",
            "-Dpulsar.log.level=warn", "-Dpulsar.log.root.level=warn",
            f"-Dpulsar.log.dir={self.folder}/logs", "-Dpulsar.log.file=pulsar.log",
            "-cp", f"{_HOME}/launcher.jar:{home}/lib/*",
            "PulsarTest", "--config", str(conf), "--no-functions-worker", "--no-stream-storage",
            "--metadata-dir", str(self.folder / "metadata"),
            "--bookkeeper-dir", str(self.folder / "bookkeeper"),
            "--bookkeeper-port", str(self._bookie_port),
        ]  # fmt: skip


class Shared:
    """What a test needs of the broker that all share: where it is."""

    def __init__(self, port: int, web_port: int) -> None:
        self.port = port
        self.url = f"pulsar://127.0.0.1:{port}"
        self.admin = f"http://127.0.0.1:{web_port}"


@contextlib.contextmanager
def shared_broker() -> Iterator[Shared]:
    """One broker for all processes of this test run. Whoever comes first starts it; it ends when
    the last one left, however that one ended."""
    session = os.environ.get("PYTEST_XDIST_TESTRUNUID") or str(os.getpid())
    folder = Path(tempfile.gettempdir()) / f"minionize-pulsar-{os.getuid()}-{session}"
    with contextlib.ExitStack() as stack:
        while True:
            folder.mkdir(exist_ok=True)
            with contextlib.suppress(FileNotFoundError), _locked(folder / "starting"):
                users = stack.enter_context((folder / "users").open("a"))
                # Waits for a keeper that is just ending its broker; then its folder is gone.
                fcntl.flock(users, fcntl.LOCK_SH)
                ports = folder / "ports"
                if _is_named(users, folder / "users"):
                    if not ports.exists():
                        _start_keeper(folder, ports)
                    port, web_port = json.loads(ports.read_text())
                    break
        yield Shared(port, web_port)


def _is_named(file: IO[str], path: Path) -> bool:
    """Whether `path` is that open file still."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _start_keeper(folder: Path, ports: Path) -> None:
    # It outlives this process where others need the broker, so it is no child to wait for.
    output = os.open(folder / "keeper.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    tests = str(Path(__file__).parent.parent)
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "services.pulsar", str(folder)],
        {**os.environ, "PYTHONPATH": tests},
        file_actions=[(os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)],
        setsid=True,
    )
    os.close(output)

    def there() -> bool:
        if os.waitpid(pid, os.WNOHANG) != (0, 0):
            raise ServerFailed((folder / "keeper.log").read_text()[-2000:])
        return ports.exists()

    until(there, "the shared broker", timeout_s=200)


def _keep(folder: Path) -> None:
    """Run the shared broker until nobody has `users` locked any more."""
    broker = Broker(folder / "broker")
    broker.start()
    try:
        draft = folder / "ports.draft"
        draft.write_text(json.dumps([broker.port, broker.web_port]))
        draft.rename(folder / "ports")
        with (folder / "users").open("w") as users:
            fcntl.flock(users, fcntl.LOCK_EX)
            broker.stop()
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        broker.stop()


def ask(
    admin: str, path: str, method: str = "GET", body: object = None, *, token: str = ""
) -> object:
    """The answer of the admin API at `admin`; None where it has none. OSError if it fails."""
    request = urllib.request.Request(
        f"{admin}/admin/v2/{path}",
        data=None if body is None else json.dumps(body).encode(),
        method=method,
        headers={"Content-Type": "application/json"}
        | ({"Authorization": f"Bearer {token}"} if token else {}),
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        said = answer.read()
    try:
        return json.loads(said) if said else None
    except ValueError:
        return said.decode()


def jwt(key: bytes, role: str) -> str:
    """A token for `role`, signed with the broker's secret `key`."""

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    said = (
        f"{part(json.dumps({'alg': 'HS256'}).encode())}.{part(json.dumps({'sub': role}).encode())}"
    )
    return f"{said}.{part(hmac.new(key, said.encode(), hashlib.sha256).digest())}"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[IO[str]]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def _prepare() -> None:
    """Fetch the broker, compile its launcher, write its class archive; once per machine."""
    _HOME.mkdir(parents=True, exist_ok=True)
    with _locked(_HOME / "lock"):
        if (_HOME / "ready").exists():
            return
        maven = _HOME / "maven"
        run(
            "mvn", "-B", "-q", "-f", str(_HERE / "pom.xml"), f"-Dpulsar.version={VERSION}",
            f"-Dmaven.repo.local={maven}", f"-Ddest={_HOME}", "dependency:unpack",
            timeout_s=900,
        )  # fmt: skip
        lib = _HOME / f"apache-pulsar-{VERSION}" / "lib"
        run("javac", "-cp", f"{lib}/*", "-d", str(_HOME), str(_HERE / "PulsarTest.java"),
            timeout_s=120)  # fmt: skip
        run("jar", "cf", str(_HOME / "launcher.jar"), "-C", str(_HOME), "PulsarTest.class")
        _write_archive()
        shutil.rmtree(maven)
        (_HOME / "ready").touch()


def _write_archive() -> None:
    """One short run, which writes down the classes it has loaded: later starts take half."""
    folder = Path(tempfile.mkdtemp(prefix="pulsar-archive-"))
    archive = _HOME / "classes.jsa"
    archive.unlink(missing_ok=True)
    broker = Broker(folder)
    draft = f"{archive}.draft"
    try:
        server = Server(broker._argv(f"-XX:ArchiveClassesAtExit={draft}"), folder / "log")
        server.ready(broker._serves, timeout_s=200)
        server.stop(patience_s=60)
        os.rename(draft, archive)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _keep(Path(sys.argv[1]))

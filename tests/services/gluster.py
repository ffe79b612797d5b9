"""GlusterFS between two hosts: a server and two mounts of it, in network namespaces of their own.

Each host has its own link, its own client and so its own caches, with GlusterFS's own time-outs
for them: what one writes, the other sees late, as on NFS. Nothing of it touches the network of
the machine. Both hosts have one kernel, so one name and one boot id.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.processes import Server, ServerFailed, run

_PORT = 24007
_SERVER = "10.99.7.1"

_SERVER_VOLUME = """\
volume posix
  type storage/posix
  option directory {folder}
end-volume
volume locks
  type features/locks
  subvolumes posix
end-volume
volume brick
  type performance/io-threads
  subvolumes locks
end-volume
volume server
  type protocol/server
  option transport-type tcp
  option transport.socket.bind-address {address}
  option transport.socket.listen-port {port}
  option auth.addr.brick.allow *
  subvolumes brick
end-volume
"""
_CLIENT_VOLUME = """\
volume client
  type protocol/client
  option transport-type tcp
  option remote-host {address}
  option remote-port {port}
  option remote-subvolume brick
  option ping-timeout 5
end-volume
"""


def lacking() -> str:
    """What two hosts on GlusterFS lack here; empty if nothing."""
    if os.geteuid() != 0:
        return "two hosts on GlusterFS need root"
    for program, package in (
        ("glusterfsd", "glusterfs-server"), ("glusterfs", "glusterfs-client"),
        ("ip", "iproute2"), ("nsenter", "util-linux"),
    ):  # fmt: skip
        if shutil.which(program) is None:
            return f"{program} is missing: apt-get install {package}"
    if not _faketime():
        return "libfaketime is missing: apt-get install libfaketime"
    if not os.path.exists("/dev/fuse"):
        return "there is no /dev/fuse"
    probe = f"mz-probe-{os.getpid()}"
    try:
        run("ip", "netns", "add", probe)
    except ServerFailed as error:
        return f"no network namespaces: {error}"
    run("ip", "netns", "delete", probe)
    return ""


def _faketime() -> str:
    """The library that makes a clock wrong; empty if it is not installed."""
    return next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), "")


class Host:
    """A network namespace with a mount."""

    def __init__(self, name: str, server: str, number: int, mount: Path, clock: str) -> None:
        self.name = name
        self.mount = mount
        self._server = server
        self._number = number
        # Not through the program `faketime`, which would be a parent with another pid.
        self._clock = ("env", f"LD_PRELOAD={_faketime()}", f"FAKETIME={clock}") if clock else ()

    def command(self, argv: Sequence[str]) -> list[str]:
        """`argv`, run here, by this host's clock. It keeps its pid."""
        return ["nsenter", f"--net=/run/netns/{self.name}", "--", *self._clock, *argv]

    def start(self, argv: Sequence[str], **more: Any) -> subprocess.Popen[bytes]:
        """A process here."""
        return subprocess.Popen(self.command(argv), stdin=subprocess.DEVNULL, **more)

    def cut(self) -> None:
        """Pull the plug. Whoever uses the mount waits, until the client finds out after 5 s."""
        run("ip", "-n", self._server, "link", "set", "dev", f"port{self._number}", "down")

    def mend(self) -> None:
        """And put it in again; the client is back within a few seconds."""
        run("ip", "-n", self._server, "link", "set", "dev", f"port{self._number}", "up")


class TwoHosts:
    """The server, and the two hosts `h1` and `h2`. `clocks` are offsets as of libfaketime (`+1h`)
    of their wall clocks, for the clients and for all that is started there."""

    def __init__(self, folder: Path, *, clocks: tuple[str, str] = ("", "")) -> None:
        self._folder = folder
        self._prefix = f"mz{os.getpid()}"
        self._server_name = f"{self._prefix}s"
        self._namespaces: list[str] = []
        self._servers: list[Server] = []
        self._mounts: list[Path] = []
        self._devices: list[int] = []
        self.hosts: list[Host] = []
        try:
            self._build(clocks)
        except BaseException:  # Ctrl-C as well
            self.close()
            raise

    @property
    def h1(self) -> Host:
        """The first."""
        return self.hosts[0]

    @property
    def h2(self) -> Host:
        """The second."""
        return self.hosts[1]

    def _build(self, clocks: tuple[str, str]) -> None:
        self._folder.mkdir()
        server = self._namespace(self._server_name)
        run("ip", "-n", server, "link", "add", "name", "bridge0", "type", "bridge")
        run("ip", "-n", server, "address", "add", f"{_SERVER}/24", "dev", "bridge0")
        run("ip", "-n", server, "link", "set", "dev", "bridge0", "up")
        self._serve(server)
        for number in (1, 2):
            self.hosts.append(self._host(server, number, clocks[number - 1]))

    def _namespace(self, name: str) -> str:
        # One of that name is a dead test's: its process had our number.
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
        run("ip", "netns", "add", name)
        self._namespaces.append(name)
        run("ip", "-n", name, "link", "set", "lo", "up")
        return name

    def _start(self, name: str, argv: Sequence[str]) -> Server:
        server = Server(argv, self._folder / f"{name}.out")
        self._servers.append(server)
        return server

    def _serve(self, namespace: str) -> None:
        brick = self._folder / "brick"
        brick.mkdir()
        volume = self._folder / "server.vol"
        volume.write_text(_SERVER_VOLUME.format(folder=brick, address=_SERVER, port=_PORT))
        self._start("server", [
            "nsenter", f"--net=/run/netns/{namespace}", "--",
            "glusterfsd", "-N", "-f", str(volume), "-l", str(self._folder / "server.log"),
        ]).ready(lambda: _listens(namespace))  # fmt: skip

    def _host(self, server: str, number: int, clock: str) -> Host:
        name = self._namespace(f"{self._prefix}h{number}")
        run("ip", "link", "add", "name", f"port{number}", "netns", server, "type", "veth",
            "peer", "name", "uplink", "netns", name)  # fmt: skip
        run("ip", "-n", server, "link", "set", "dev", f"port{number}", "master", "bridge0", "up")
        run("ip", "-n", name, "address", "add", f"10.99.7.{10 + number}/24", "dev", "uplink")
        run("ip", "-n", name, "link", "set", "dev", "uplink", "up")
        volume = self._folder / f"h{number}.vol"
        volume.write_text(_CLIENT_VOLUME.format(address=_SERVER, port=_PORT))
        mount = self._folder / f"h{number}"
        mount.mkdir()
        host = Host(name, server, number, mount, clock)
        before = mount.stat().st_dev
        self._mounts.append(mount)
        self._start(f"h{number}", host.command([
            "glusterfs", "-N", "-f", str(volume), "-l", str(self._folder / f"h{number}.log"),
            str(mount),
        ])).ready(lambda: _mounted(mount, before))  # fmt: skip
        self._devices.append(mount.stat().st_dev)
        return host

    def close(self) -> None:
        """Undo all of it, whatever state it is in."""
        # What still waits for a mount gets an error now, instead of waiting for ever.
        for device in self._devices:
            with contextlib.suppress(OSError):
                Path(f"/sys/fs/fuse/connections/{os.minor(device)}/abort").write_text("1")
        for mount in self._mounts:
            subprocess.run(["umount", "-l", str(mount)], capture_output=True, check=False)
        for server in reversed(self._servers):
            server.stop()
        for name in reversed(self._namespaces):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def _listens(namespace: str) -> bool:
    """Whether the server's port is open in that namespace."""
    table = run("nsenter", f"--net=/run/netns/{namespace}", "--", "cat", "/proc/self/net/tcp")
    return f":{_PORT:04X} " in table


def _mounted(mount: Path, before: int) -> bool:
    try:
        return mount.stat().st_dev != before
    except OSError:
        return False

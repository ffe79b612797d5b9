"""A queue of each kind: what people can do there, and what can fail."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from services import pubsub, pulsar, redis
from services.processes import ServerFailed
from services.proxy import Proxy

COMMON = frozenset({"feed", "retry", "purge", "purge --dead", "cp here"})
STEERED = frozenset({"pause", "stop"})
KEPT = frozenset({"feed --dedupe", "retry --done"})
LISTED = frozenset({"cp away", "retry ID"})


class Place:
    """One queue. `breaks` and `mends` are called in turns, for each of `faults`."""

    can: frozenset[str]
    """What people can do, as the table of kinds in the README says."""
    faults: tuple[str, ...] = ()
    silences: tuple[str, ...] = ()
    """Faults in which minions can't write their report."""
    counts = True
    """`status` tells what was put, done and purged."""
    keeps = False
    """The queue itself knows what is done, so each has its row of results."""
    whole = True
    """A feed is put whole or not at all."""
    copies = False
    """Where a minion was killed in the wrong moment a param may be there twice."""
    jumps = True
    """Delays are no longer for it where the wall clocks of minions are wrong, or jump."""
    drained: tuple[str, ...] = ()
    """Options of a minion that is to end when there is nothing left."""

    def __init__(self, url: str, env: Mapping[str, str]) -> None:
        self.url = url
        self.env = dict(env)

    def breaks(self, fault: str) -> None:
        """This fails from now on."""
        raise NotImplementedError

    def mends(self, fault: str) -> None:
        """All is well again."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing of it is left."""


class Disk(Place):
    """A queue in a folder, on a small disk of its own where that can be made."""

    keeps = True

    def __init__(self, scheme: str, folder: Path, env: Mapping[str, str]) -> None:
        disk = folder / "disk"
        disk.mkdir()
        mount = shutil.which("mount")
        self._mounted = False
        if mount is not None and os.geteuid() == 0:
            argv = [mount, "-t", "tmpfs", "-o", "size=16m", "minionize-test", str(disk)]
            self._mounted = subprocess.run(argv, check=False, capture_output=True).returncode == 0
        self._ballast = disk / "ballast"
        self.faults = ("disk full",) if self._mounted else ()
        self._disk = disk
        super().__init__(f"{scheme}:{disk}/q", env)

    def breaks(self, fault: str) -> None:
        with open(self._ballast, "ab", buffering=0) as ballast:
            for size in (1 << 20, 4096, 1):
                with contextlib.suppress(OSError):
                    while ballast.write(bytes(size)):
                        continue

    def mends(self, fault: str) -> None:
        self._ballast.unlink(missing_ok=True)

    def close(self) -> None:
        if self._mounted:
            subprocess.run(["umount", "-l", str(self._disk)], check=True)


class File(Disk):
    """A queue in a folder."""

    can = COMMON | STEERED | KEPT | LISTED
    silences = ("disk full",)

    def __init__(self, folder: Path) -> None:
        super().__init__("file", folder, {})


class Execo(Disk):
    """A sweep of execo. Its report is elsewhere, on a disk that is never full."""

    can = COMMON | STEERED | KEPT | LISTED

    def __init__(self, folder: Path) -> None:
        super().__init__("execo", folder, _reports(folder))


class Redis(Place):
    """A stream, on a server that writes all it is told to its disk."""

    can = COMMON | STEERED | LISTED
    faults = ("server gone", "server full")

    def __init__(self, folder: Path) -> None:
        options = ("--appendonly", "yes", "--appendfsync", "always")
        self._server = redis.RedisServer(folder / "server", "valkey", *options)
        self._server.start()
        super().__init__(self._server.url("q"), _reports(folder))

    def breaks(self, fault: str) -> None:
        if fault == "server gone":
            self._server.kill()
        else:
            self._server.client().config_set("maxmemory", "1kb")

    def mends(self, fault: str) -> None:
        if fault == "server gone":
            self._server.start()
        else:
            self._server.client().config_set("maxmemory", "0")

    def close(self) -> None:
        self._server.kill()


class Pulsar(Place):
    """A topic, on a broker that can be killed."""

    can = COMMON | STEERED
    faults = ("server gone",)
    counts = whole = jumps = False
    copies = True

    def __init__(self, folder: Path) -> None:
        self._broker = pulsar.Broker(folder / "broker")
        self._broker.start()
        url = f"{self._broker.url}/public/default/q?admin={self._broker.admin}"
        super().__init__(url, _reports(folder))

    def breaks(self, fault: str) -> None:
        self._broker.kill()

    def mends(self, fault: str) -> None:
        self._broker.start()

    def close(self) -> None:
        self._broker.stop()


class Pubsub(Place):
    """A topic and a subscription of Google's, whose server keeps all in memory: it never dies,
    and the way to it is cut."""

    can = COMMON
    faults = ("server gone", "server stalls")
    counts = whole = jumps = False
    copies = True
    drained = ("--idle", "15")

    def __init__(self, folder: Path) -> None:
        self._server = pubsub.start(folder)
        self._proxy = Proxy("127.0.0.1", self._server.port)
        name = pubsub.fresh("history")
        super().__init__(
            f"pubsub://tests/{name}?subscription={name}-sub",
            {"PUBSUB_EMULATOR_HOST": f"127.0.0.1:{self._proxy.port}", **_reports(folder)},
        )

    def breaks(self, fault: str) -> None:
        if fault == "server gone":
            self._proxy.cut()
        else:
            self._proxy.stall()

    def mends(self, fault: str) -> None:
        self._proxy.mend()

    def close(self) -> None:
        self._proxy.close()
        self._server.stop()


def _reports(folder: Path) -> dict[str, str]:
    return {"MINION_REPORTER": "json", "REPORTER_JSON_DIRECTORY": str(folder / "report")}


def _no_pubsub() -> str:
    try:
        if pubsub.emulator_jar() is None:
            pubsub.built_fake()
    except ServerFailed as error:
        return str(error)
    return ""


def _no_execo() -> str:
    return "" if importlib.util.find_spec("execo_engine") else "no execo: pip install execo"


KINDS: dict[str, tuple[Callable[[Path], Place], Callable[[], str]]] = {
    "file": (File, str),
    "execo": (Execo, _no_execo),
    "redis": (Redis, lambda: redis.lacking("valkey")),
    "pulsar": (Pulsar, pulsar.lacking),
    "pubsub": (Pubsub, _no_pubsub),
}
"""Each kind, and why it can't be had here."""

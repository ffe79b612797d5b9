"""A folder with a queue, and minions over it that run each param in a container."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import minionize
from minionize.contracts.engine import EngineOptions
from minionize.engines.registry import open_queue
from minionize.events import Event, Kind
from minionize.status.read import Faults, read_events
from minionize.values import State, Stats
from services.account import Account
from services.podman import BASE
from services.processes import until

ROOT = str(Path(minionize.__file__).parent.parent)
MINION = "from minionize.cli.minionize import main; main()"


class Bench:
    """A folder with a queue, minions that run containers, and what is left of those."""

    def __init__(
        self, folder: Path, env: dict[str, str], runtime: str, account: Account | None = None
    ) -> None:
        """`account`: whose minions and containers they are, if not the caller's."""
        self.folder = folder
        self.env = {**env, "PYTHONPATH": ROOT}
        self.runtime = runtime
        self.account = account
        self.minion = [sys.executable, "-c", MINION]
        if account is not None:
            self.env = env
            self.minion = ["minionize"]

    @property
    def uid(self) -> int:
        """Whose files a run writes."""
        return os.geteuid() if self.account is None else self.account.uid

    def put(self, *params: object) -> None:
        queue = open_queue(f"file:{self.folder}/q", EngineOptions())
        queue.put(params)
        queue.close()
        if self.account is not None:
            for path in [self.folder, *self.folder.rglob("*")]:
                self.account.own(path)

    def stats(self) -> Stats:
        queue = open_queue(f"file:{self.folder}/q", EngineOptions())
        try:
            return queue.stats()
        finally:
            queue.close()

    def dead(self) -> dict[object, str]:
        """Dead letters by their param, with their reasons."""
        queue = open_queue(f"file:{self.folder}/q", EngineOptions())
        try:
            entries = list(queue.scan(State.DEAD))
        finally:
            queue.close()
        return {entry.param: entry.failure.reason for entry in entries if entry.failure}

    def events(self, *kinds: Kind) -> list[Event]:
        found = read_events(str(self.folder / "q/report"), Faults())
        return [event for _, event in found if event.kind in kinds]

    def start(self, *args: str) -> subprocess.Popen[str]:
        words = ["-q", "q", "--runtime", self.runtime, "--image", BASE, "--grace", "1"]
        if not any("network" in arg for arg in args):
            words += ["--container-option", "network=none"]
        return subprocess.Popen(
            [*self._as(), *self.minion, *words, *args], cwd=self.folder, env=self.env, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *args: str, status: int = 0) -> str:
        """Its stdout; its stderr is in `said`."""
        minion = self.start(*args)
        out, self.said = minion.communicate(timeout=180)
        assert minion.returncode == status, self.said
        return out

    def containers(self, *filters: str) -> list[str]:
        """What this bench's minions have, running or not."""
        ran = self.ask(
            "ps", "--all", "--format", "{{.Names}}", f"--filter=volume={self.folder}", *filters
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.split()

    def ask(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """The runtime itself, as whoever runs the minions."""
        return subprocess.run(
            [*self._as(), self.runtime, *argv], cwd=self.folder, env=self.env, capture_output=True,
            text=True, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def clients(self, *, whole: bool = False) -> list[int]:
        """Pids of the runtime's commands that run containers of this bench; with `whole` of all
        processes in their groups."""
        mine = f"--volume={self.folder}:{self.folder}"
        found: list[int] = []
        groups: set[int] = set()
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = path.read_bytes().decode(errors="replace").split("\0")
                if mine in words and os.path.basename(words[0]) == os.path.basename(self.runtime):
                    found.append(int(path.parent.name))
                    groups.add(os.getpgid(found[-1]))
        return [pid for pid in _processes() if _group(pid) in groups] if whole else found

    def _as(self) -> list[str]:
        return [] if self.account is None else self.account.words

    def wait_for_lines(self, name: str, count: int = 1) -> None:
        path = self.folder / name
        until(lambda: path.exists() and len(path.read_text().split()) >= count, f"{name}: {count}")


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _group(pid: int) -> int:
    """Its process group; 0 if it is gone."""
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0

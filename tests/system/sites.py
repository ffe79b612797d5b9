"""Clusters for tests of launches: a scheduler at work, and a queue that its nodes see."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from services.oar import Oar
from services.processes import ServerFailed
from services.slurm import Slurm

from minionize.contracts.engine import EngineOptions
from minionize.engines.registry import open_queue
from minionize.events import Event
from minionize.status.read import Faults, read_events
from minionize.values import State, Stats

ROOT = Path(__file__).parents[2]
MINION = [sys.executable, "-c", "from minionize.cli.minion import main; main()"]

S = TypeVar("S")


@contextmanager
def at_work(
    server: AbstractContextManager[S], lacking: str, needs_server: Callable[[str], NoReturn]
) -> Iterator[S]:
    """The server; the test is skipped, or fails, where that is `lacking` something."""
    if lacking:
        needs_server(lacking)
    try:
        with server as working:
            yield working
    except ServerFailed as error:
        needs_server(str(error))


class Site(ABC):
    """What all have in common: the queue, as a person sees it, and what is said of launches."""

    def __init__(self, folder: Path, queue: Path) -> None:
        self.folder = folder
        self.queue = queue

    @abstractmethod
    def minion(self, *args: str, status: int = 0) -> str:
        """Run `minion ARGS`, on this queue; what it printed, of what must end with `status`."""

    def stats(self) -> Stats:
        queue = open_queue(f"file:{self.queue}", EngineOptions())
        try:
            return queue.stats()
        finally:
            queue.close()

    def attempts(self) -> set[tuple[int, int]]:
        """Attempt and crashes of all that waits."""
        queue = open_queue(f"file:{self.queue}", EngineOptions())
        try:
            return {(entry.attempt, entry.crashes) for entry in queue.scan(State.WAITING)}
        finally:
            queue.close()

    def events(self) -> list[Event]:
        return [event for _, event in read_events(self.queue / "report", Faults())]

    def logs(self) -> list[Path]:
        return sorted(self.queue.glob("launches/logs/*"))

    def logged(self) -> list[str]:
        """The end of each minion's output, for a failure."""
        return [f"{path.name}: {path.read_text()[-500:]}" for path in self.logs()]

    def jobs(self, id: str) -> dict[str, str]:
        """The launch's jobs by id, and their states, as `minion jobs` tells them."""
        return {job["id"]: job["state"] for job in self.details(id)}

    def details(self, id: str) -> list[dict[str, Any]]:
        """The launch's jobs, with all that `minion jobs` tells of them."""
        found: list[dict[str, Any]] = json.loads(self.minion("jobs", id, "--json"))["jobs"]
        return found


class SlurmSite(Site):
    """Slurm, and a queue beside it."""

    def __init__(self, slurm: Slurm, folder: Path) -> None:
        super().__init__(folder, folder / "q")
        self.slurm = slurm

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, **self.slurm.env, "PYTHONPATH": str(ROOT)}

    def minion(self, *args: str, status: int = 0) -> str:
        """Of what must fail, what it wrote to stderr."""
        ran = subprocess.run(
            [*MINION, *args, "-q", "q"] if "--" not in args else [*MINION, *args], cwd=self.folder,
            env=self.env, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=180,
            check=False,
        )  # fmt: skip
        assert ran.returncode == status, (ran.returncode, ran.stdout, ran.stderr)
        assert "Traceback" not in ran.stderr
        return ran.stdout if not status else ran.stderr

    def launch(self, *args: str, command: Sequence[str], status: int = 0) -> str:
        return self.minion("launch", "slurm", "-q", "q", *args, "--", *command, status=status)

    def feed(self, count: int) -> None:
        (self.folder / "params").write_text("".join(f"{number}\n" for number in range(count)))
        self.minion("feed", "params")

    def told(self) -> str:
        """For a failure: all that is known."""
        return f"{self.slurm.states()} {self.stats()} {self.logged()}"


class OarSite(Site):
    """OAR, and a user with a queue at home, in a folder with a blank in its name."""

    def __init__(self, oar: Oar, name: str = "my scan") -> None:
        self.oar = oar
        folder = oar.account.home / name
        super().__init__(folder, folder / "minion-queue")
        oar.account.ok("mkdir", str(folder))

    def ok(self, *argv: str) -> str:
        return self.oar.account.ok(*argv, cwd=self.folder)

    def minion(self, *args: str, status: int = 0) -> str:
        ran = self.oar.account.run("minion", *args, cwd=self.folder)
        assert ran.status == status, ran
        return ran.out

    def launch(self, *args: str) -> str:
        minionize = f"{self.oar.account.home}/bin/minionize"
        return self.minion("launch", "oar", "--minionize", minionize, *args)

    def feed(self, count: int) -> None:
        self.minion("feed", "--grid", f"n=0:{count}")

    def told(self) -> str:
        """For a failure: all that is known."""
        keys = ("state", "exit_code", "resubmit_job_id", "message")
        jobs = {id: {key: job.get(key) for key in keys} for id, job in self.oar.jobs().items()}
        return f"{jobs} {self.stats()} {self.logged()}"

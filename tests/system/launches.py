"""`minion` in a folder with a queue, and launches on this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from minionize.contracts.engine import EngineOptions
from minionize.engines.registry import open_queue
from minionize.values import Stats

ROOT = Path(__file__).parents[2]


MINION = [sys.executable, "-c", "from minionize.cli.minion import main; main()"]


SLEEPING = ("sh", "-c", "echo began; sleep 60")


def environment(**more: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MINION")}
    return {**clean, "PYTHONPATH": str(ROOT), **more}


def minion(folder: Path, *args: str, status: int = 0, **env: str) -> tuple[str, str]:
    """Run `minion ARGS` in `folder`; (stdout, stderr) of what must end with `status`."""
    ran = subprocess.run(  # noqa: PLW1510
        [*MINION, *args], cwd=folder, env=environment(**env), capture_output=True, text=True,
        stdin=subprocess.DEVNULL, timeout=60,
    )  # fmt: skip
    assert ran.returncode == status, (ran.returncode, ran.stdout, ran.stderr)
    assert "Traceback" not in ran.stderr
    return ran.stdout, ran.stderr


def filled(folder: Path) -> Path:
    """The folder, with 20 params in its queue."""
    (folder / "params").write_text("".join(f"{number}\n" for number in range(20)))
    minion(folder, "feed", "params")
    return folder


def counts(folder: Path) -> Stats:
    queue = open_queue(f"file:{folder}/minion-queue", EngineOptions())
    try:
        return queue.stats()
    finally:
        queue.close()


@contextlib.contextmanager
def launched(folder: Path, *args: str) -> Iterator[subprocess.Popen[str]]:
    """`minion launch local ARGS`, running; killed if it still does at the end."""
    with subprocess.Popen(
        [*MINION, "launch", "local", *args], cwd=folder, env=environment(), text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

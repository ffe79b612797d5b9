"""The disk of the report is full: a run whose output, or result, only the report keeps is not done
before it is there.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from services import small_disk
from services.command_line import command, environment, fill, runner
from services.processes import until

from minionize.contracts.engine import EngineOptions
from minionize.engines.registry import open_queue
from minionize.values import State, Stats

PARAMS = (1, 2, 3, 4, 5, 6)
WAITS = "; trying again for "
MODULE = """
def once(x):
    return {"value": x * 1000, "rest": "%s" % x * 3000}

def large(x):
    return "%s" % x * 300_000
"""
ASKED_FOR = {
    "--capture": (["--capture", "sh", "-c", 'echo "$1"000; head -c 3000 /dev/zero | tr "\\0" "$1"',
                   "x"], "_stdout", 3005),
    "result": (["--call", "job:once"], "rest", 3000),
    "large result": (["--call", "job:large"], "result", 300_000),
}  # fmt: skip
PRINTED = (["echo"], "_stdout", 2)


@pytest.fixture(params=["tmpfs", "quota"])
def disk(
    request: pytest.FixtureRequest, tmp_path: Path, needs_server: Callable[[str], NoReturn]
) -> Iterator[Path]:
    with small_disk.small_disk(request.param, tmp_path, needs_server) as folder:
        small_disk.fill(folder, request.param, 0)
        yield folder


@pytest.fixture(params=["--capture", "result"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Minion:
    """A minion whose report is on the full disk, and its queue, which is elsewhere."""

    def __init__(self, folder: Path, disk: Path, kind: str) -> None:
        (folder / "job.py").write_text(MODULE)
        self.folder = folder
        self.url = f"file:{folder / 'q'}"
        self.report = str(disk / "report")
        self.said = folder / "said"
        fill(self.url, *PARAMS)
        self._args, self._column, self._size = ASKED_FOR.get(kind, PRINTED)

    def start(self, *more: str) -> subprocess.Popen[bytes]:
        args = ("-q", self.url, "--report-dir", self.report, "-j", "2", *more, *self._args)
        with open(self.said, "ab") as said:
            return subprocess.Popen(
                command(*args),
                cwd=self.folder,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )

    def waits(self) -> bool:
        """Whether it said so; a large result is refused while its run goes on."""
        said = self.said.read_text()
        return WAITS in said or "no room" in said

    def stats(self) -> Stats:
        queue = open_queue(self.url, EngineOptions(minion_id="looks"))
        try:
            for state in (State.WAITING, State.DELAYED, State.RUNNING):
                assert all(entry.attempt == 1 for entry in queue.scan(state))
            return queue.stats()
        finally:
            queue.close()

    def check_all_kept(self) -> None:
        run = runner(self.folder)
        ran = run(
            *("results", "-q", self.url, "--output", "--format", "jsonl"),
            module="minion",
            REPORTER_JSON_DIRECTORY=self.report,
        )
        assert ran.returncode == 0, ran.stderr
        rows = [json.loads(line) for line in ran.stdout.splitlines()]
        assert len(rows) == len(PARAMS), ran.stdout[:300]
        for row in rows:
            assert len(row[self._column]) == self._size, sorted(row)


@pytest.mark.parametrize("kind", ASKED_FOR)
def test_it_waits_until_there_is_room(tmp_path: Path, disk: Path, kind: str) -> None:
    minion = Minion(tmp_path, disk, kind)
    process = minion.start()
    until(minion.waits, minion.said.read_text)
    assert minion.stats().done == 0
    small_disk.empty(disk)
    assert process.wait(60) == 0, minion.said.read_text()
    stats = minion.stats()
    assert (stats.done, stats.dead) == (len(PARAMS), 0)
    assert f"{len(PARAMS)} done" in minion.said.read_text()
    minion.check_all_kept()


def test_one_that_waits_too_long_gives_back_all(tmp_path: Path, disk: Path, kind: str) -> None:
    minion = Minion(tmp_path, disk, kind)
    assert minion.start("--reconnect", "1").wait(60) == 69, minion.said.read_text()
    assert "Traceback" not in minion.said.read_text()
    stats = minion.stats()
    assert (stats.done, stats.dead, stats.running) == (0, 0, 0)
    small_disk.empty(disk)
    assert minion.start().wait(60) == 0
    minion.check_all_kept()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_one_that_ends_meanwhile_loses_nothing(
    tmp_path: Path, disk: Path, kind: str, end: signal.Signals
) -> None:
    minion = Minion(tmp_path, disk, kind)
    process = minion.start("--grace", "0.5")
    until(minion.waits, minion.said.read_text)
    os.kill(process.pid, end)
    assert process.wait(60) == (75 if end is signal.SIGTERM else -end), minion.said.read_text()
    assert minion.stats().done == 0
    small_disk.empty(disk)
    assert minion.start().wait(60) == 0
    minion.check_all_kept()


def test_programs_whose_output_was_not_asked_for_go_on(tmp_path: Path, disk: Path) -> None:
    """What they print is on the terminal; the report keeps its end where it can."""
    minion = Minion(tmp_path, disk, "printed")
    assert minion.start().wait(60) == 0, minion.said.read_text()
    assert minion.stats().done == len(PARAMS)

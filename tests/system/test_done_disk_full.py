"""Disks that are full, nearly full, or over quota: no param is done whose output is not whole, and
none is charged for the disk.

The programs: one in C that does not look whether printf works, one of the shell, one in Python.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from services import small_disk
from services.command_line import Ran, fill, runner

from minionize.contracts.engine import EngineOptions
from minionize.engines.registry import open_queue
from minionize.values import State, Stats

PARAMS = ("1", "2", "3")
LINES = 12_000
C = """
#include <stdio.h>
int main(int argc, char **argv) {
    for (int i = 0; i < %d; i++) printf("%%d %%s\\n", i, argv[1]);
    return 0;
}
"""
SHELL = f'seq -f "%.0f $1" 0 {LINES - 1}'
PYTHON = f"import sys\nfor i in range({LINES}): print(i, sys.argv[1])"


def whole(param: str) -> str:
    return "".join(f"{n} {param}\n" for n in range(LINES))


@pytest.fixture(scope="module")
def in_c(tmp_path_factory: pytest.TempPathFactory) -> str:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    source = tmp_path_factory.mktemp("c") / "print.c"
    source.write_text(C % LINES)
    program = source.with_suffix("")
    subprocess.run([compiler, "-o", str(program), str(source)], check=True)
    return str(program)


@pytest.fixture
def programs(in_c: str) -> dict[str, list[str]]:
    return {
        "C": [in_c, "{}"],
        "shell": ["sh", "-c", SHELL, "x", "{}"],
        "Python": ["python3", "-c", PYTHON, "{}"],
    }


@pytest.fixture(params=small_disk.KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def disk(tmp_path: Path, kind: str, needs_server: Callable[[str], NoReturn]) -> Iterator[Path]:
    with small_disk.small_disk(kind, tmp_path, needs_server) as folder:
        yield folder


class Place:
    """A queue, and who works on it."""

    def __init__(self, folder: Path, queue: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.url = f"file:{queue}"
        fill(self.url, *PARAMS)

    def run(self, *args: str, **env: str) -> Ran:
        few = ("--max-failures-in-a-row", "2", "--reconnect", "2")
        ran = runner(self.folder)("-q", self.url, *few, *args, **env)
        # A program may be told that the disk is full, and say so in its own way.
        assert "minionize/worker" not in ran.stderr and "please report" not in ran.stderr
        return ran

    def stats(self) -> Stats:
        queue = open_queue(self.url, EngineOptions(minion_id="looks"))
        try:
            return queue.stats()
        finally:
            queue.close()

    def check_uncharged(self, ran: Ran) -> int:
        """No param was charged: how many are done."""
        queue = open_queue(self.url, EngineOptions(minion_id="looks"))
        try:
            stats = queue.stats()
            assert stats.dead == 0, ran.stderr
            for state in (State.WAITING, State.DELAYED, State.RUNNING):
                for entry in queue.scan(state):
                    assert entry.attempt == 1, ran.stderr
            assert stats.done is not None
            return stats.done
        finally:
            queue.close()


@pytest.mark.parametrize("left", [0, 20_000])
@pytest.mark.parametrize("slots", ["1", "2"])
def test_tmpdir(
    tmp_path: Path, disk: Path, kind: str, programs: dict[str, list[str]], left: int, slots: str
) -> None:
    small_disk.fill(disk, kind, left)
    for name, program in programs.items():
        place = Place(tmp_path / name, tmp_path / name / "q")
        ran = place.run("-j", slots, *program, TMPDIR=str(disk))
        # Little output needs no disk at all.
        assert place.check_uncharged(ran) == 3, ran.stderr
        lines = "".join(whole(param) for param in PARAMS).splitlines()
        assert sorted(ran.stdout.splitlines()) == sorted(lines), name


def test_tmpdir_and_much_output(tmp_path: Path, disk: Path, kind: str) -> None:
    small_disk.fill(disk, kind, 0)
    place = Place(tmp_path / "much", tmp_path / "much" / "q")
    # More than is kept in memory, and a while in which that is seen.
    script = "head -c 120M /dev/zero; sleep 1; head -c 30M /dev/zero"
    ran = place.run("-j", "2", "sh", "-c", script, TMPDIR=str(disk))
    assert place.check_uncharged(ran) == 0
    assert "no room for its output in TMPDIR" in ran.stderr


@pytest.mark.parametrize("left", [0, 20_000])
def test_the_disk_of_its_files(
    tmp_path: Path, disk: Path, kind: str, programs: dict[str, list[str]], left: int
) -> None:
    small_disk.fill(disk, kind, left)
    for name, program in programs.items():
        place = Place(tmp_path / name, tmp_path / name / "q")
        target = disk / f"{name}.{{}}"
        ran = place.run("--stdout", str(target), *program)
        done = place.check_uncharged(ran)
        files = {path.name: path.read_text() for path in disk.glob(f"{name}.*")}
        assert len(files) == done, ran.stderr
        for file, text in files.items():
            assert text == whole(file.rpartition(".")[2]), file
        if kind != "inodes" or not left:
            assert done == 0
            assert "no room for its output" in ran.stderr
        assert not list(disk.glob(".*.part"))


def test_the_disk_of_its_files_is_full_for_a_moment(
    tmp_path: Path, needs_server: Callable[[str], NoReturn]
) -> None:
    """Full in the middle of the run, and empty again at its end: nothing can be seen then."""
    with small_disk.small_disk("tmpfs", tmp_path, needs_server) as disk:
        place = Place(tmp_path / "moment", tmp_path / "moment" / "q")
        script = (
            f"touch {disk.parent}/ready; until test -e {tmp_path}/full; do sleep 0.01; done;"
            " head -c 3000000 /dev/zero 2>/dev/null;"
            f" touch {tmp_path}/wrote; until test -e {tmp_path}/again; do sleep 0.01; done;"
            " echo end; exit 0"
        )
        ready = disk.parent / "ready"

        def meanwhile() -> None:
            from services.processes import until

            until(ready.exists)
            small_disk.fill(disk, "tmpfs", 0)
            (tmp_path / "full").touch()
            until((tmp_path / "wrote").exists)
            small_disk.empty(disk)
            (tmp_path / "again").touch()

        other = threading.Thread(target=meanwhile)
        other.start()
        ran = place.run(
            "--max-failures-in-a-row", "1", "--stdout", str(disk / "{}"), "sh", "-c", script
        )
        other.join()
        done = place.check_uncharged(ran)
        files = [path for path in disk.iterdir() if path.is_file()]
        assert done == len(files) == 0, ran.stderr


@pytest.mark.parametrize("left", [0, 20_000])
def test_the_disk_of_the_queue_and_its_report(
    tmp_path: Path, disk: Path, kind: str, programs: dict[str, list[str]], left: int
) -> None:
    for name, program in programs.items():
        place = Place(tmp_path / name, disk / f"q-{name}")
        small_disk.fill(disk, kind, left)
        ran = place.run("--stdout", str(tmp_path / name / "{}"), *program)
        small_disk.empty(disk)
        # What is done but could not be settled is run again.
        assert place.run("--stdout", str(tmp_path / name / "{}"), *program).returncode == 0
        assert place.check_uncharged(ran) == 3
        for param in PARAMS:
            assert (tmp_path / name / param).read_text() == whole(param)

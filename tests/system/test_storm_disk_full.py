"""The disk of the queue is full for a while: a clear line, an end with 69, and once there is
space again nothing is missing."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from storming import NOTE, Field, Process, until

from minionize.values import State

PARAMS = 400


@pytest.fixture
def field(tmp_path: Path, needs_server: Callable[[str], NoReturn]) -> Iterator[Field]:
    """Its queue is on a small disk of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        needs_server("only root can mount a small disk (tmpfs)")
    argv = [mount, "-t", "tmpfs", "-o", "size=4m", "minionize-test", str(disk)]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    if done.returncode:
        needs_server(f"a small disk (tmpfs) can't be mounted: {done.stderr.strip()}")
    field = Field(tmp_path, queue=disk / "q")
    try:
        yield field
    finally:
        field.close()
        subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(field: Field) -> None:
    """Not a byte is left."""
    with open(field.queue.parent / "ballast", "ab", buffering=0) as ballast:
        for size in (1 << 20, 4096, 1):
            with contextlib.suppress(OSError):
                while ballast.write(bytes(size)):
                    continue


def empty(field: Field) -> None:
    (field.queue.parent / "ballast").unlink()


def complaints(text: str) -> list[str]:
    return [line for line in text.splitlines() if "disk is full" in line]


def wait_for_complaint(field: Field, minion: Process) -> None:
    until(lambda: complaints(field.said(minion)), lambda: "it said nothing of the disk")


def test_full_while_minions_run(field: Field) -> None:
    field.put(range(1, PARAMS + 1))
    # What is given back needs room; what is done does not.
    script = f"{NOTE}; test -e calm || exit 75; sleep 0.01"
    args = ("--reconnect", "3", "--lease", "4", "-j", "2")
    minions = [field.script(script, *args) for _ in range(3)]
    until(lambda: field.stats().delayed)
    fill(field)
    for minion in minions:
        assert field.ended(minion) == 69, field.said(minion)
        said = field.said(minion)
        assert "Traceback" not in said
        lines = complaints(said)
        assert 1 <= len(lines) <= 3, said
        assert "free some space" in lines[-1], said
    late = field.script(script, *args)
    assert field.ended(late) == 69, field.said(late)
    assert complaints(field.said(late)), field.said(late)
    assert "Traceback" not in field.said(late)

    empty(field)
    (field.folder / "calm").touch()
    minions = [field.script(script, *args) for _ in range(2)]
    for minion in minions:
        assert field.ended(minion) == 0, field.said(minion)
    field.assert_all_done(PARAMS)
    assert {event.attempt for event in field.events()} <= {0, 1}


def test_full_for_less_than_the_patience_costs_nothing(field: Field) -> None:
    field.put(range(1, PARAMS + 1))
    script = f"{NOTE}; test -e calm || exit 75"
    minions = [field.script(script, "--lease", "4") for _ in range(2)]
    until(lambda: field.stats().delayed)
    fill(field)
    for minion in minions:
        wait_for_complaint(field, minion)
        assert minion.poll() is None
    (field.folder / "calm").touch()
    empty(field)
    for minion in minions:
        assert field.ended(minion) == 0, field.said(minion)
        assert len(complaints(field.said(minion))) <= 2, field.said(minion)
    field.assert_all_done(PARAMS)


def test_what_is_done_is_settled_on_a_full_disk(field: Field) -> None:
    count = 5
    field.put(range(1, count + 1))
    # Too long for spares, which would have to be given back after a while.
    minion = field.script(f"{NOTE}; until test -e calm; do sleep 0.1; done; sleep 0.6")
    until(field.runs)
    fill(field)
    (field.folder / "calm").touch()
    assert field.ended(minion) == 0, field.said(minion)
    assert "Traceback" not in field.said(minion)
    field.assert_all_done(count)
    assert len(field.runs()) == count, "acked, and run again"


def test_full_while_feeding_nothing_is_half_fed(field: Field) -> None:
    field.put(range(1, 11))
    lines = field.folder / "lines"
    lines.write_text("".join(f"{number} {'x' * 100}\n" for number in range(60_000)))
    feed = ("feed", "-q", str(field.queue), str(lines))
    feeder = field.command(*feed)
    assert field.ended(feeder) == 69, field.said(feeder)
    said = field.said(feeder)
    assert "Traceback" not in said
    assert len(complaints(said)) == 1, said
    stats = field.stats()
    assert (stats.put, stats.waiting, stats.feeders) == (10, 10, 0), stats
    left = sum(path.stat().st_size for path in field.queue.rglob("*") if path.is_file())
    assert left < 1 << 20, "what the feeder drafted is still there"

    lines.write_text("".join(f"{number}\n" for number in range(11, 51)))
    again = field.command("feed", "-q", str(field.queue), "--typed", str(lines))
    assert field.ended(again) == 0, field.said(again)
    assert field.ended(field.script(NOTE)) == 0
    field.assert_all_done(50)
    assert [entry.param for entry in field.entries(State.WAITING)] == []

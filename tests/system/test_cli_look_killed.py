"""A minion killed with -9 while it reports: all that was flushed is read, in order, once."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minionize.events import Kind
from minionize.status.read import Faults, read_events, read_rolls

LIMIT_S = 180.0
# Parts of 100 KB, so that kills hit rotation and packing as well.
WRITER = """
import sys
from minionize.events import Event, Kind
from minionize.reporters.json_lines import JsonReporter
from minionize.reporters.record import Source
from minionize.values import SystemClock

reporter = JsonReporter(sys.argv[1], Source("m-1-a", "h", 1, 1, "true", 0.0),
                        clock=SystemClock(), warn=sys.exit, rotate_bytes=100_000)
number = 0
while True:
    reporter.report([Event(Kind.ACK, 1.0, str(number + n), 1, 0, 0.5, 0, 0.25, 2048)
                     for n in range(1, 101)])
    number += 100
    reporter.beat(1)
    if number == 5000:
        print("ready", flush=True)
"""


@pytest.mark.parametrize("turn", range(6))
def test_killed_at_any_moment(tmp_path: Path, turn: int) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "report")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
    )
    assert writer.stdout is not None
    try:
        assert writer.stdout.readline() == b"ready\n"
        time.sleep(random.Random(turn).uniform(0, 0.1))
    finally:
        writer.kill()
        writer.wait(LIMIT_S)
        writer.stdout.close()
    faults = Faults()
    events = [event for _, event in read_events(tmp_path / "report", faults)]
    assert [event.id for event in events] == [str(n) for n in range(1, len(events) + 1)]
    assert len(events) >= 5000
    assert {event.kind for event in events} == {Kind.ACK}
    assert (faults.broken, faults.files) == (0, {})
    (roll,) = read_rolls(tmp_path / "report", faults)
    # It may lag behind by the beat that was cut short.
    assert len(events) - 100 <= roll.roll.done <= len(events)
    assert roll.ended is None
    assert faults.files == {}

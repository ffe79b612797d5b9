"""Minions of a file queue, killed and stopped at random: nothing is lost, no innocent pays."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from minionize.contracts.engine import EngineOptions
from minionize.engines.file import open_engine, open_queue
from minionize.values import State

PARAMS = 4000
WINDOW = 40
LEASE_S = 2.0

MINION = """
import os, sys, time
from minionize.contracts.engine import EngineOptions
from minionize.engines.file import open_engine
from minionize.errors import EngineUnavailable

folder, log, name, window, lease_s = sys.argv[1:]
window, lease_s = int(window), float(lease_s)
out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def patiently(act, *given, **options):
    # On a busy machine others have the lock for longer than an engine waits: a worker asks again.
    until = time.monotonic() + 60
    while True:
        try:
            return act(*given, **options)
        except EngineUnavailable:
            if time.monotonic() > until:
                raise


engine = open_engine(folder, EngineOptions(minion_id=name, lease_s=lease_s))
extended = 0.0
while not patiently(engine.stats).drained:
    held = list(patiently(engine.lease, window, 0.05))
    while held:
        now = time.monotonic()
        if now - extended > lease_s / 8:
            extended = now
            lost = {lease.token for lease in patiently(engine.extend, held)}
            held = [lease for lease in held if lease.token not in lost]
            continue
        lease = held[0]
        if lease.suspect:
            os.write(out, f"mark {lease.id} {lease.crashes} {lease.attempt}\\n".encode())
            patiently(engine.started, [lease])
        os.write(out, f"run {lease.id} {lease.crashes} {lease.attempt}\\n".encode())
        time.sleep(0.001)
        if len(held) % 16 == 5:
            patiently(engine.nack, [lease], charge=False)
        else:
            patiently(engine.ack, [lease])
        del held[0]
patiently(engine.close)
"""


class Storm:
    """A few minions at a time, each started anew when it was killed."""

    def __init__(self, tmp_path: Path, count: int) -> None:
        self.folder = tmp_path / "queue"
        self.logs = tmp_path / "logs"
        self.logs.mkdir()
        self.errors = tmp_path / "errors"
        self.kills = 0
        self.started = 0
        self.minions: list[subprocess.Popen[bytes]] = []
        for _ in range(count):
            self.start()

    def start(self) -> None:
        self.started += 1
        name = f"m{self.started}"
        with open(self.errors, "ab") as errors:
            self.minions.append(
                subprocess.Popen(
                    [
                        sys.executable,
                        "-c",
                        MINION,
                        str(self.folder),
                        str(self.logs / name),
                        name,
                        str(WINDOW),
                        str(LEASE_S),
                    ],
                    stderr=errors,
                )
            )

    def kill(self, minion: subprocess.Popen[bytes]) -> None:
        minion.kill()
        minion.wait()
        self.kills += 1
        self.minions.remove(minion)

    def lines(self) -> list[tuple[str, int, int, int]]:
        """All that minions wrote: what, id, crashes, attempt."""
        found = []
        for log in self.logs.iterdir():
            for line in log.read_text().splitlines():
                what, number, crashes, attempt = line.split()
                found.append((what, int(number), int(crashes), int(attempt)))
        return found

    def stop(self) -> None:
        for minion in self.minions:
            minion.kill()
            minion.wait()


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_lost_and_no_innocent_pays(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    options = EngineOptions(minion_id="feeder", lease_s=LEASE_S)
    queue = open_queue(str(tmp_path / "queue"), options)
    queue.put(range(PARAMS))
    storm = Storm(tmp_path, 4)
    asleep: dict[int, float] = {}
    try:
        until = time.monotonic() + 180
        while storm.minions:
            assert time.monotonic() < until, queue.stats()
            time.sleep(chance.uniform(0.02, 0.3))
            for minion in list(storm.minions):
                if minion.poll() is not None:
                    assert minion.returncode == 0, storm.errors.read_text()
                    storm.minions.remove(minion)
            for pid, since in list(asleep.items()):
                if time.monotonic() - since > 1.7 * LEASE_S:
                    os.kill(pid, signal.SIGCONT)
                    del asleep[pid]
            awake = [minion for minion in storm.minions if minion.pid not in asleep]
            if not awake or queue.stats().drained:
                continue
            victim = chance.choice(awake)
            if storm.kills < 25:
                storm.kill(victim)
                storm.start()
            elif storm.kills < 28 and len(awake) > 1:
                storm.kills += 1
                victim.send_signal(signal.SIGSTOP)
                asleep[victim.pid] = time.monotonic()
    finally:
        storm.stop()
    stats = queue.stats()
    assert stats.drained, stats
    assert (stats.put, stats.done, stats.dead) == (PARAMS, PARAMS, 0)
    lines = storm.lines()
    runs = Counter(number for what, number, _, _ in lines if what == "run")
    assert set(runs) == set(range(1, PARAMS + 1)), "lost"
    given_back = PARAMS // 8
    # What a killed minion held, and what it had acked since its last fold: one window.
    assert sum(runs.values()) - PARAMS <= storm.kills * WINDOW + given_back
    marked = {number for what, number, _, _ in lines if what == "mark"}
    charged = {number for _, number, crashes, _ in lines if crashes}
    assert charged <= marked, "charged for a crash that they were not running in"
    assert {attempt for _, _, _, attempt in lines} == {1}
    assert len(charged) <= storm.kills, "one crash charges one running param"


def test_a_poison_dies_and_its_neighbours_live(tmp_path: Path) -> None:
    folder = str(tmp_path / "queue")
    queue = open_queue(folder, EngineOptions(minion_id="feeder", lease_s=LEASE_S))
    queue.put(range(30))
    script = """
import os, signal, sys
from minionize.contracts.engine import EngineOptions
from minionize.engines.file import open_engine
from minionize.values import Failure

engine = open_engine(sys.argv[1], EngineOptions(minion_id=sys.argv[2], lease_s=2.0))
while not engine.stats().drained:
    for lease in engine.lease(10, 0.05):
        if lease.crashes >= 3:
            engine.bury([lease], Failure("crashes"))
            continue
        if lease.suspect:
            engine.started([lease])
        if lease.param == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        engine.ack([lease])
engine.close()
"""
    for number in range(20):
        done = subprocess.run(
            [sys.executable, "-c", script, folder, f"m{number}"], timeout=120, check=False
        )
        if done.returncode == 0:
            break
    assert number == 4, "one crash before it was marked, three after"
    stats = queue.stats()
    assert (stats.done, stats.dead) == (29, 1)
    (dead,) = queue.scan(State.DEAD)
    assert (dead.param, dead.crashes, dead.attempt) == (4, 3, 1)


def test_a_forked_child_does_not_keep_its_parent_alive(tmp_path: Path) -> None:
    folder = str(tmp_path / "queue")
    queue = open_queue(folder, EngineOptions(minion_id="feeder"))
    queue.put(range(3))
    reader, writer = os.pipe()
    script = f"""
import os, signal
from minionize.contracts.engine import EngineOptions
from minionize.engines.file import open_engine
engine = open_engine({folder!r}, EngineOptions(minion_id="parent", lease_s=600))
assert len(engine.lease(3, 0)) == 3
if os.fork() == 0:
    os.read({reader}, 1)
    os._exit(0)
os.kill(os.getpid(), signal.SIGKILL)
"""
    try:
        subprocess.run([sys.executable, "-c", script], pass_fds=[reader], timeout=60, check=False)
        heir = open_engine(folder, EngineOptions(minion_id="heir", lease_s=600))
        found: list[str] = []
        until = time.monotonic() + 180  # far less than the lease of 600 s
        while len(found) < 3 and time.monotonic() < until:
            found += [lease.id for lease in heir.lease(3, 0.2)]
        assert sorted(found) == ["1", "2", "3"]
        heir.close()
    finally:
        os.close(writer)
        os.close(reader)

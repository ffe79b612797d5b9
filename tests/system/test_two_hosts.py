"""Minions on two hosts that share a folder by GlusterFS, each with its own link and caches."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pytest
from services.gluster import Host, TwoHosts, lacking
from services.processes import ServerFailed, until

import minionize
from minionize.contracts.engine import EngineOptions
from minionize.engines.file.calls import Calls
from minionize.engines.registry import open_queue
from minionize.events import Kind
from minionize.status.read import Faults, read_events
from minionize.values import State, Stats

ROOT = str(Path(minionize.__file__).parent.parent)
LEASE_S = 8.0

MINION = """
import os
from minionize.engines.file.minion import FileEngine
from minionize.cli.minionize import main

out = os.open(os.environ["TOLD"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
lease, started = FileEngine.lease, FileEngine.started

def leased(self, limit, wait_s):
    found = lease(self, limit, wait_s)
    for one in found:
        if one.suspect or one.crashes or one.attempt > 1:
            os.write(out, f"leased {one.id} {one.crashes} {one.attempt}\\n".encode())
    return found

def marked(self, leases):
    os.write(out, "".join(f"marked {one.id} 0 0\\n" for one in leases).encode())
    return started(self, leases)

FileEngine.lease, FileEngine.started = leased, marked
main()
"""
"""`minionize`, which tells what the engine thinks of the params it handed out."""

PROGRAM = """
read up _ </proc/uptime; echo "began $HERE $MINION_PARAM_ID $$ $up" >>"$LOG"
sleep "$1"
read up _ </proc/uptime; echo "ended $HERE $MINION_PARAM_ID $$ $up" >>"$LOG"
"""
"""Sleeps for its param. The log is on neither host's mount, and its clock is nobody's."""


class Line(NamedTuple):
    """What a run wrote."""

    what: str
    host: str
    id: int
    pid: int
    at: float
    """Seconds since the machine was started."""


class Minion:
    """One `minionize` process on a host."""

    def __init__(self, process: subprocess.Popen[bytes], errors: Path) -> None:
        self.process = process
        self._errors = errors

    @property
    def said(self) -> str:
        """Its stderr so far."""
        return self._errors.read_text()

    @property
    def running(self) -> bool:
        """Whether it is still there."""
        return self.process.poll() is None

    def kill(self) -> None:
        """Kill -9."""
        self.process.kill()
        self.process.wait()


class Place:
    """A queue that both hosts see, its minions and what was written of them."""

    def __init__(self, two: TwoHosts, folder: Path) -> None:
        self.two = two
        self.folder = folder
        self.log = folder / "log"
        self.told = folder / "told"
        self.log.touch()
        self.told.touch()
        self.processes: list[subprocess.Popen[bytes]] = []
        self.minions: list[Minion] = []
        self.env = {
            **os.environ, "PYTHONPATH": ROOT, "LOG": str(self.log), "TOLD": str(self.told),
        }  # fmt: skip

    def put(self, host: Host, params: Sequence[Any]) -> None:
        queue = open_queue(f"file:{host.mount}/q", EngineOptions(minion_id="filler"))
        queue.put(params)
        queue.close()

    def start(self, host: Host, argv: Sequence[str], **more: Any) -> subprocess.Popen[bytes]:
        env = {**self.env, "HERE": host.name[-2:]}
        process = host.start([sys.executable, *argv], cwd=self.folder, env=env, **more)
        self.processes.append(process)
        return process

    def minion(
        self, host: Host, *options: str, program: Sequence[str] = ("sh", "-c", PROGRAM, "x")
    ) -> Minion:
        errors = self.folder / f"said{len(self.minions)}"
        with errors.open("wb") as said:
            process = self.start(
                host,
                ["-c", MINION, "-q", f"{host.mount}/q", f"--lease={LEASE_S:g}", *options, *program],
                stdout=said,
                stderr=said,
            )
        self.minions.append(Minion(process, errors))
        return self.minions[-1]

    def ended(self, minion: Minion, timeout_s: float = 90.0) -> int:
        """Its exit status. It never shows a traceback."""
        until(lambda: not minion.running, lambda: (minion.said, self.stats()), timeout_s=timeout_s)
        assert "Traceback" not in minion.said
        assert "unexpected" not in minion.said
        return minion.process.returncode

    def stats(self) -> Stats:
        queue = open_queue(f"file:{self.two.h2.mount}/q", EngineOptions(minion_id="looks"))
        try:
            return queue.stats()
        finally:
            queue.close()

    def lines(self, what: str = "") -> list[Line]:
        found = []
        for text in self.log.read_text().splitlines():
            kind, host, number, pid, at = text.split()
            if what in ("", kind):
                found.append(Line(kind, host, int(number), int(pid), float(at)))
        return found

    def says(self) -> list[tuple[str, int, int, int]]:
        """What the engines thought: what, id, crashes, attempt."""
        found = []
        for text in self.told.read_text().splitlines():
            what, number, crashes, attempt = text.split()
            found.append((what, int(number), int(crashes), int(attempt)))
        return found

    def all_is_well(self, count: int) -> None:
        """Nothing is lost, and nobody paid for what did not happen to it."""
        stats = self.stats()
        assert stats.drained, stats
        assert (stats.put, stats.done, stats.dead, stats.minions) == (count, count, 0, 0)
        assert {line.id for line in self.lines("ended")} == set(range(1, count + 1)), "lost"
        faults = Faults()
        events = read_events(self.two.h2.mount / "q" / "report", faults)
        reported = {event.id for _, event in events if event.kind is Kind.ACK}
        assert reported == {str(number) for number in range(1, count + 1)}, "not in the report"
        says = self.says()
        marks = Counter(number for what, number, _, _ in says if what == "marked")
        for what, number, crashes, attempt in says:
            if what == "leased":
                assert crashes <= marks[number], "charged for a crash without having run"
                assert attempt == 1, "charged for a failure of somebody else's"

    def close(self) -> None:
        for process in self.processes:
            process.kill()
        self.two.close()
        for process in self.processes:
            process.communicate(timeout=180)


Making = Callable[..., Place]


@pytest.fixture
def make(tmp_path: Path, needs_server: Callable[[str], NoReturn]) -> Iterator[Making]:
    """Call it, maybe with clocks, for two hosts and a place."""
    reason = lacking()
    if reason:
        needs_server(reason)
    with contextlib.ExitStack() as stack:

        def made(**clocks: Any) -> Place:
            try:
                two = TwoHosts(tmp_path / "gluster", **clocks)
            except ServerFailed as error:
                needs_server(str(error))
            place = Place(two, tmp_path)
            stack.callback(place.close)
            return place

        yield made


def alive(pid: int) -> bool:
    return Calls().is_running(pid)


def test_a_storm_on_both_hosts_loses_nothing(make: Making) -> None:
    chance = random.Random(4)
    place = make()
    count, kills = 700, 0
    place.put(place.two.h1, [0.05] * count)
    working = {place.minion(host, "-j2"): host for host in place.two.hosts for _ in range(2)}
    all_ended = set(range(1, count + 1))
    while working:
        time.sleep(chance.uniform(0.1, 1.0))
        for minion in list(working):
            if not minion.running:
                assert place.ended(minion) == 0, minion.said
                assert {line.id for line in place.lines("ended")} == all_ended, "drained too early"
                del working[minion]
        if kills < 14 and len(working) == 4:
            kills += 1
            victim = chance.choice(list(working))
            victim.kill()
            host = working.pop(victim)
            working[place.minion(host, "-j2")] = host
    assert kills == 14
    place.all_is_well(count)
    # What a killed minion held, and what it had acked since its last fold.
    assert len(place.lines("began")) - count <= kills * 64


def test_on_one_kernel_the_other_host_sees_life_and_death_at_once(make: Making) -> None:
    """Both namespaces have one name and one boot id, but each its own mount."""
    place = make()
    h1, h2 = place.two.hosts
    place.put(h1, [5, 600])
    first = place.minion(h1, "--lease=300", "-j2")
    until(lambda: len(place.lines("began")) == 2, "both run")
    second = place.minion(h2, "--lease=300", "--max-params=1")
    until(lambda: place.stats().done == 1, "the short one ends")
    assert place.stats().minions == 2, "nobody took over who is alive"
    assert len(place.lines("began")) == 2
    (long,) = [line for line in place.lines("began") if line.id == 2]
    first.kill()
    # Far less than the lease.
    until(lambda: place.lines("began")[2:], lambda: second.said, timeout_s=120)
    assert place.lines("began")[2][:3] == ("began", h2.name[-2:], 2)
    until(lambda: not alive(long.pid), "nothing outlives its minion")


HOLDER = """
import sys, time
from minionize.engines.file.calls import Calls
calls = Calls()
fd = calls.open(sys.argv[1], write=True)
while not calls.lock(fd):
    time.sleep(0.001)
print("held", flush=True)
time.sleep(600)
"""


def test_cut_off_for_longer_than_a_lease_with_the_lock_in_hand(make: Making) -> None:
    place = make()
    h1, h2 = place.two.hosts
    count = 34
    # Each minion has two that outlast leases.
    place.put(h1, [20] * 4)
    cut = [place.minion(h1, "-j2", "--reconnect=150")]
    until(lambda: len(place.lines("began")) == 2, "h1 is at work")
    other = [place.minion(h2, "-j2", "--reconnect=150")]
    until(lambda: len(place.lines("began")) == 4, "h2 is at work")
    idle = place.minion(h1, "--until=forever", "--reconnect=10")
    until(lambda: place.stats().minions == 3, lambda: idle.said)
    holder = place.start(h1, ["-c", HOLDER, f"{h1.mount}/q/head"], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    h1.cut()
    there = [line for line in place.lines("began") if line.host == "h1"]
    assert len(there) == 2
    assert not place.lines("ended")
    cut_at = time.monotonic()
    try:
        until(lambda: "somebody has held it" in other[0].said, lambda: other[0].said)
        until(lambda: "trying again for 150 s" in cut[0].said, lambda: cut[0].said)
        # Its leases have expired, and it knows it without being told.
        until(lambda: not any(alive(line.pid) for line in there), "still running")
        assert place.ended(idle) == 69
        assert "tried for" in idle.said
        assert "see --reconnect" in idle.said
        # The server drops the lock, and all is taken over here.
        until(lambda: "reached again" in other[0].said, lambda: other[0].said, timeout_s=180)
        assert time.monotonic() - cut_at > LEASE_S
        place.put(h2, [0.5] * 30)
        until(
            lambda: (
                {line.id for line in there}
                <= {line.id for line in place.lines("began") if line.host == "h2"}
            ),
            place.stats,
            timeout_s=180,
        )
    finally:
        holder.kill()
        h1.mend()
        holder.wait(180)
    until(lambda: "reached again" in cut[0].said, lambda: cut[0].said)
    for minion in cut + other:
        assert place.ended(minion) == 0, minion.said
    assert "lost the lease" in cut[0].said
    # What runs goes on while somebody keeps the lock.
    assert "lost the lease" not in other[0].said
    place.all_is_well(count)
    runs = Counter(line.id for line in place.lines("ended"))
    assert all(runs[line.id] == 1 for line in there), "a run that was given up came to its end"


def test_cut_off_for_less_than_a_lease_nothing_happens(make: Making) -> None:
    """The server forgets all locks of that host, and who lives there stays alive."""
    place = make()
    h1, h2 = place.two.hosts
    place.put(h1, [30, 30])
    cut = [place.minion(h1, "--lease=40") for _ in range(2)]
    until(lambda: len(place.lines("began")) == 2, "both run")
    other = place.minion(h2, "--lease=40")
    until(lambda: place.stats().minions == 3, lambda: other.said)
    h1.cut()
    try:
        until(lambda: all("trying again" in one.said for one in cut), "they noticed")
    finally:
        h1.mend()
    until(lambda: all("reached again" in one.said for one in cut), "they are back")
    for minion in [*cut, other]:
        assert place.ended(minion) == 0, minion.said
        assert "lost" not in minion.said
    place.all_is_well(2)
    assert len(place.lines("began")) == 2


FAILS = 'echo "began $HERE $MINION_PARAM_ID $$ $(cut -d" " -f1 /proc/uptime)" >>"$LOG"; exit 1'


@pytest.mark.parametrize("clocks", [("", "+1h"), ("", "-1h")])
def test_clocks_an_hour_apart_change_nothing(make: Making, clocks: tuple[str, str]) -> None:
    place = make(clocks=clocks)
    place.put(place.two.h1, list(range(16)))
    options = ("--max-failures-in-a-row=0", "-j2")
    minions = [
        place.minion(host, *options, program=("sh", "-c", FAILS)) for host in place.two.hosts
    ]
    # A dead one is taken over as ever.
    victim = place.minion(place.two.h2, *options, program=("sh", "-c", FAILS))
    victim.kill()
    for minion in minions:
        assert place.ended(minion) == 1, minion.said
    stats = place.stats()
    assert (stats.put, stats.dead) == (16, 16)
    for number in range(1, 17):
        at = sorted(line.at for line in place.lines("began") if line.id == number)
        assert len(at) == 3, "three attempts, however the clocks"
        # After 1 s and after 2 s: not at once, and not in an hour. Whose clock is behind knows the
        # queue's time only as of the last write, which may be a while ago on a busy machine.
        assert at[1] - at[0] > 0.2, (number, at)
        assert at[2] - at[1] > 1.0, (number, at)
    queue = open_queue(f"file:{place.two.h2.mount}/q", EngineOptions(minion_id="looks"))
    assert {entry.attempt for entry in queue.scan(State.DEAD)} == {3}
    queue.close()


DOCTOR = "from minionize.cli.minion import main; main()"


def test_the_doctor_finds_both_coherent(make: Making) -> None:
    place = make()
    place.put(place.two.h1, [1])
    doctors = [
        place.start(
            host,
            ["-c", DOCTOR, "doctor", "-q", f"{host.mount}/q", "--hosts=2"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for host in place.two.hosts
    ]
    for one in doctors:
        said = one.communicate(timeout=180)[0].decode()
        assert not re.search("^FAIL", said, re.IGNORECASE | re.MULTILINE), said
        assert "none lost, none stale" in said, said
        assert one.returncode in (0, 1), said


def test_a_param_put_on_one_host_starts_soon_on_the_other(make: Making) -> None:
    place = make()
    h1, h2 = place.two.hosts
    place.put(h1, [0])
    minion = place.minion(h2, "--until=forever")
    until(lambda: place.lines("ended"), lambda: minion.said)
    for number in range(2, 6):
        place.put(h1, [0])
        since = float(Path("/proc/uptime").read_text().split()[0])
        until(lambda number=number: len(place.lines("ended")) == number, lambda: minion.said)  # type: ignore[misc]
        assert place.lines("began")[-1].at - since < 10
    minion.process.send_signal(signal.SIGTERM)
    assert place.ended(minion) in (0, 75)
    queue = open_queue(f"file:{h1.mount}/q", EngineOptions(minion_id="looks"))
    assert queue.stats().done == 5
    queue.close()

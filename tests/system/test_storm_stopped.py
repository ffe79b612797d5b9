"""Minions that stand still, for longer than their lease or with the lock in hand: the others go
on, and whoever wakes up again harms nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from storming import NOTE, Field, Process, is_alive, pid_of, until

from minionize.engines.file.calls import Calls
from minionize.events import Kind
from minionize.values import State

SEED = int(os.environ.get("MINIONIZE_SEED", "0")) or int.from_bytes(os.urandom(3), "big")
LEASE_S = 2.0

# Every 50th runs for longer than the lease: a minion that stands still has one of these, too.
SOME_LONG = f'{NOTE}; echo "$$ $MINION_ID" >>pids; case $1 in *50|*00) exec sleep 3 ;; esac'


@pytest.fixture
def field(tmp_path: Path) -> Iterator[Field]:
    field = Field(tmp_path, SEED)
    yield field
    field.close()


def programs_of(field: Field, minion: Process) -> set[int]:
    """The programs of it that are alive."""
    path = field.folder / "pids"
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return {int(pid) for pid, by in lines if pid_of(by) == minion.pid and is_alive(int(pid))}


def test_minions_that_stood_still_for_longer_than_their_lease_harm_nothing(field: Field) -> None:
    count, stops = 800, 8
    field.put(range(1, count + 1))
    args = ("--lease", str(LEASE_S))

    def one_more() -> None:
        if field.chance.random() < 0.3:
            field.minion("--call", "storm_functions:note", "-j", "2", *args)
        else:
            field.script(SOME_LONG, "-j", "2", *args)

    for _ in range(4):
        one_more()
    asleep: dict[int, tuple[Process, float, set[int]]] = {}
    stopped: set[int] = set()
    # One that ended by itself found the queue drained. (Whoever is stopped may have the lock of
    # the queue, so that asking it would take as long as the sleep.)
    while len(stopped) < stops and all(one.poll() is None for one in field.minions):
        time.sleep(field.chance.uniform(0.05, 0.4))
        for pid, (minion, since, programs) in list(asleep.items()):
            if time.monotonic() - since > 1.7 * LEASE_S:
                # The guard does not sleep with it.
                wait_for_ends(programs)
                minion.send_signal(signal.SIGCONT)
                field.did(f"go on {pid}")
                del asleep[pid]
        begun = {pid_of(minion) for minion in field.lives()}
        awake = [one for one in field.alive() if one.pid in begun and one.pid not in stopped]
        if awake and len(asleep) < 3:
            victim = field.chance.choice(awake)
            victim.send_signal(signal.SIGSTOP)
            field.did(f"stop {victim.pid}")
            stopped.add(victim.pid)
            asleep[victim.pid] = (victim, time.monotonic(), programs_of(field, victim))
            one_more()
    for pid, (minion, _, programs) in asleep.items():
        wait_for_ends(programs)
        minion.send_signal(signal.SIGCONT)
        field.did(f"go on {pid}")
    assert stopped
    for minion in field.minions:
        assert field.ended(minion) == 0, field.about(field.said(minion))
        assert "Traceback" not in field.said(minion), field.about(field.said(minion))
    field.assert_all_done(count)
    field.assert_nobody_charged()
    assert acked(field) == set(map(str, range(1, count + 1)))


def acked(field: Field) -> set[str]:
    return {event.id for event in field.events() if event.kind is Kind.ACK}


def wait_for_ends(programs: set[int]) -> None:
    until(lambda: not any(map(is_alive, programs)), lambda: f"still alive of {programs}")


def wait_until_said(field: Field, minion: Process, words: str) -> None:
    until(lambda: words in field.said(minion), lambda: field.about(field.said(minion)))


def holder_of_the_lock(field: Field, minion: Process) -> None:
    """Stop `minion` while it holds the lock of the head."""
    calls = Calls()
    fd = calls.open(f"{field.queue}/head", write=True)
    try:
        for _ in range(20_000):
            minion.send_signal(signal.SIGSTOP)
            os.waitpid(minion.pid, os.WUNTRACED)
            # Another one that has it gives it back in a moment.
            end = time.monotonic() + 0.5
            while not (free := calls.lock(fd)) and time.monotonic() < end:
                time.sleep(0.01)
            if not free:
                return
            calls.unlock(fd)
            minion.send_signal(signal.SIGCONT)
            time.sleep(field.chance.uniform(0.0, 0.002))
            assert minion.poll() is None, field.said(minion)
    finally:
        calls.close(fd)
    pytest.fail(field.about("never caught it with the lock"))


@pytest.mark.parametrize("then", [signal.SIGCONT, signal.SIGKILL])
def test_who_is_stopped_with_the_lock_holds_up_leasing_and_nothing_else(
    field: Field, then: signal.Signals
) -> None:
    field.put(range(1, 3))
    # Long enough to see both wait for the lock, and to outlast their leases meanwhile.
    slow = f"{NOTE}; until test -e go; do sleep 0.1; done"
    others = [field.script(slow, "--lease", str(LEASE_S)) for _ in range(2)]
    until(lambda: len(field.runs()) == 2, lambda: str(field.runs()))
    # Params given back and taken again: each is a visit or two.
    field.put(range(3, 20_003))
    busy = field.script("exit 75", "--on-exit", "75=later", "-j", "2", "--quiet")
    until(lambda: field.stats().delayed, lambda: str(field.stats()))
    holder_of_the_lock(field, busy)
    field.did("stopped the holder of the lock")
    stopped_at = time.monotonic()
    for other in others:
        wait_until_said(field, other, "has held it for")
    until(lambda: time.monotonic() > stopped_at + 1.5 * LEASE_S)
    assert [other.poll() for other in others] == [None, None]
    # Their programs went on, though nobody could renew a lease for longer than it is.
    (field.folder / "go").touch()
    busy.send_signal(then)
    if then is signal.SIGCONT:
        busy.terminate()
    field.ended(busy)
    for other in others:
        wait_until_said(field, other, "reached again")
        assert "lost the lease" not in field.said(other), field.said(other)
    until(lambda: {"1", "2"} <= acked(field), lambda: field.about("what they held is not done"))
    for other in others:
        other.terminate()
        assert field.ended(other) == 75, field.about(field.said(other))
    assert [number for number, _ in field.runs()].count(1) == 1
    assert [number for number, _ in field.runs()].count(2) == 1
    stats = field.stats()
    assert (stats.put, stats.dead) == (20_002, 0), stats
    seen = field.entries(State.WAITING, State.DELAYED, State.RUNNING)
    assert {entry.attempt for entry in seen} <= {1}

"""Minions killed with -9 at random, hundreds of times: nothing is lost, and no innocent pays.

MINIONIZE_STORM=10 makes the storm ten times as long; MINIONIZE_SEED repeats the choices of one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from storming import NOTE, Field, Process, pid_of

from minionize.values import State
from minionize.worker.pace import AHEAD_S

LONG = int(os.environ.get("MINIONIZE_STORM", "1"))
PARAMS = 100_000 * LONG
KILLS = 250 * LONG
SEED = int(os.environ.get("MINIONIZE_SEED", "0")) or int.from_bytes(os.urandom(3), "big")
SHORTEST_S = 0.0002
"""Of a run of `note`."""


@pytest.fixture
def field(tmp_path: Path) -> Iterator[Field]:
    field = Field(tmp_path, SEED)
    yield field
    field.close()


def functions(field: Field) -> Process:
    return field.minion("--call", "storm_functions:note", "--lease", "4")


def programs(field: Field) -> Process:
    return field.script(NOTE, "--lease", "4", "-j", "2")


def test_minions_killed_hundreds_of_times_lose_nothing(field: Field) -> None:
    field.put(range(1, PARAMS + 1))
    kinds = {kind(field).pid: kind for kind in (functions, functions, functions, programs)}
    of_one_slot: set[int] = set()
    killed: set[int] = set()
    deadline = time.monotonic() + 300 * LONG
    while len(killed) < KILLS:
        assert time.monotonic() < deadline, field.about(str(field.stats()))
        time.sleep(field.chance.uniform(0.0, 0.12))
        if len(field.alive()) < len(kinds) and field.stats().drained:
            break
        victim = field.chance.choice(field.alive())
        field.kill(victim)
        field.did(f"kill -9 {victim.pid}")
        kind = kinds.pop(victim.pid)
        killed.add(victim.pid)
        if kind is functions:
            of_one_slot.add(victim.pid)
        kinds[kind(field).pid] = kind
    assert len(killed) > KILLS // 2, field.about("drained before the storm was over")
    crashed = {entry.id: entry.crashes for entry in field.entries(State.WAITING) if entry.crashes}
    ran_by_killed = {str(number) for number, minion in field.runs() if pid_of(minion) in killed}
    for minion in field.alive():
        assert field.ended(minion) == 0, field.about(field.said(minion))

    field.assert_all_done(PARAMS)
    field.assert_nobody_charged()
    assert set(crashed) <= ran_by_killed, field.about("charged for a crash that it did not run in")
    slots = len(killed) + len(killed - of_one_slot)
    assert sum(crashed.values()) <= slots, field.about(f"charged too often: {crashed}")
    check_repeats(field, killed, of_one_slot)


def check_repeats(field: Field, killed: set[int], of_one_slot: set[int]) -> None:
    """Repeated is only what a killed minion held, or had acked since its last fold."""
    runs = field.runs()
    last_by = dict(runs)
    assert len(last_by) == PARAMS
    for minion, numbers in field.lives().items():
        repeated = [last_by[number] != minion for number in numbers]
        if True not in repeated:
            continue
        pid = pid_of(minion)
        assert pid in killed, field.about(f"{minion} was not killed, and its runs were repeated")
        if pid in of_one_slot:
            # Each lease folds all that was acked: so only its last runs can be open.
            since = len(numbers) - repeated.index(True)
            assert since == sum(repeated), field.about(f"{minion}: {since}, {sum(repeated)} open")
            assert since <= 2 * AHEAD_S / SHORTEST_S, field.about(f"{minion}: {since} open")

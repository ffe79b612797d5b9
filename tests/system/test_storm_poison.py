"""Params that kill -9 their minion each time they run: they end as dead letters, alone."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from storming import NOTE, Field, Process

from minionize.values import State

PARAMS = 60
MAX_CRASHES = 3

PROGRAM = f"""
{NOTE}
case $1 in
POISON) kill -9 $PPID; exec sleep 600 ;;
esac
echo "$1" >>done
"""

FUNCTION = """
import os, signal, time
from storm_functions import note

POISONS = {POISONS}


def lethal(number):
    note(number)
    if number in POISONS:
        os.kill(int(os.environ["MINION_ID"].rsplit("-", 2)[1]), signal.SIGKILL)
        time.sleep(600)
    with open("done", "a") as file:
        file.write(f"{number}\\n")
"""


@pytest.fixture
def field(tmp_path: Path) -> Iterator[Field]:
    field = Field(tmp_path)
    yield field
    field.close()


def minion(field: Field, kind: str, slots: int, poisons: set[int]) -> Process:
    # Suspects beside each other start a beat apart, so it is short.
    args = ("-j", str(slots), "--lease", "2", "--max-crashes", str(MAX_CRASHES))
    if kind == "functions":
        (field.folder / "lethal.py").write_text(FUNCTION.replace("{POISONS}", str(poisons)))
        return field.minion("--call", "lethal:lethal", *args)
    return field.script(PROGRAM.replace("POISON", "|".join(map(str, sorted(poisons)))), *args)


@pytest.mark.parametrize("kind", ["programs", "functions"])
@pytest.mark.parametrize(("slots", "poisons"), [(1, {7, 8, 31}), (4, {1, 2, 30})])
def test_poisons_die_and_innocents_never_pay(
    field: Field, kind: str, slots: int, poisons: set[int]
) -> None:
    field.put(range(1, PARAMS + 1))
    names = set(map(str, poisons))
    most = (MAX_CRASHES + 1) * len(poisons)
    kills = 0
    while (status := field.ended(minion(field, kind, slots, poisons))) == -signal.SIGKILL:
        kills += 1
        field.did(f"killed; {field.stats()}")
        assert kills <= most, field.about(str(field.entries(State.WAITING, State.DEAD)))
        seen = field.entries(State.WAITING, State.DELAYED, State.RUNNING, State.DEAD)
        charged = {entry.id: entry.crashes for entry in seen if entry.crashes}
        if slots == 1:
            assert set(charged) <= names, field.about(f"innocents charged: {charged}")
        assert {entry.attempt for entry in seen} == {1}, field.about(str(seen))
    assert status == 1, field.about(str(field.stats()))

    dead = field.entries(State.DEAD)
    assert {entry.id for entry in dead} == names, field.about(str(dead))
    for entry in dead:
        assert (entry.attempt, entry.crashes) == (1, MAX_CRASHES), field.about(str(entry))
        assert entry.failure is not None
        assert entry.failure.reason == f"crashed its minion {MAX_CRASHES} times"
    stats = field.stats()
    assert (stats.done, stats.dead) == (PARAMS - len(poisons), len(poisons))
    done = {int(line) for line in (field.folder / "done").read_text().split()}
    assert done == set(range(1, PARAMS + 1)) - poisons
    runs = Counter(number for number, _ in field.runs())
    for number in poisons:
        assert runs[number] <= MAX_CRASHES + 1, field.about(f"{number} ran {runs[number]} times")
    assert not [event for event in field.events() if event.charged and event.id not in names]

"""Told to stop under load, in every way: nothing is lost, nobody is charged, and what ended
well is not run again."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from storming import NOTE, Field, Process, pid_of, until

from minionize.values import State

STOPS = [signal.SIGTERM, signal.SIGUSR1]
PARAMS = 600
SLOTS = 2
SEED = int(os.environ.get("MINIONIZE_SEED", "0")) or int.from_bytes(os.urandom(3), "big")

# Every tenth param runs until it is told to end; on TERM:
TRAPS = {
    "ends well": "trap 'exit 0' TERM",
    "wants later": "trap 'exit 75' TERM",
    "fails": "trap 'exit 1' TERM",
    "ignores it": "trap '' TERM",
    "dies of it": ":",
}
LONG = """
case $1 in
*0) TRAP; echo "$1" >>long; while :; do sleep 0.05; done ;;
esac
"""


@pytest.fixture
def field(tmp_path: Path) -> Iterator[Field]:
    field = Field(tmp_path, SEED)
    yield field
    field.close()


def long_runs(field: Field) -> int:
    path = field.folder / "long"
    return len(path.read_text().split()) if path.exists() else 0


def start(field: Field, grace_s: int, *args: str) -> dict[str, Process]:
    """A minion for each trap, all on one queue; `grace_s` for those who ignore TERM, the others
    have the time that they take."""
    field.put(range(1, PARAMS + 1))
    args = ("-j", str(SLOTS), "--lease", "8", *args)
    found = {}
    for name, trap in TRAPS.items():
        grace = ("--grace", str(grace_s if name == "ignores it" else 600))
        found[name] = field.script(NOTE + LONG.replace("TRAP", trap), *grace, *args)
    return found


@pytest.mark.parametrize("how", ["minion stop", "TERM", "INT", "INT INT", "time"])
def test_whoever_says_stop_nothing_is_lost_or_charged(field: Field, how: str) -> None:
    # Without a second INT the grace ends those who ignore TERM.
    limit = ("--max-time", "6") if how == "time" else ()
    minions = start(field, 600 if how == "INT INT" else 1, *limit)
    everybody = SLOTS * len(minions)
    if how != "time":
        until(lambda: long_runs(field) == everybody, lambda: f"{long_runs(field)} long runs")
    if how == "minion stop":
        assert field.ended(field.command("stop", "-q", str(field.queue))) == 0
    for minion in minions.values():
        if how == "TERM":
            minion.terminate()
        elif how.startswith("INT"):
            minion.send_signal(signal.SIGINT)
    if how == "INT INT":
        quick = [minion for name, minion in minions.items() if name != "ignores it"]
        for minion in quick:
            field.ended(minion)
        assert minions["ignores it"].poll() is None, "it was to wait for its programs"
        minions["ignores it"].send_signal(signal.SIGINT)
    expected = -signal.SIGINT if how.startswith("INT") else 75
    for name, minion in minions.items():
        assert field.ended(minion) == expected, field.about(f"{name}: {field.said(minion)}")

    lives = field.lives()
    stats = field.stats()
    seen = field.entries(State.WAITING, State.DELAYED, State.RUNNING, State.DEAD)
    assert (stats.running, stats.dead, stats.delayed, stats.minions) == (0, 0, 0, 0), stats
    assert {(entry.attempt, entry.crashes) for entry in seen} == {(1, 0)}, seen
    assert stats.done is not None
    assert stats.done + len(seen) == PARAMS
    left = {int(entry.id) for entry in seen}
    well = minions["ends well"].pid
    for minion_id, numbers in lives.items():
        for number in numbers:
            # The last runs of all may have met their TERM before they could trap it.
            if number % 10 == 0 and pid_of(minion_id) != well:
                assert number in left, field.about(f"{number} did not end well and is done")
            elif how != "time":
                assert number not in left, field.about(f"{number} ended well and is not done")

    assert field.ended(field.script(NOTE, "-j", str(SLOTS))) == 0
    field.assert_all_done(PARAMS)
    field.assert_nobody_charged()
    runs = Counter(number for number, _ in field.runs())
    again = {number for number, count in runs.items() if count > 1}
    assert again <= left, field.about(f"run again though done: {sorted(again - left)}")


def test_max_params_runs_so_many_and_no_more(field: Field) -> None:
    field.put(range(1, PARAMS + 1))
    minions = [
        field.minion("--call", "storm_functions:note", "--max-params", "50"),
        field.script(NOTE, "--max-params", "50", "-j", "3"),
        field.script(NOTE, "--max-params", "50"),
    ]
    for minion in minions:
        assert field.ended(minion) == 0, field.said(minion)
    assert sorted(map(len, field.lives().values())) == [50, 50, 50]
    stats = field.stats()
    assert (stats.done, stats.running, stats.waiting) == (150, 0, PARAMS - 150)
    assert len({number for number, _ in field.runs()}) == 150


def test_a_storm_of_terms_charges_nobody_and_repeats_only_what_it_ended(field: Field) -> None:
    count, terms = 4000, 25
    field.put(range(1, count + 1))

    def one_more() -> Process:
        if field.chance.random() < 0.5:
            return field.minion("--call", "storm_functions:note", "-j", "2")
        return field.script(NOTE + "; sleep 0.01", "-j", "2")

    for _ in range(4):
        one_more()
    told: list[Process] = []
    while len(told) < terms and not field.stats().drained:
        time.sleep(field.chance.uniform(0.02, 0.2))
        begun = {pid_of(minion) for minion in field.lives()}
        # Before Python listens, TERM ends it like any program.
        able = [one for one in field.alive() if one.pid in begun and one not in told]
        if able:
            victim = field.chance.choice(able)
            victim.send_signal(field.chance.choice(STOPS))
            field.did(f"TERM {victim.pid}")
            told.append(victim)
            one_more()
    for minion in field.minions:
        status = field.ended(minion)
        # One that had ended its work listens no more: then the signal ends it like any program.
        late = -status in STOPS and field.reported_its_end(minion)
        assert status == 0 or (minion in told and (status == 75 or late)), field.about(
            f"exit {status}: {field.said(minion)}"
        )
    field.assert_all_done(count)
    field.assert_nobody_charged()
    repeats = len(field.runs()) - count
    assert repeats <= 2 * len(told), field.about(f"{repeats} repeats of {len(told)} stops")

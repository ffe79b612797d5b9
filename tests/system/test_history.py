"""A random history of a queue of each kind: feeds, purges, retries, copies, pauses, minions that
are killed, stopped and told wrong times, full disks and servers that go away, several at once.

What must hold then is in `histories/verdict.py`. A failure prints all that was done, and its seed.
MINIONIZE_SEED=N draws the same actions again (their timing is the machine's own), and
MINIONIZE_HISTORY_S=600 lets them last for ten minutes. As the clock ends them, no test is longer
than that and what it takes to do the rest of the work.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from histories.history import History
from histories.places import KINDS, Place
from histories.verdict import STATES, assert_ended_well, assert_steady, told

SEED = int(os.environ.get("MINIONIZE_SEED", "0")) or int.from_bytes(os.urandom(3), "big")
SECONDS = float(os.environ.get("MINIONIZE_HISTORY_S", "12"))
STRETCH_S = 12.0
"""After so long nothing moves for a moment, where that can be checked exactly."""


@pytest.fixture(params=KINDS)
def place(
    request: pytest.FixtureRequest, tmp_path: Path, needs_server: Callable[[str], NoReturn]
) -> Iterator[Place]:
    makes, lacking = KINDS[request.param]
    if why := lacking():
        needs_server(why)
    made = makes(tmp_path)
    yield made
    made.close()


@pytest.fixture
def history(place: Place, tmp_path: Path) -> Iterator[History]:
    made = History(place, tmp_path, SEED)
    yield made
    made.crowd.close()
    for errand in made.desk.errands:
        errand.kill()


def test_history(history: History, request: pytest.FixtureRequest) -> None:
    test = f"'tests/system/test_history.py::{request.node.name}'"
    print(f"again: MINIONIZE_SEED={SEED} MINIONIZE_HISTORY_S={SECONDS:g} python -m pytest {test}")
    history.begin()
    left = SECONDS
    while left > 0:
        history.go_on(min(left, STRETCH_S))
        left -= STRETCH_S
        history.heal()
        if history.place.counts:
            history.crowd.end()
            assert_steady(history)
    history.finish()
    assert_ended_well(history)
    print(told(history, (*STATES, "purged")))

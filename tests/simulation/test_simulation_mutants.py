"""The simulation finds out each broken rule of the protocol: without that it proves nothing."""

from __future__ import annotations

import time

import pytest
from simulated.mutants import MUTANTS, Mutant
from simulated.world import Violation

from minionize.errors import MinionizeError

PATIENCE_S = 45.0


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.rule.replace(" ", "-"))
def test_a_broken_rule_is_found_out(mutant: Mutant) -> None:
    found = ""
    seed = 0
    begin = time.monotonic()
    with mutant.alive():
        while not found and (seed < 40 or time.monotonic() - begin < PATIENCE_S):
            try:
                mutant.story(seed)
            except (Violation, MinionizeError) as error:
                found = str(error)
            seed += 1
    assert found, f"{mutant.rule}: {seed} schedules, and nothing was wrong"
    # The engine as it is stands the same schedule.
    mutant.story(seed - 1)

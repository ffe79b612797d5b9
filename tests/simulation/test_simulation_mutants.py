"""The simulation finds out each broken rule of the protocol: without that it proves nothing."""

from __future__ import annotations

import pytest
from simulated.mutants import MUTANTS, Mutant
from simulated.world import Violation

from minionize.errors import MinionizeError

SCHEDULES = 400
"""The rarest is found by the 160th, and each is the same every time: no machine is too slow."""


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.rule.replace(" ", "-"))
def test_a_broken_rule_is_found_out(mutant: Mutant) -> None:
    found = ""
    seed = 0
    with mutant.alive():
        while not found and seed < SCHEDULES:
            try:
                mutant.story(seed)
            except (Violation, MinionizeError) as error:
                found = str(error)
            seed += 1
    assert found, f"{mutant.rule}: {seed} schedules, and nothing was wrong"
    # The engine as it is stands the same schedule.
    mutant.story(seed - 1)

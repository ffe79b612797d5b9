"""Many minions, feeders and persons on several hosts, in random schedules in which everything
goes wrong that can. A failure names its seed; MINIONIZE_SEED=n runs that one alone."""

from __future__ import annotations

import os
import random
import time

import pytest
from simulated.schedules import at_random

SHARES = 4
"""Tests that can run beside each other."""
SECONDS = float(os.environ.get("MINIONIZE_SIMULATION_S", "40")) / SHARES
"""For all shares; an hour finds more than a minute."""
REGRESSIONS = (0, 2, 9, 34, 54, 107, 133, 200, 439, 538, 631, 650, 774, 1264, 1512, 5009)
"""Seeds that once found something."""


@pytest.mark.parametrize("share", range(SHARES))
def test_nothing_is_lost_doubled_or_charged_to_innocents(share: int) -> None:
    if "MINIONIZE_SEED" in os.environ:
        if share == 0:
            at_random(int(os.environ["MINIONIZE_SEED"]))
        return
    if "CI" in os.environ:
        begin_with = 100_000 * share  # always the same
    else:
        begin_with = random.randrange(1 << 40) * SHARES
    most = 60 if "CI" in os.environ else 1 << 40  # there a quick machine sees what a slow one does
    begin = time.monotonic()
    schedules = steps = 0
    while schedules < 10 or (schedules < most and time.monotonic() - begin < SECONDS):
        steps += at_random(begin_with + schedules).steps
        schedules += 1
    rate = schedules / (time.monotonic() - begin)
    print(f"{schedules} schedules from seed {begin_with} on, {steps} calls, {rate:.0f} a second")


def test_what_a_disk_loses_after_it_was_read_is_held_anew() -> None:
    at_random(707, more={"end": 0.8, "switch": 0.4}, small=True)


@pytest.mark.parametrize("seed", REGRESSIONS)
def test_what_once_failed_holds(seed: int) -> None:
    at_random(seed)

"""Two minions, a feeder and three params: all schedules within a budget of deviations (somebody
else steps, a process dies, a host loses its power, somebody stands still for longer than his
lease, a call fails, a folder is stale), those with the fewest first."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import pytest
from simulated.choices import Chooser, Path
from simulated.people import Story
from simulated.schedules import search, told
from simulated.world import World

from minionize.values import Lease

SECONDS = float(os.environ.get("MINIONIZE_SIMULATION_S", "60")) / 5


@dataclass(frozen=True)
class Scope:
    """What may go otherwise, and how often."""

    name: str
    budget: dict[str, int]
    hosts: int = 1
    ends: dict[str, str] = field(default_factory=dict)
    marks: bool = False


SCOPES = [
    Scope("who steps", {"switch": 4}, ends={"1": "back"}),
    Scope("a process dies", {"switch": 1, "kill": 1}, ends={"2": "fail"}, marks=True),
    Scope("a host loses its power", {"switch": 1, "power": 1, "kept": 1}, ends={"1": "bury"}),
    Scope("somebody stands still", {"switch": 1, "pause": 1, "stale": 1}, hosts=2, marks=True),
    Scope("a call fails", {"switch": 1, "fail": 1, "fail head": 1}, hosts=2, ends={"3": "back"}),
]


def telling(scope: Scope, chooser: Chooser, trace: bool) -> World:
    shared = scope.hosts > 1
    world = World(chooser, hosts=scope.hosts, shared=shared, trace=trace)

    def prepare(story: Story) -> None:
        ended: set[str] = set()

        def decide(lease: Lease) -> str:
            if lease.text in scope.ends and lease.text not in ended:
                ended.add(lease.text)
                return scope.ends[lease.text]
            return "ack"

        # The queue is there; what is told begins with two minions that join it.
        if isinstance(chooser, Path):
            chooser.armed = False
        story.feeder("first", 0, [[1, 2]])
        world.run()
        if isinstance(chooser, Path):
            chooser.armed = True
        story.feeder("feeder", 0, [[3]])
        for number in (1, 2):
            story.minion(
                f"minion{number}",
                number % scope.hosts,
                decide,
                limit=2,
                marks=scope.marks,
                wait_s=0.0,
            )

    return told(world, prepare)


POWER_CUTS = [
    Scope("alone on a disk", {"power": 1}, ends={"1": "bury", "2": "fail"}, marks=True),
    Scope("taking over", {"power": 1}, ends={"1": "die", "2": "back"}, marks=True),
    Scope("sharing a disk", {"power": 1}, hosts=2, ends={"1": "die", "2": "fail"}, marks=True),
]


@pytest.mark.parametrize("scope", POWER_CUTS, ids=lambda scope: scope.name.replace(" ", "-"))
def test_power_cut_at_every_call(scope: Scope) -> None:
    """What was not synced is thrown away, names too; wherever it happens, others can go on."""
    tally = search(lambda chooser, trace: telling(scope, chooser, trace), scope.budget, 1e9)
    print(f"{scope.name}: {tally}")
    assert tally.exhausted and tally.schedules > 60


@pytest.mark.parametrize("scope", SCOPES, ids=lambda scope: scope.name.replace(" ", "-"))
def test_all_schedules_within_the_budget(scope: Scope) -> None:
    tally = search(lambda chooser, trace: telling(scope, chooser, trace), scope.budget, SECONDS)
    print(f"{scope.name}: {tally}")
    assert tally.exhausted or tally.schedules >= 20, tally

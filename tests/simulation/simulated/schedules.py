"""Stories, told under one schedule after the other."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from minionize.engines.file import head as layout
from minionize.engines.file import lookout
from minionize.values import Lease
from simulated.choices import Chooser, Dice, Path, Pruned
from simulated.people import Story
from simulated.world import Violation, World

_ENDINGS = ("ack", "back", "fail", "later", "bury", "keep")
_SHOWN = 400
_LIMITED = {"kill": 4, "power": 2, "pause": 4, "fail": 8, "fail head": 8}
"""How often at most."""

Telling = Callable[[Chooser, bool], World]
"""Tells a story once; the flag asks for a trace of it."""


def told(world: World, prepare: Callable[[Story], None]) -> World:
    """Runs a story to its end and judges it."""
    story = Story(world)
    try:
        prepare(story)
        world.run()
        story.finish()
    finally:
        world.stop()
    return world


@dataclass
class Tally:
    """How far a search came."""

    schedules: int = 0
    steps: int = 0
    pruned: int = 0
    bound: int = -1
    """All schedules with so many deviations were tried; -1: not even the one without."""
    exhausted: bool = False
    seconds: float = 0.0

    def __str__(self) -> str:
        rate = self.schedules / max(self.seconds, 1e-9)
        return (
            f"{self.schedules} schedules ({self.pruned} met one already tried), {self.steps} "
            f"calls, {rate:.0f} a second: all that are within the budget"
            if self.exhausted
            else f"{self.schedules} schedules ({self.pruned} met one already tried), {self.steps} "
            f"calls, {rate:.0f} a second: all with {self.bound} deviations or fewer"
        )


def search(tell: Telling, budget: dict[str, int], seconds: float) -> Tally:
    """All schedules within the budget of deviations, those with the fewest first, as far as the
    time goes. A Violation names the path that replays it."""
    tally = Tally()
    visited: set[Hashable] = set()
    levels: list[deque[tuple[int, ...]]] = [deque() for _ in range(sum(budget.values()) + 1)]
    levels[0].append(())
    begin = time.monotonic()
    for bound, level in enumerate(levels):
        while level:
            tally.seconds = time.monotonic() - begin
            if tally.seconds > seconds:
                return tally
            path = Path(level.popleft(), budget, visited)
            tally.schedules += 1
            try:
                tally.steps += tell(path, False).steps
            except Pruned:
                tally.pruned += 1
            except Violation as error:
                raise Violation(f"{error}\nreplay: path {tuple(path.choices)}") from error
            for other, deviations in path.others():
                levels[deviations].append(other)
        tally.bound = bound
    tally.exhausted = True
    return tally


def zombie(seed: int) -> World:
    """A minion stands still while it holds something, for nearly three leases; meanwhile it
    is taken over, and another one gets its slot. Its host sees folders a minute late."""
    world = World(Dice(seed, {"switch": 0.2, "stale": 1.0}, {}), hosts=2, shared=True)
    stalled: set[str] = set()

    def stall(lease: Lease) -> str:
        if stalled:
            return "ack"
        stalled.add(lease.id)
        return "stall"

    def prepare(story: Story) -> None:
        story.feeder("feeder", 1, [range(1, 21)])
        story.minion("zombie", 0, stall, limit=2, run_s=3.0)
        story.minion("sweeper", 1, lambda _: "ack", limit=1, run_s=20.0)
        story.minion("heir", 1, lambda _: "ack", limit=3, run_s=20.0, late_s=212.0)

    return told(world, prepare)


def crowd(seed: int) -> World:
    """Several minions give back at the same time."""
    world = World(Dice(seed, {"switch": 0.4}, {}))

    def some_fail() -> Callable[[Lease], str]:
        ends = iter(["fail", "back", "fail", "back"])
        return lambda _: next(ends, "ack")

    def prepare(story: Story) -> None:
        story.feeder("feeder", 0, [range(1, 5)])
        for number in range(4):
            story.minion(f"minion{number}", 0, some_fail(), limit=1)

    return told(world, prepare)


def at_random(
    seed: int,
    *,
    trace: bool = False,
    more: dict[str, float] | None = None,
    hosts: int | None = None,
    small: bool = False,
) -> World:
    """One story of many minions, with all that can go wrong. The seed says everything, with
    `more` chances of some things, and with the hosts (1 is a local disk) if they are given."""
    dice = random.Random(f"story {seed}")
    shared = dice.random() < 0.6 if hosts is None else hosts > 1
    if hosts is None:
        hosts = dice.choice((2, 3)) if shared else 1
    chances = {"switch": dice.choice((0.02, 0.1, 0.4))}
    limits = {}
    for kind, chance, most in (
        ("kill", 0.004, 3),
        ("power", 0.002, 1),
        ("pause", 0.003, 3),
        ("cut", 0.001, 1),
        ("fail", 0.01, 6),
        ("fail head", 0.04, 4),
        ("repeated link", 0.1, 3),
    ):
        if dice.random() < 0.5:
            chances[kind] = chance * dice.choice((0.5, 1, 3))
            limits[kind] = most
    chances |= {"stale": dice.choice((0.0, 0.3, 0.9)), "kept": 0.4, "torn": 0.3, "long": 0.5}
    chances["end"] = dice.choice((0.0, 0.3, 0.8))
    for kind, chance in (more or {}).items():
        chances[kind] = chance
        if kind in limits or kind in _LIMITED:
            limits[kind] = _LIMITED.get(kind, 6)
    world = World(Dice(seed, chances, limits), hosts=hosts, shared=shared, trace=trace)
    for host in world.hosts:
        host.monotonic_off_s = dice.uniform(0, 1e5)
        host.wall_off_s = dice.choice((0.0, 0.0, 3600.0, -3600.0))

    late = "pause" in (more or {})

    def prepare(story: Story) -> None:
        def decide(_: Lease) -> str:
            return _ENDINGS[world.chooser.pick("end", len(_ENDINGS))]

        first = 1
        for number in range(1 if small else dice.choice((1, 1, 2))):
            batches = []
            for _ in range(dice.choice((1, 1, 2, 3))):
                count = dice.choice((1, 2, 3, 6))
                batches.append(range(first, first + count))
                first += count
            story.feeder(f"feeder{number}", dice.randrange(hosts), batches)
        for number in range((3 if late else 2) if small else dice.choice((1, 2, 2, 3, 4, 6))):
            story.minion(
                f"minion{number}",
                dice.randrange(hosts),
                decide,
                limit=dice.choice((1, 2, 3, 8)),
                rounds=dice.choice((5, 30)),
                run_s=dice.choice((0.0, 0.0, 3.0, 20.0)),
                late_s=dice.choice(
                    (0.0, 0.0, 100.0) if small else (0.0, 0.0, 0.0, 30.0, 100.0, 150.0)
                )
                if not small or late
                else 0.0,
                wait_s=dice.choice((0.0, 0.0, 2.0)),
                marks=dice.random() < (0.9 if small else 0.4),
            )
        if dice.random() < 0.2 and not small:
            story.person("person", dice.randrange(hosts))

    body = dice.choice((layout._MAX_BODY, 1500, 1000))
    whole, grow = layout._MAX_BODY, layout.GROW_BY
    turn_s, glimpse_s = lookout._TURN_PER_MINION_S, lookout._GLIMPSE_EVERY_S
    layout._MAX_BODY, layout.GROW_BY = body, 4
    if random.Random(f"throng {seed}").random() < 0.5:
        # As if there were a hundred times as many: they go by glimpses more than by turns.
        lookout._TURN_PER_MINION_S, lookout._GLIMPSE_EVERY_S = 100 * turn_s, 0.5
    try:
        return told(world, prepare)
    except Exception as error:
        if not trace:
            # Once more, so that whoever reads it sees what led to it.
            at_random(seed, trace=True, more=more, hosts=hosts, small=small)
            raise
        last = "\n".join((world.lines or [])[-_SHOWN:])
        raise Violation(f"seed {seed}: {error!r}, after\n{last}") from error
    finally:
        layout._MAX_BODY, layout.GROW_BY = whole, grow
        lookout._TURN_PER_MINION_S, lookout._GLIMPSE_EVERY_S = turn_s, glimpse_s

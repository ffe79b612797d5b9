"""Who decides: a seeded random generator, or a path through all decisions, one after the other."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable
from typing import Protocol


class Pruned(BaseException):
    """From here on everything was tried before."""


class Chooser(Protocol):
    """Decides what the world leaves open."""

    def pick(self, kind: str, options: int) -> int:
        """One of 0 to options - 1; 0 is what happens where nothing goes wrong."""

    def quiet(self) -> None:
        """Nothing goes wrong any more."""


class Dice:
    """Random decisions, the same for the same seed."""

    def __init__(self, seed: int, chances: dict[str, float], limits: dict[str, int]) -> None:
        self.random = random.Random(seed)
        self.chances = chances
        """By kind, of anything but 0; 0.0 where it is not named."""
        self.limits = dict(limits)
        """How often, where there is a limit."""

    def pick(self, kind: str, options: int) -> int:
        if options < 2:
            return 0
        if kind == "next":
            return self.random.randrange(options)
        chance = self.chances.get(kind, 0.0)
        if not chance or self.random.random() >= chance:
            return 0
        left = self.limits.get(kind)
        if left is not None:
            if left == 0:
                return 0
            self.limits[kind] = left - 1
        return 1 + self.random.randrange(options - 1)

    def quiet(self) -> None:
        """Nothing goes wrong any more."""
        self.chances = {"switch": self.chances.get("switch", 0.1)}


class Path:
    """Decisions along a given path, then 0; notes where it could have gone elsewhere."""

    def __init__(
        self,
        prefix: tuple[int, ...],
        budget: dict[str, int],
        visited: set[Hashable],
    ) -> None:
        self.prefix = prefix
        self.budget = dict(budget)
        """How many decisions of a kind may be other than 0; those of "next" are free."""
        self.visited = visited
        self.choices: list[int] = []
        self._open: list[tuple[int, int]] = []
        """Options at each choice, and deviations if another than 0 is taken there."""
        self._used = 0
        self.armed = True
        """Decisions count from the moment on that this is set."""
        self.fingerprint: Callable[[], Hashable] = lambda: None

    def pick(self, kind: str, options: int) -> int:
        if options < 2 or not self.armed or (kind != "next" and not self.budget.get(kind, 0)):
            return 0
        at = len(self.choices)
        choice = 0
        if at < len(self.prefix):
            choice = self.prefix[at]
        else:
            state = (kind, self.fingerprint(), tuple(self.budget.values()))
            if state in self.visited:
                raise Pruned
            self.visited.add(state)
        costs = kind != "next"
        self.choices.append(choice)
        self._open.append((options, self._used + costs))
        if choice and costs:
            self.budget[kind] -= 1
            self._used += 1
        return choice

    def quiet(self) -> None:
        """Nothing goes wrong any more."""
        self.armed = False

    def others(self) -> list[tuple[tuple[int, ...], int]]:
        """The paths that part from this one beyond its prefix, and how many deviations they have
        up to there."""
        found = []
        for at in range(len(self.prefix), len(self.choices)):
            options, deviations = self._open[at]
            for choice in range(1, options):
                found.append(((*self.choices[:at], choice), deviations))
        return found

#!/usr/bin/env python3
"""A function as a minion: how far does a random walk get?

python walks.py          fill the queue, work on it here with two slots, show the table
python walks.py put      only fill it; then, as often as you like, here and on other machines:
python walks.py work     be a minion
python walks.py table    the results so far
"""

from __future__ import annotations

import random
import statistics
import sys
from collections import defaultdict

from minionize import Reject, minionize


@minionize(queue="walks", slots=2)
def walk(dimensions: int, steps: int, seed: int) -> dict[str, float]:
    """Where a walker is after so many steps, and how often it came home on the way."""
    if dimensions < 1:
        raise Reject("a walk needs a dimension")  # a dead letter at once: no retry can help
    random.seed(f"{dimensions} {steps} {seed}")
    at = [0] * dimensions
    home = 0
    for _ in range(steps):
        at[random.randrange(dimensions)] += random.choice((-1, 1))
        home += not any(at)
    return {"distance": round(sum(x * x for x in at) ** 0.5, 3), "home": home}


def put() -> None:
    """Each element is a param: it becomes the function's arguments, by name."""
    count = walk.put(
        {"dimensions": dimensions, "steps": steps, "seed": seed}
        for dimensions in (1, 2, 3)
        for steps in (100, 1000)
        for seed in range(50)
    )
    print(f"{count} params put")


def work() -> None:
    """Until all is done, also by others."""
    summary = walk.work()
    print(f"{summary.done} done here")


def table() -> None:
    """Rows are the params' and the results' keys. With pandas: pandas.DataFrame(walk.results())."""
    distances = defaultdict(list)
    homes = defaultdict(list)
    for row in walk.results():
        distances[row["dimensions"], row["steps"]].append(row["distance"])
        homes[row["dimensions"], row["steps"]].append(row["home"])
    print("dimensions  steps  walks  distance  home")
    for (dimensions, steps), found in sorted(distances.items()):
        distance, home = statistics.mean(found), statistics.mean(homes[dimensions, steps])
        print(f"{dimensions:10}  {steps:5}  {len(found):5}  {distance:8.1f}  {home:4.1f}")


if __name__ == "__main__":
    for step in sys.argv[1:] or ["put", "work", "table"]:
        {"put": put, "work": work, "table": table}[step]()

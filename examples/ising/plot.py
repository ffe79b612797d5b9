#!/usr/bin/env python3
"""Draws magnetisation against temperature in the terminal: python plot.py results.csv"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from itertools import pairwise

import asciichartpy

COLUMNS = 61
EXACT = 2.269
"""Onsager's temperature, below which an endless lattice is magnetic."""


def means(path: str) -> list[tuple[float, float]]:
    """(temperature, magnetisation averaged over the seeds), by temperature."""
    found = defaultdict(list)
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            found[float(row["temperature"])].append(float(row["magnetisation"]))
    return [(temperature, sum(ms) / len(ms)) for temperature, ms in sorted(found.items())]


def drawn(points: list[tuple[float, float]]) -> str:
    """The chart, with a line of temperatures under it."""
    first, last = points[0][0], points[-1][0]

    def between(temperature: float) -> float:
        for (t0, m0), (t1, m1) in pairwise(points):
            if temperature <= t1:
                return m0 + (m1 - m0) * (temperature - t0) / (t1 - t0)
        return points[-1][1]

    temperatures = [first + (last - first) * x / (COLUMNS - 1) for x in range(COLUMNS)]
    series = [between(temperature) for temperature in temperatures]
    chart = asciichartpy.plot(series, {"height": 10, "min": 0, "max": 1, "format": "{:5.1f} "})
    ticks = "       "
    for x in range(0, COLUMNS, 15):
        ticks += f"{temperatures[x]:<15.2f}"
    return f"magnetisation\n{chart}\n{ticks.rstrip()}\n{'temperature':>42} (magnetic below {EXACT})"


if __name__ == "__main__":
    print(drawn(means(sys.argv[1])))

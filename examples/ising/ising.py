#!/usr/bin/env python3
"""The twin of ising.c, for where there is no C compiler: same options, same line, much slower."""

from __future__ import annotations

import argparse
import math

ALL = (1 << 64) - 1


def simulate(temperature: float, seed: int, size: int, sweeps: int) -> dict[str, float]:
    """Mean magnetisation (absolute) and energy per spin over the second half of the sweeps."""
    rows = [[1] * size for _ in range(size)]
    state = (seed + 1) * 0x9E3779B97F4A7C15 & ALL
    # A flip costs 2 * spin * (sum of its four neighbours), in units of the coupling.
    accept = {4: math.exp(-4 / temperature), 8: math.exp(-8 / temperature)}
    magnetisation = energy = 0
    for sweep in range(sweeps):
        for y, row in enumerate(rows):
            above, below = rows[y - 1], rows[(y + 1) % size]
            for x, here in enumerate(row):
                around = row[x - 1] + row[x + 1 if x + 1 < size else 0] + above[x] + below[x]
                cost = 2 * here * around
                if cost > 0:
                    # xorshift64*, a uniform number in [0, 1).
                    state ^= state >> 12
                    state = (state ^ state << 25) & ALL
                    state ^= state >> 27
                    if ((state * 2685821657736338717 & ALL) >> 11) / 2**53 >= accept[cost]:
                        continue
                row[x] = -here
        if sweep >= sweeps // 2:
            magnetisation += abs(sum(map(sum, rows)))
            for y, row in enumerate(rows):
                below = rows[(y + 1) % size]
                energy -= sum(row[x] * (row[x - 1] + below[x]) for x in range(size))
    spins = size * size * (sweeps - sweeps // 2)
    return {"magnetisation": magnetisation / spins, "energy": energy / spins}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--temperature", type=float, required=True)
    options.add_argument("--seed", type=int, required=True)
    options.add_argument("--size", type=int, default=64)
    options.add_argument("--sweeps", type=int, default=2000)
    means = simulate(**vars(options.parse_args()))
    print('{{"magnetisation": {magnetisation:.6f}, "energy": {energy:.6f}}}'.format(**means))


if __name__ == "__main__":
    main()

"""How long it takes to read the results of many params."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import peers
from benchmarks.measure import Contestant, ratio, run_rounds
from benchmarks.timed import Figure

_FEW, _MANY = 8, 3000


def results(rounds: int, scale: float) -> Iterator[Figure]:
    """minion results of 96,000 params that were fed in 8 portions, and in 3,000"""
    count = max(_MANY, int(96_000 * scale))

    def fed_in(portions: int) -> Contestant:
        def prepare(folder: Path) -> Sequence[Sequence[str]]:
            _done(folder, count, portions)
            return [[peers.minionize_bin("minion"), "results", "-o", "results.csv"]]

        return Contestant(f"fed in {portions:,}", prepare)

    few, many = fed_in(_FEW), fed_in(_MANY)
    figures = run_rounds([few, many], rounds)
    for one in (few, many):
        mine = figures[one.name]
        value = f"{mine.median_wall_s():.2f} s, {max(mine.peak_mib):.0f} MiB"
        if one is many:
            value += f", {ratio(mine, figures[few.name]):.2f}x"
        yield Figure(one.name, value, "<= 1.2x" if one is many else "")


def _done(folder: Path, count: int, portions: int) -> None:
    """A file queue of `count` params, all done, put in so many portions."""
    from minionize import open_queue

    each = -(-count // portions)
    with open_queue(f"file:{folder}/minion-queue") as queue, queue.feeding():
        for first in range(0, count, each):
            queue.put_texts(map(str, range(first, min(count, first + each))))
    path = str(Path(__file__).parents[1])
    minion = [peers.minionize_bin(), "--quiet", "--call", "benchmarks.noop:noop"]
    subprocess.run(["env", f"PYTHONPATH={path}", *minion], cwd=folder, check=True)

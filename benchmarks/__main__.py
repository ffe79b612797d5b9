"""`python -m benchmarks [ROW ...] [--rounds N] [--scale F] [--list] [--write]`

Rounds are interleaved: each contestant once, then each again. Figures are medians, and ratios are
medians of the ratios round by round. The peers are installed into environments of their own, in
the user's cache, at the first run.
"""

from __future__ import annotations

import argparse
import os
import sys

from benchmarks import peers, results
from benchmarks.line import Line
from benchmarks.rows import ROWS


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help="only these (default: all)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="size of the work, 1.0 = as named")
    parser.add_argument("--list", action="store_true", help="the rows, a line each")
    parser.add_argument(
        "--write", action="store_true", help="keep the figures, and show them in the README"
    )
    options = parser.parse_args()
    if options.list:
        for name, row in ROWS.items():
            print(f"{name:12} {row.title}")
        return 0
    unknown = [name for name in options.rows if name not in ROWS]
    if unknown:
        parser.error(f"no such row: {', '.join(unknown)}; see --list")
    if options.rounds < 1 or options.scale <= 0:
        parser.error("--rounds takes 1 or more, --scale more than 0")
    if (python := peers.python_of_the_harness()) is not None:
        os.execv(python, [str(python), "-m", "benchmarks", *sys.argv[1:]])
    for name in options.rows or ROWS:
        row = ROWS[name]
        print(f"== {name}: {row.title}", flush=True)
        lines: list[Line] = []
        for line in row.run(options.rounds, options.scale):
            lines.append(line)
            print(f"   {line.name:36} {line.figure:>28}  {line.ratio:>12}  {line.goal}", flush=True)
        if options.write:
            results.keep(name, lines)
    if options.write:
        results.show({name: row.title for name, row in ROWS.items()})
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m benchmarks [ROW ...] [--rounds N] [--scale F] [--list] [--write]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.rows import ROWS, Line


def table(lines: Sequence[Line]) -> str:
    """The lines as an RST list table, as docs/benchmarks.rst shows it."""
    out = [
        ".. list-table::",
        "   :header-rows: 1",
        "",
        "   * - row",
        "     - contestant",
        "     - figure",
        "     - ratio",
        "     - must reach",
    ]
    for line in lines:
        cells = (line.row, line.name, line.figure, line.ratio, line.goal)
        out.append(f"   * - {cells[0]}")
        out.extend(f"     - {cell or '-'}" for cell in cells[1:])
    return "\n".join(out) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="only these (default: all)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="size of the work, 1.0 = as named")
    parser.add_argument("--list", action="store_true", help="the rows, a line each")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks-table.rst")
    options = parser.parse_args()
    if options.list:
        for name, row in ROWS.items():
            print(f"{name:12} {row.title}")
        return 0
    unknown = [name for name in options.rows if name not in ROWS]
    if unknown:
        parser.error(f"no such row: {', '.join(unknown)}; see --list")
    lines: list[Line] = []
    for name in options.rows or ROWS:
        row = ROWS[name]
        print(f"== {name}: {row.title}", flush=True)
        for line in row.run(options.rounds, options.scale):
            lines.append(line)
            print(f"   {line.name:28} {line.figure:>24}  {line.ratio:>14}  {line.goal}", flush=True)
    if options.write:
        Path(__file__).parents[1].joinpath("docs", "benchmarks-table.rst").write_text(table(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Results are kept row by row, so that one row can be run again alone, and shown in the README."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.line import Line

KEPT = Path(__file__).with_name("results.json")
README = Path(__file__).parents[1] / "README.rst"
BEGIN, END = ".. benchmarks begin\n", ".. benchmarks end\n"


def keep(row: str, lines: Sequence[Line], path: Path = KEPT) -> None:
    """Replace what is kept of this row."""
    kept = load(path)
    kept[row] = {
        "day": time.strftime("%Y-%m-%d"),
        "machine": f"{len(os.sched_getaffinity(0))} CPUs, Linux {platform.release().split('-')[0]}",
        "lines": [line._asdict() for line in lines],
    }
    path.write_text(json.dumps(kept, indent=1) + "\n")


def load(path: Path = KEPT) -> dict[str, Any]:
    """What is kept, by row."""
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def table(kept: dict[str, Any], titles: Mapping[str, str]) -> str:
    """An RST table of all that is kept, with the rows in this order."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n   ", quoting=csv.QUOTE_ALL)
    writer.writerow(("row", "who", "median", "ratio", "to be reached"))
    machines: list[str] = []
    for row, title in titles.items():
        if row not in kept:
            continue
        machine = f"{kept[row]['machine']}, {kept[row]['day']}"
        if machine not in machines:
            machines.append(machine)
        for number, line in enumerate(kept[row]["lines"]):
            first = f"**{row}**: {title}" if not number else ""
            writer.writerow((first, line["name"], line["figure"], line["ratio"], line["goal"]))
    body = out.getvalue().rstrip()
    where = "; ".join(machines)
    return (
        ".. csv-table::\n   :header-rows: 1\n   :widths: 36 26 24 10 16\n\n"
        f"   {body}\n\nMeasured on {where}.\n"
    )


def show(titles: Mapping[str, str], readme: Path = README, path: Path = KEPT) -> None:
    """Write the table into the README, between its two marks."""
    text = readme.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    readme.write_text(f"{before}{BEGIN}\n{table(load(path), titles)}\n{END}{after}")

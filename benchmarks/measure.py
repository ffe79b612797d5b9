"""Times whole commands in interleaved rounds, and says medians and ratios.

Absolute times lie on a shared machine: what counts is the ratio of two commands that ran one
after the other, its median over the rounds.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Contestant:
    """One side of a row. `prepare` fills a fresh folder and returns the commands, which are
    started together; the clock runs until the last of them has ended."""

    name: str
    prepare: Callable[[Path], Sequence[Sequence[str]]]
    stdin: Callable[[Path], Path | None] = lambda folder: None
    verify: Callable[[Path], None] = lambda folder: None
    """Raises if the work was not done: a fast failure is no result."""
    cleanup: Callable[[Path], None] = lambda folder: None
    exit_statuses: tuple[int, ...] = (0,)


@dataclass
class Figures:
    """What one contestant took, a value a round."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    peak_mib: list[float] = field(default_factory=list)

    def median_wall_s(self) -> float:
        return statistics.median(self.wall_s)


def run_once(contestant: Contestant) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds of all processes, and the largest resident set in MiB."""
    folder = Path(tempfile.mkdtemp(prefix="minionize-bench-"))
    try:
        commands = contestant.prepare(folder)
        stdin_path = contestant.stdin(folder)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        begin = time.perf_counter()
        started = []
        for command in commands:
            with open(stdin_path or os.devnull, "rb") as stdin:
                started.append(
                    subprocess.Popen(
                        list(command),
                        stdin=stdin,
                        stdout=open(folder / "stdout", "ab"),  # noqa: SIM115
                        stderr=open(folder / "stderr", "ab"),  # noqa: SIM115
                        cwd=folder,
                    )
                )
        peak_kib = 0
        for process in started:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            peak_kib = max(peak_kib, usage.ru_maxrss)
        wall_s = time.perf_counter() - begin
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        for process in started:
            if process.returncode not in contestant.exit_statuses:
                tail = (folder / "stderr").read_text(errors="replace")[-500:]
                raise RuntimeError(f"{contestant.name}: exit {process.returncode}: {tail}")
        contestant.verify(folder)
        cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return wall_s, cpu_s, peak_kib / 1024
    finally:
        contestant.cleanup(folder)
        shutil.rmtree(folder, ignore_errors=True)


def run_rounds(contestants: Sequence[Contestant], rounds: int) -> dict[str, Figures]:
    """A warm-up that isn't counted, then `rounds` times each in turn."""
    figures = {contestant.name: Figures() for contestant in contestants}
    for round_number in range(rounds + 1):
        for contestant in contestants:
            wall_s, cpu_s, peak_mib = run_once(contestant)
            if round_number:
                mine = figures[contestant.name]
                mine.wall_s.append(wall_s)
                mine.cpu_s.append(cpu_s)
                mine.peak_mib.append(peak_mib)
    return figures


def ratio(one: Figures, other: Figures) -> float:
    """The median of the ratios round by round, so that a slow minute weighs on both."""
    return statistics.median(a / b for a, b in zip(one.wall_s, other.wall_s, strict=True))

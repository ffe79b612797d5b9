"""Commands under the limits that `ulimit` sets, and the sizes that are worth a try."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

from services.command_line import Ran, environment

_MIB = 1 << 20
_LOCKS = 10
"""RLIMIT_LOCKS: Linux takes it, and heeds it no more."""

LIMITS: dict[str, tuple[int, tuple[int, ...]]] = {
    "c": (resource.RLIMIT_CORE, (0, 1, 4096, _MIB)),
    "d": (resource.RLIMIT_DATA, (1, 3, 8, 256)),
    "e": (resource.RLIMIT_NICE, (0, 1, 20, 40)),
    "f": (resource.RLIMIT_FSIZE, (0, 1024, 33_000, 262_144)),
    "i": (resource.RLIMIT_SIGPENDING, (0, 1, 8, 64)),
    "l": (resource.RLIMIT_MEMLOCK, (0, 4096, 65536, _MIB)),
    "m": (resource.RLIMIT_RSS, (0, 4096, _MIB, 64 * _MIB)),
    "n": (resource.RLIMIT_NOFILE, (8, 20, 30, 64)),
    "q": (resource.RLIMIT_MSGQUEUE, (0, 1, 4096, 65536)),
    "r": (resource.RLIMIT_RTPRIO, (0, 1, 50, 99)),
    "R": (resource.RLIMIT_RTTIME, (0, 1000, 100_000, 1_000_000)),
    "s": (resource.RLIMIT_STACK, (262_144, 524_288, _MIB, 64 * _MIB)),
    "t": (resource.RLIMIT_CPU, (2, 5, 10, 3600)),
    "v": (resource.RLIMIT_AS, (1, 4, 16, 1024)),
    "x": (_LOCKS, (0, 1, 8, 64)),
}
"""The letter of `ulimit`, the kernel's number, four sizes in its units; of memory (d, v): MiB more
than Python itself takes. `ulimit -u` is heeded for other users than root."""


def limits(letter: str, size: int) -> Callable[[], None]:
    """For `preexec_fn`: both limits, as `ulimit -LETTER` sets them."""
    number, _ = LIMITS[letter]
    if letter in "dv":
        size = size * _MIB + _taken()[letter]
    hard = resource.getrlimit(number)[1]
    if hard != resource.RLIM_INFINITY:
        size = min(size, hard)
    return lambda: resource.setrlimit(number, (size, size))


@cache
def _taken() -> dict[str, int]:
    """Bytes that Python takes before it does anything for us."""
    status = subprocess.run(
        [sys.executable, "-c", "print(open('/proc/self/status').read())"], env=environment(),
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    found = dict(re.findall(r"^(Vm\w+):\s+(\d+) kB", status, re.MULTILINE))
    return {"v": int(found["VmPeak"]) << 10, "d": int(found["VmData"]) << 10}


def run(folder: Path, set_limit: Callable[[], None] | None, name: str, *args: str) -> Ran:
    """One of our commands as installed, in that folder."""
    return subprocess.run(
        [sys.executable, "-c", f"from minionize.cli.start import {name}; {name}()", *args],
        cwd=folder, env=environment(), preexec_fn=set_limit, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip

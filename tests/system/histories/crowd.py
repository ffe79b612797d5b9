"""Minions, what they run, and what happens to them."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from histories.errands import ROOT

MINIONIZE = "import history_clock; from minionize.cli.minionize import main; main()"
LEASE_S = 3.0
MAX_ATTEMPTS = 2
MAX_CRASHES = 4
PATIENCE_S = 240.0

PROGRAM = """
echo "began $1 $MINION_ATTEMPT $MINION_ID" >>"$HISTORY_LOG"
case $2 in
nap) sleep 0.3 ;;
long) sleep 4 ;;
once) [ "$MINION_ATTEMPT" -ge 2 ] || exit 3 ;;
fail) exit 3 ;;
reject) exit 65 ;;
later) [ -e calm ] || exit 75 ;;
poison) [ -e calm ] || { kill -9 $PPID; exec sleep 600; } ;;
esac
echo "ended $1 $MINION_ATTEMPT $MINION_ID" >>"$HISTORY_LOG"
"""
"""`$1` is the number of a param, `$2` what its run does."""

FUNCTIONS = """
import os, signal, time
from minionize import Reject, RetryLater, current_run

_log = os.open(os.environ["HISTORY_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def _note(what, n):
    line = f"{what} {n} {current_run().attempt} {os.environ['MINION_ID']}\\n"
    os.write(_log, line.encode())


def run(n, does):
    _note("began", n)
    if does in ("nap", "long"):
        time.sleep(0.3 if does == "nap" else 4)
    elif does == "fail" or (does == "once" and current_run().attempt == 1):
        raise ValueError("exit 3")
    elif does == "reject":
        raise Reject("as exit 65")
    elif does == "later" and not os.path.exists("calm"):
        raise RetryLater()
    elif does == "poison" and not os.path.exists("calm"):
        os.kill(int(os.environ["MINION_ID"].rsplit("-", 2)[1]), signal.SIGKILL)
        time.sleep(600)
    _note("ended", n)
"""

CLOCK = """
import mmap, os, struct, time

_real = time.time
with open(os.environ["HISTORY_CLOCK"], "rb") as _file:
    _off_s = mmap.mmap(_file.fileno(), 8, prot=mmap.PROT_READ)
time.time = lambda: _real() + struct.unpack("d", _off_s)[0]
"""
"""The wall clock of this process is off by the seconds in a file, from one moment to the next."""

LASTS = ("ok",) * 10 + ("nap",) * 4 + ("once", "once", "fail", "reject", "later", "long")
"""What most runs do."""
INNOCENT = frozenset({"ok", "nap", "long", "later"})
"""Who does this fails never by itself."""


class Run(NamedTuple):
    """A line that a run wrote."""

    what: str
    """`began` or `ended`; the second in a run that ended well."""
    number: int
    attempt: int
    minion: str


class Minion:
    """One process of `minionize`."""

    def __init__(self, process: subprocess.Popen[bytes], errors: Path, clock: Path) -> None:
        self.process = process
        self.errors = errors
        self.clock = clock
        """A file with what its clock is off by."""
        self.frozen = False
        self.killed = False

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def freeze(self) -> None:
        """SIGSTOP."""
        self.process.send_signal(signal.SIGSTOP)
        self.frozen = True

    def thaw(self) -> None:
        """SIGCONT."""
        if self.is_alive and self.frozen:
            self.process.send_signal(signal.SIGCONT)
        self.frozen = False

    def kill(self) -> None:
        """Kill -9."""
        self.killed = True
        self.process.kill()
        self.process.wait()

    def set_clock(self, off_s: float) -> None:
        """Its wall clock jumps."""
        with open(self.clock, "r+b") as file:
            file.write(struct.pack("d", off_s))


class Crowd:
    """All minions that there ever were."""

    def __init__(self, folder: Path, url: str, env: Mapping[str, str]) -> None:
        self.folder = folder
        self.url = url
        self.log = folder / "runs"
        self.log.touch()
        (folder / "history_functions.py").write_text(FUNCTIONS)
        (folder / "history_clock.py").write_text(CLOCK)
        self.env = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}",
            "HISTORY_LOG": str(self.log),
            **env,
        }
        self.minions: list[Minion] = []

    def start(self, chance: random.Random, *options: str, off_s: float = 0.0) -> Minion:
        """One more; it runs programs, or functions. Its wall clock is off by `off_s`."""
        number = len(self.minions)
        clock = self.folder / f"clock-{number}"
        clock.write_bytes(struct.pack("d", off_s))
        work = ["sh", "-c", PROGRAM, "x", "{n}", "{does}"]
        if chance.random() < 0.35:
            work = ["--call", "history_functions:run"]
        argv = [
            sys.executable, "-c", MINIONIZE, "-q", self.url, "-j", str(chance.choice((1, 2, 3))),
            "--lease", f"{LEASE_S:g}", "--max-attempts", str(MAX_ATTEMPTS), "--max-crashes",
            str(MAX_CRASHES), "--max-failures-in-a-row", "0", "--grace", "1", *options, *work,
        ]  # fmt: skip
        errors = self.folder / f"minion-{number}.err"
        with errors.open("wb") as said:
            process = subprocess.Popen(
                argv, cwd=self.folder, env={**self.env, "HISTORY_CLOCK": str(clock)},
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said,
            )  # fmt: skip
        self.minions.append(Minion(process, errors, clock))
        return self.minions[-1]

    def alive(self, *, frozen: bool | None = None) -> list[Minion]:
        """Those that have not ended; `frozen`: only those that are, or are not."""
        return [
            one for one in self.minions if one.is_alive and frozen in (None, one.frozen)
        ]  # fmt: skip

    def thaw(self) -> None:
        """All of them."""
        for minion in self.minions:
            minion.thaw()

    def end(self) -> None:
        """TERM to all, and wait."""
        self.thaw()
        for minion in self.alive():
            minion.process.terminate()
        self.wait()

    def wait(self) -> None:
        """Until all of them have ended."""
        end = time.monotonic() + PATIENCE_S
        for minion in self.alive():
            try:
                minion.process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise AssertionError(
                    f"minion {minion.process.pid} does not end: {minion.errors.read_text()}"
                ) from None

    def runs(self) -> list[Run]:
        """Every run that wrote its lines, in their order."""
        found = []
        for line in self.log.read_text().splitlines():
            what, number, attempt, minion = line.split()
            found.append(Run(what, int(number), int(attempt), minion))
        return found

    def counts(self, what: str) -> Counter[int]:
        """How often each number `began`, or `ended`."""
        return Counter(run.number for run in self.runs() if run.what == what)

    def close(self) -> None:
        """Nothing of it is left."""
        for minion in self.alive():
            with contextlib.suppress(ProcessLookupError):
                minion.process.send_signal(signal.SIGCONT)
            minion.kill()

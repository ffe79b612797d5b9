"""Commands that people give while all else goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import minionize

ROOT = str(Path(minionize.__file__).parent.parent)
MINION = "from minionize.cli.minion import main; main()"
PATIENCE_S = 240.0


class Said(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    errors: str

    @property
    def number(self) -> int:
        """The number that its last line of output begins with; none is "no dead letter to drop"
        and the like."""
        first = self.out.splitlines()[-1].split()[0].replace(",", "")
        return int(first) if first.isdecimal() else 0


Settles = Callable[[Said], None]


class Errand:
    """A command that is under way."""

    def __init__(
        self, argv: list[str], folder: Path, env: Mapping[str, str], settles: Settles
    ) -> None:
        self.argv = argv
        self.began = time.monotonic()
        self.killed = False
        self._settles = settles
        self._out, self._errors = folder.with_suffix(".out"), folder.with_suffix(".err")
        with self._out.open("wb") as out, self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", MINION, *argv], cwd=folder.parent, env=env,
                stdin=subprocess.DEVNULL, stdout=out, stderr=errors,
            )  # fmt: skip

    def kill(self) -> None:
        """Kill -9, unless it has ended."""
        if self.process.poll() is None:
            self.killed = True
            self.process.kill()

    def is_over(self) -> bool:
        """Whether it ended; then it is settled."""
        if self.process.poll() is None:
            late = time.monotonic() - self.began > PATIENCE_S
            assert not late, f"minion {' '.join(self.argv)} does not end: {self.said()}"
            return False
        self._settles(self.said())
        return True

    def said(self) -> Said:
        """All that it said so far."""
        status = self.process.poll()
        return Said(
            0 if status is None else status, self._out.read_text(), self._errors.read_text()
        )


class Desk:
    """Where people sit."""

    def __init__(self, folder: Path, url: str, env: Mapping[str, str]) -> None:
        self.folder = folder
        self.url = url
        self.env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", **env}
        self.errands: list[Errand] = []
        self.count = 0

    def send(self, *argv: str, settles: Settles, elsewhere: bool = False) -> Errand:
        """Begin a command on the queue, or on those that `argv` names."""
        self.count += 1
        where = [] if elsewhere else ["-q", self.url]
        errand = Errand(
            [*argv[:1], *where, *argv[1:]], self.folder / f"errand-{self.count}", self.env, settles
        )
        self.errands.append(errand)
        return errand

    def look(self) -> None:
        """Settle what has ended."""
        self.errands = [errand for errand in self.errands if not errand.is_over()]

    def wait(self) -> None:
        """Until all have ended."""
        while self.errands:
            self.look()
            time.sleep(0.02)

    def ask(self, *argv: str, elsewhere: bool = False) -> Said:
        """What a command says, that nothing disturbs: it must end well."""
        found: list[Said] = []
        self.send(*argv, settles=found.append, elsewhere=elsewhere)
        self.wait()
        (said,) = found
        assert said.status == 0, f"minion {' '.join(argv)}: {said}"
        return said

    def status(self) -> dict[str, Any]:
        """`minion status --json`, now."""
        told: dict[str, Any] = json.loads(self.ask("status", "--json").out)
        return told

    def rows(self, *argv: str) -> list[dict[str, Any]]:
        """What `minion results` or `minion list` prints, a line of JSON for each."""
        return [json.loads(line) for line in self.ask(*argv).out.splitlines()]

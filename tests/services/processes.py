"""Commands and servers: run, waited for by a condition, ended by their own pid."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


class ServerFailed(Exception):
    """A server did not come up, or a command that it needs failed."""


def run(*argv: str, timeout_s: float = 30.0) -> str:
    """The output of a command. ServerFailed, with what it said, if it fails."""
    ran = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s,
        check=False,
    )  # fmt: skip
    if ran.returncode:
        raise ServerFailed(f"{' '.join(argv)}: {ran.stderr.strip() or ran.returncode}")
    return ran.stdout


def until(
    condition: Callable[[], T],
    what: str | Callable[[], object],
    *,
    timeout_s: float = 60.0,
    every_s: float = 0.05,
) -> T:
    """What `condition` returns as soon as that is true; AssertionError with `what` if it never
    becomes so."""
    end = time.monotonic() + timeout_s
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            said = what() if callable(what) else what
            raise AssertionError(f"not within {timeout_s:.0f} s: {said}")
        time.sleep(every_s)


class Server:
    """A server in the foreground, with its output in a file. It dies with this process."""

    def __init__(self, argv: Sequence[str], output: Path) -> None:
        self.argv = argv
        self.output = output
        with output.open("ab") as out:
            self.process = subprocess.Popen(
                [*_DIES_WITH_US, *argv], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip

    def ready(self, condition: Callable[[], bool], *, timeout_s: float = 30.0) -> None:
        """Wait for it; ServerFailed with the end of its output if it ends or never gets there."""
        end = time.monotonic() + timeout_s
        while not condition():
            if self.process.poll() is not None or time.monotonic() > end:
                tail = self.output.read_text(errors="replace")[-2000:]
                self.stop()
                raise ServerFailed(f"{self.argv[0]} did not come up: {tail}")
            time.sleep(0.02)

    def stop(self, *, patience_s: float = 5.0) -> None:
        """TERM, and KILL if that does not help."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.process.poll() is None:
                self.process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(patience_s)
                return


# A test that is killed must not leave servers behind: the kernel ends them with it.
_DIES_WITH_US = ("setpriv", "--pdeathsig", "TERM") if os.access("/usr/bin/setpriv", os.X_OK) else ()

"""When the scheduler will end this job, by the scheduler's own word.

A job is told its end when it begins, or its script counts it. People make wall times longer
(`scontrol update`, `oarwalltime`), and variables come along from jobs that are over. So a minion
asks once more before it ends by its own clock, and goes on working while it waits for the answer.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from minionize.settings import Settings
from minionize.settings.machine import deadline

if TYPE_CHECKING:
    import subprocess

ANSWER_S = 20.0
"""Longer than this a scheduler is not waited for."""
NEVER = float("inf")


class Told(NamedTuple):
    """An answer."""

    end: float
    """Unix time; NEVER where the job has no end, or is not the one that we run in."""
    line: str = ""
    """For a person; empty where there is nothing to say."""


class WallTime:
    """Asks for the end of one job. Nothing here waits."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str]) -> None:
        self._argv = list(argv)
        self._env = env
        self._process: subprocess.Popen[bytes] | None = None
        self._out = -1
        self._until = 0.0

    @classmethod
    def of(cls, settings: Settings, time_now: float) -> WallTime | None:
        """None where there is no end, a person has set it, or the scheduler has no word for it."""
        if settings.deadline is None:
            return None
        env = settings.env
        found = deadline(env, time_now)
        argv = None if found is None else _question(found[1], env)
        return None if argv is None else cls(argv, env)

    @property
    def asking(self) -> bool:
        """Whether an answer is to come."""
        return self._process is not None

    def ask(self, now: float) -> None:
        """Ask, and return at once. `now`: monotonic seconds, as below."""
        import subprocess

        from minionize.launch.environment import asking
        from minionize.worker.output import spool_folder
        from minionize.worker.spool import open_in_memory

        try:
            self._out = open_in_memory(spool_folder(self._env))
            self._process = subprocess.Popen(
                self._argv, env=asking(self._env), stdin=subprocess.DEVNULL, stdout=self._out,
                stderr=self._out, start_new_session=True,
            )  # fmt: skip
        except OSError:
            self._close()
        self._until = now + ANSWER_S

    def answer(self, now: float) -> Told | None:
        """The answer; None while there is none, and where none will come (see `asking`)."""
        process = self._process
        if process is None:
            return None
        if process.poll() is None:
            if now > self._until:
                self.close()
            return None
        os.lseek(self._out, 0, os.SEEK_SET)
        with os.fdopen(os.dup(self._out), errors="replace") as file:
            text = file.read()
        self._close()
        return read_answer(self._argv[0], text)

    def close(self) -> None:
        """Wait for no answer any more. May be repeated."""
        if self._process is not None:
            import subprocess

            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(1.0)
        self._close()

    def _close(self) -> None:
        self._process = None
        if self._out >= 0:
            os.close(self._out)
            self._out = -1


def _question(variable: str, env: Mapping[str, str]) -> list[str] | None:
    """The command that tells the end which `variable` has told; None where there is none."""
    if variable == "SLURM_JOB_END_TIME" and (id := env.get("SLURM_JOB_ID")):
        return ["squeue", "--noheader", "--states=all", "--Format=State:|,EndTime:|",
                f"--jobs={id}"]  # fmt: skip
    if variable == "OAR_JOB_WALLTIME_SECONDS" and (id := env.get("OAR_JOB_ID")):
        return ["oarstat", "--json", "--full", "--job", id]
    return None


def read_answer(program: str, text: str) -> Told | None:
    """What `squeue` or `oarstat` has told; None where that is not the end of a job."""
    return _of_squeue(text) if program == "squeue" else _of_oarstat(text)


_OVER = frozenset({"COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED",
                   "BOOT_FAIL", "DEADLINE", "OUT_OF_MEMORY"})  # fmt: skip
_NOT_OURS = "the job that SLURM_JOB_ID names is over, so its end is not that of this minion"


def _of_squeue(text: str) -> Told | None:
    if "Invalid job id" in text:
        return Told(NEVER, _NOT_OURS)
    for line in text.splitlines():
        state, bar, end = line.strip().rstrip("|").partition("|")
        if state in _OVER:
            return Told(NEVER, _NOT_OURS)
        if bar and state == "RUNNING":
            if end.isdecimal():
                return _told(float(end))
            return Told(NEVER) if end in ("N/A", "Unknown", "NONE") else None
    return None


def _of_oarstat(text: str) -> Told | None:
    import json

    try:
        rows: dict[str, dict[str, Any]] = json.loads(text)
        for row in rows.values():
            if row.get("state") == "Running":
                return _told(float(row["startTime"]) + float(row["walltime"]))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return None


def _told(end: float) -> Told:
    return Told(end, f"this job ends at {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(end))}")

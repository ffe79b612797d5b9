"""Which processes a minion started: they, and what they started, but no job of a scheduler.

A minion's id in the environment of a process says that a run of that minion started it, or
submitted it: `sbatch` and `at` give a job all variables of the process that submits it. A program
can clear or set its variables, leave its session, and lose its parent. It can't choose the job of
its cgroup, nor who takes it when its parent dies: that is the next ancestor that takes orphans,
which is an ancestor of the minion, or was started by the minion. Above what a daemon started is a
process that is neither.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

_JOB = (b"SLURM_JOB_ID", b"SLURM_CLUSTER_NAME", b"OAR_JOB_ID", b"PBS_JOBID", b"LSB_JOBID")
_DAEMONS = frozenset({b"slurmstepd", b"slurmd", b"atd", b"cron", b"crond", b"sshd", b"pbs_mom"})


# No named tuple: those are slow to make, and each minion's start would wait for that.
class _Process:
    """One of /proc."""

    __slots__ = ("command", "parent", "session")

    def __init__(self, command: bytes, parent: int, session: int) -> None:
        self.command = command
        self.parent = parent
        self.session = session


class Kin:
    """The minion's kin. Made while the minion lives, asked when it may be dead."""

    def __init__(self, minion: int, proc: str = "/proc") -> None:
        self._proc = proc
        self._minion = minion
        self._above = {pid for pid, _ in self._up(minion)} - {minion}
        seen = self._process(minion)
        self._session = seen.session if seen is not None else 0
        self._job = _job_in(self._environment(minion) or b"")
        self._cgroup_jobs = self._jobs_of_cgroup(minion)

    def includes(self, pid: int, environment: bytes, mark: bytes) -> bool:
        """Whether process `pid`, with `mark` (`NAME=value`) in its `environment`, is one of us."""
        jobs = self._jobs_of_cgroup(pid)
        if jobs and jobs != self._cgroup_jobs:
            return False
        job = _job_in(environment)
        if job and job == self._job:
            return True  # a step, too, which has a daemon of its own above it
        foreign = bool(job)
        for above, process in self._up(pid):
            if above in self._above or above == 1:
                break
            if above == self._minion or (process.session and process.session == self._session):
                return True
            if process.command in _DAEMONS:
                return False
            if above != pid:
                foreign = foreign or self._is_foreign(above, mark)
        return not foreign

    def _is_foreign(self, pid: int, mark: bytes) -> bool:
        """Whether a process is none that the minion started, by its environment."""
        environment = self._environment(pid)
        if environment is None:
            return True
        job = _job_in(environment)
        if job and job != self._job:
            return True
        # Some programs write their title over it: then it says nothing.
        return b"=" in environment and not holds(environment, mark)

    def _up(self, pid: int) -> Iterator[tuple[int, _Process]]:
        """The process and its ancestors, from below."""
        while pid > 0 and (process := self._process(pid)) is not None:
            yield pid, process
            pid = process.parent

    def _process(self, pid: int) -> _Process | None:
        text = self._read(pid, "stat")
        if text is None:
            return None
        head, _, rest = text.rpartition(b")")
        words = rest.split()
        return _Process(head.partition(b"(")[2], int(words[1]), int(words[3]))

    def _environment(self, pid: int) -> bytes | None:
        """None where it is not for us to read."""
        return self._read(pid, "environ")

    def _jobs_of_cgroup(self, pid: int) -> frozenset[bytes]:
        return jobs_of_cgroup(self._read(pid, "cgroup") or b"")

    def _read(self, pid: int, name: str) -> bytes | None:
        try:
            with open(os.path.join(self._proc, str(pid), name), "rb", buffering=0) as file:
                return file.read()
        except OSError:
            return None


def jobs_of_cgroup(text: bytes) -> frozenset[bytes]:
    """The jobs in paths of cgroups, as Slurm, PBS and OAR name them."""
    found = set()
    for line in text.splitlines():
        above = b""
        for part in line.split(b"/"):
            head, bar, number = part.rpartition(b"_")
            if bar and number.isdigit() and (head == b"job" or above == b"oar"):
                found.add(number)
            elif above == b"jobid":
                found.add(part)
            above = part
    return frozenset(found)


def holds(environment: bytes, mark: bytes) -> bool:
    """Whether a variable is there, with that value."""
    return b"\0" + mark + b"\0" in b"\0" + environment + b"\0"


def _job_in(environment: bytes) -> tuple[bytes, ...]:
    """The variables that name a scheduler's job; empty where there is none."""
    found = [word for word in environment.split(b"\0") if word.startswith(_JOB)]
    named = tuple(sorted(word for word in found if word.partition(b"=")[0] in _JOB))
    return named if any(not word.startswith(_JOB[1]) for word in named) else ()

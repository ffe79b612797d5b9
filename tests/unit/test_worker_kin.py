"""Which processes are a minion's: told from jobs that a scheduler started, by what nobody can
choose, and else by what most leave alone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from services.processes import until

from minionize.worker.kin import Kin, holds, jobs_of_cgroup

MARK = b"MINION_ID=m1"
INIT, STEPD, MINION, GUARD = 1, 20, 30, 31


class Proc:
    """A /proc of a minion in job 5, below its scheduler's daemon 20 and a shell 25."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.put(INIT, 0, INIT, b"", command=b"init")
        self.put(STEPD, INIT, STEPD, None, command=b"slurmstepd")
        self.put(25, STEPD, 25, b"SLURM_JOB_ID=5\0")
        self.put(MINION, 25, 25, b"SLURM_JOB_ID=5\0")

    def put(
        self, pid: int, parent: int, session: int, environment: bytes | None, *,
        command: bytes = b"sh) (x", cgroup: bytes = b"0::/user.slice\n",
    ) -> bytes:  # fmt: skip
        folder = self.folder / str(pid)
        folder.mkdir()
        stat = b"%d (%s) S %d %d %d 0 -1" % (pid, command, parent, pid, session)
        (folder / "stat").write_bytes(stat)
        (folder / "cgroup").write_bytes(cgroup)
        if environment is not None:
            (folder / "environ").write_bytes(environment)
        return environment or b""

    def drop(self, pid: int) -> None:
        for path in (self.folder / str(pid)).iterdir():
            path.unlink()
        (self.folder / str(pid)).rmdir()


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


def includes(proc: Proc, pid: int, environment: bytes, *, dead: bool = False) -> bool:
    kin = Kin(MINION, str(proc.folder))
    if dead:
        proc.drop(MINION)
    return kin.includes(pid, environment, MARK)


OURS = MARK + b"\0SLURM_JOB_ID=5\0"
THEIRS = MARK + b"\0SLURM_JOB_ID=7\0"
CLEARED = MARK + b"\0PATH=/bin\0"


@pytest.mark.parametrize("environment", [OURS, THEIRS, CLEARED])
@pytest.mark.parametrize("session", [25, 40])
def test_below_the_minion_all_are_ours(proc: Proc, environment: bytes, session: int) -> None:
    """Whatever they set, as below `salloc`."""
    proc.put(40, MINION, session, environment)
    assert includes(proc, 40, environment)


@pytest.mark.parametrize("taker", [INIT, STEPD, 25])
@pytest.mark.parametrize(
    ("environment", "session", "ours"),
    [(OURS, 40, True), (CLEARED, 40, True), (THEIRS, 25, True), (THEIRS, 40, False)],
)
def test_an_orphan(proc: Proc, taker: int, environment: bytes, session: int, ours: bool) -> None:
    """Of one that says of itself that it is in another job, and left our session, nothing else is
    known."""
    proc.put(40, taker, session, environment)
    assert includes(proc, 40, environment, dead=True) is ours


@pytest.mark.parametrize("environment", [THEIRS, CLEARED])
@pytest.mark.parametrize(
    ("above", "command", "ours"),
    [
        (None, b"slurmstepd", False),  # not for us to read
        (b"PATH=/bin\0", b"anything", False),
        (b"", b"slurmstepd", False),
        (b"slurmstepd: [7.batch]", b"slurmstepd", False),
        (b"\0\0supervisor: of us\0", b"supervisor", True),  # its title is written over it
        (MARK + b"\0A=b\0", b"supervisor", True),
    ],
)
def test_what_has_a_daemon_above_it(
    proc: Proc, environment: bytes, above: bytes | None, command: bytes, ours: bool
) -> None:
    proc.put(50, INIT, 50, above, command=command)
    proc.put(51, 50, 51, environment)
    assert includes(proc, 51, environment, dead=True) is (ours and environment is CLEARED)


def test_the_script_of_another_job_says_it_for_its_children(proc: Proc) -> None:
    proc.put(51, INIT, 51, THEIRS)
    proc.put(52, 51, 51, CLEARED)
    assert not includes(proc, 52, CLEARED)


def test_a_step_of_our_own_job_has_a_daemon_above_it_and_is_ours(proc: Proc) -> None:
    proc.put(50, INIT, 50, None, command=b"slurmstepd")
    proc.put(51, 50, 51, OURS)
    assert includes(proc, 51, OURS, dead=True)


def test_the_same_number_on_another_cluster(tmp_path: Path) -> None:
    proc = Proc(tmp_path)
    proc.drop(MINION)
    proc.put(MINION, 25, 25, b"SLURM_JOB_ID=5\0SLURM_CLUSTER_NAME=a\0")
    other = OURS + b"SLURM_CLUSTER_NAME=b\0"
    proc.put(51, INIT, 51, other)
    assert not includes(proc, 51, other, dead=True)


@pytest.mark.parametrize("job", [5, 7])
def test_the_cgroup_counts_more_than_variables(tmp_path: Path, job: int) -> None:
    proc = Proc(tmp_path)
    proc.drop(MINION)
    proc.put(MINION, 25, 25, b"A=b\0", cgroup=b"0::/system.slice/slurmstepd.scope/job_5/step_0\n")
    path = b"0::/system.slice/slurmstepd.scope/job_%d/step_batch/user/task_0\n" % job
    proc.put(40, INIT, 40, CLEARED, cgroup=path)
    assert includes(proc, 40, CLEARED, dead=True) is (job == 5)


@pytest.mark.parametrize(
    ("text", "jobs"),
    [
        (b"0::/user.slice/session-3.scope\n", set()),
        (b"4:cpuset:/slurm/uid_1000/job_77/step_batch\n0::/\n", {b"77"}),
        (b"4:cpuset:/oar/ann_lee_12\n", {b"12"}),
        (b"0::/pbs_jobs.service/jobid/3.server\n", {b"3.server"}),
        (b"0::/job_x/my_job_3\n", set()),
    ],
)
def test_jobs_in_cgroups(text: bytes, jobs: set[bytes]) -> None:
    assert jobs_of_cgroup(text) == jobs


def test_a_variable_is_whole() -> None:
    assert holds(b"A=b\0MINION_ID=m1", MARK)
    assert not holds(b"A=b\0MINION_ID=m12\0", MARK)
    assert not holds(b"XMINION_ID=m1\0", MARK)


@pytest.fixture
def sleeping() -> Iterator[Callable[[Sequence[str], dict[str, str]], int]]:
    """Starts a process in a session of its own that is an orphan when this returns; its pid."""
    pids: list[int] = []

    def start(argv: Sequence[str], env: dict[str, str]) -> int:
        code = "import os, subprocess, sys; p = subprocess.Popen(sys.argv[1:], "
        code += "start_new_session=True, stdout=subprocess.DEVNULL)"
        code += "; print(p.pid)"
        ran = subprocess.run(
            [sys.executable, "-c", code, *argv], env=env, text=True, check=True,
            stdout=subprocess.PIPE,
        )  # fmt: skip
        pids.append(int(ran.stdout.split()[0]))
        return pids[-1]

    yield start
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_real_processes(sleeping: Callable[[Sequence[str], dict[str, str]], int]) -> None:
    env = {"PATH": os.environ["PATH"], "MINION_ID": "m1"}
    argv = [sys.executable, "-c", "import time; time.sleep(600)"]
    ours, theirs = sleeping(argv, env), sleeping(argv, {**env, "SLURM_JOB_ID": "77"})
    kin = Kin(os.getpid())
    for pid, expected in ((ours, True), (theirs, False)):
        path = Path(f"/proc/{pid}/environ")
        until(lambda: MARK in path.read_bytes())  # noqa: B023
        assert kin.includes(pid, path.read_bytes(), MARK) is expected

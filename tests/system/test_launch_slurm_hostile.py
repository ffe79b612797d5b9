"""`minion launch slurm` with every variable of Slurm's commands set, from within jobs and runs:
what was asked is what Slurm itself tells of the job, and nothing else comes along."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from services.processes import until
from services.slurm import Slurm, lacking
from sites import MINION, SlurmSite, at_work

from minionize.launch.environment import PLACEMENT
from minionize.values import RUN_VARIABLES

COMMANDS = ("sbatch", "squeue", "sacct", "scancel", "scontrol")
PLAUSIBLE = {
    "SBATCH_TIMELIMIT": "7", "SBATCH_SIGNAL": "KILL@30", "SBATCH_OUTPUT": "/tmp/theirs.%j",
    "SBATCH_MEM_PER_NODE": "77M", "SBATCH_PARTITION": "high", "SBATCH_ACCOUNT": "theirs",
    "SBATCH_JOB_NAME": "theirs", "SBATCH_ARRAY_INX": "1-7", "SBATCH_EXPORT": "NONE",
    "SBATCH_WAIT": "1", "SBATCH_OPEN_MODE": "truncate", "SBATCH_NO_REQUEUE": "1",
    "SBATCH_EXCLUSIVE": "user", "SQUEUE_PARTITION": "high", "SQUEUE_NAMES": "theirs",
    "SQUEUE_USERS": "nobody", "SQUEUE_ACCOUNT": "theirs", "SQUEUE_QOS": "theirs",
    "SQUEUE_LICENSES": "theirs", "SQUEUE_STATES": "COMPLETED", "SQUEUE_FORMAT": "%t",
    "SQUEUE_FORMAT2": "state", "SQUEUE_SORT": "i", "SCANCEL_STATE": "SUSPENDED",
    "SCANCEL_PARTITION": "high", "SCANCEL_NAME": "theirs", "SCANCEL_USER": "nobody",
    "SCANCEL_ACCOUNT": "theirs", "SLURM_TIME_FORMAT": "relative",
}  # fmt: skip
OF_A_JOB = {
    "SLURM_JOB_ID": "999", "SLURM_JOBID": "999", "SLURM_JOB_END_TIME": "1000",
    "SLURM_JOB_START_TIME": "900", "SLURM_STEP_ID": "0", "SLURM_PROCID": "3",
    "SLURM_CPU_BIND": "quiet,mask_cpu:0x1", "SLURM_NTASKS": "64", "SLURM_MEM_PER_NODE": "5",
    "SLURM_ARRAY_TASK_ID": "77", "SLURM_EXPORT_ENV": "NONE", "OAR_JOB_ID": "5",
    "OAR_JOB_WALLTIME_SECONDS": "1", "OAR_NODEFILE": "/nowhere", "PMI_RANK": "3",
}  # fmt: skip
OF_A_RUN = {**dict.fromkeys(RUN_VARIABLES, "of another run"), "MINION_DEADLINE": "1000"}
SLEEPS = ("sh", "-c", "env >env; sleep 600")


def hostile() -> dict[str, str]:
    """A value for each variable that these commands know, by their own text: a later Slurm's are
    in it without being named here."""
    found: set[str] = set()
    for name in COMMANDS:
        path = Path(str(shutil.which(name))).resolve()
        found |= {
            text.decode()
            for text in re.findall(rb"\b(?:SBATCH|SQUEUE|SACCT|SCANCEL|SCONTROL)_[A-Z0-9_]+\b",
                                   path.read_bytes())
        }  # fmt: skip
    assert found >= {"SBATCH_TIMELIMIT", "SBATCH_WAIT", "SQUEUE_USERS", "SCANCEL_STATE"}
    kept = PLACEMENT - {"SBATCH_PARTITION", "SBATCH_ACCOUNT"}
    return {**dict.fromkeys(found - kept, "1"), **PLAUSIBLE}


@pytest.fixture
def site(tmp_path: Path, needs_server: Callable[[str], NoReturn]) -> Iterator[SlurmSite]:
    with at_work(Slurm(tmp_path / "slurm"), lacking(), needs_server) as slurm:
        yield SlurmSite(slurm, tmp_path)


@pytest.fixture
def surroundings(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    def put(variables: dict[str, str]) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


def test_what_was_asked_is_what_slurm_tells(
    site: SlurmSite, surroundings: Callable[[dict[str, str]], None]
) -> None:
    site.feed(2)
    surroundings(hostile())
    id = site.launch("-n", "2", "--name", "ours", "--wall-time", "3m", "--cpus", "1", "--memory",
                     "1M", "-O", "partition=low", "-O", "account=ours", "-O", "warn=70",
                     command=SLEEPS).partition(":")[0]  # fmt: skip
    assert id == "slurm-1"
    # The fixture's own commands, too, are to see what is there.
    for name in hostile():
        os.environ.pop(name, None)
    until(lambda: set(site.slurm.states().values()) == {"RUNNING"}, site.told)
    assert set(site.slurm.states()) == {"1_1", "1_2"}
    told = site.slurm.ok("scontrol", "show", "job", "1_2")
    for words in ("JobName=ours", "TimeLimit=00:03:00", "Account=ours", "Partition=low",
                  "Requeue=1", "MinMemoryNode=1M", "OverSubscribe=OK", "NumCPUs=1",
                  f"StdOut={site.queue}/launches/logs/ours."):  # fmt: skip
        assert words in told, (words, told)
    surroundings(hostile())
    until(lambda: site.jobs(id) == {"1_1": "running", "1_2": "running"}, lambda: "not running")
    assert "2 minions told to end" in site.minion("cancel", id)
    for name in hostile():
        os.environ.pop(name, None)
    until(lambda: set(site.slurm.states().values()) == {"CANCELLED"}, site.told)


def seen_by_the_run(site: SlurmSite) -> dict[str, str]:
    """Its environment."""
    path = site.folder / "env"
    until(lambda: path.exists() and path.stat().st_size, site.told)
    return dict(line.partition("=")[::2] for line in path.read_text().splitlines())


@pytest.mark.parametrize("by", ["minion launch", "plain sbatch"])
def test_nothing_of_another_job_or_run_goes_into_the_new_one(
    site: SlurmSite, surroundings: Callable[[dict[str, str]], None], by: str
) -> None:
    """As from the shell of an allocation that is over, or from a program of a minion."""
    site.feed(1)
    if by == "minion launch":
        surroundings({**OF_A_JOB, **OF_A_RUN})
        site.launch(command=SLEEPS)
        leaked = {**OF_A_JOB, **OF_A_RUN}
    else:
        # The script itself is all that can do something; what it can't know stays.
        script = site.folder / "script.sh"
        script.write_text(site.launch("--dry-run", "--wall-time", "5m", command=SLEEPS))
        (site.queue / "launches" / "logs").mkdir(parents=True)
        surroundings({**OF_A_JOB, **OF_A_RUN, "SLURM_EXPORT_ENV": "ALL"})
        site.slurm.ok("sbatch", str(script))
        leaked = {"SLURM_JOB_END_TIME": "1000", "SLURM_JOB_ID": "999", **OF_A_RUN}
    env = seen_by_the_run(site)
    assert not {name for name, value in leaked.items() if env.get(name) == value}
    assert "MINION_ID" in env and ("OAR_JOB_ID" in env) == (by == "plain sbatch")
    assert env["MINION_JOB"] == f"slurm:t:{env['SLURM_JOB_ID']}"


def test_a_launch_from_within_a_job(
    site: SlurmSite, surroundings: Callable[[dict[str, str]], None]
) -> None:
    """A job of a minute launches minions that outlive it."""
    site.feed(1)
    words = MINION[0] + " -c 'from minionize.cli.minion import main; main()'"
    line = f"{words} launch slurm -q {site.queue} -- sh -c 'env >env; sleep 600'"
    out = f"--output={site.folder}/outer"
    surroundings({"PYTHONPATH": site.env["PYTHONPATH"]})
    site.slurm.ok("sbatch", "--time=1", out, f"--wrap=cd {site.folder} && {line}")
    env = seen_by_the_run(site)
    assert env["SLURM_JOB_ID"] != "1"
    assert env["MINION_JOB"] == f"slurm:t:{env['SLURM_JOB_ID']}"
    assert "MINION_DEADLINE" not in env and "SLURM_JOB_END_TIME" not in env


LATE = """#!/bin/sh
{sbatch} "$@" >/dev/null
exec sleep 600
"""
"""An `sbatch` that does not answer, though the job is in."""


def test_a_job_whose_answer_was_lost_is_on_record(
    site: SlurmSite, surroundings: Callable[[dict[str, str]], None]
) -> None:
    site.feed(2)
    fakes = site.folder / "fakes"
    fakes.mkdir()
    (fakes / "sbatch").write_text(LATE.format(sbatch=shutil.which("sbatch")))
    (fakes / "sbatch").chmod(0o755)
    patient = "from minionize.launch import commands; commands.PATIENCE_S = 8.0; "
    surroundings({"PATH": f"{fakes}:{os.environ['PATH']}"})
    words = ("launch", "slurm", "-q", "q", "-n", "2", "--", "true")
    ran = subprocess.run(
        [MINION[0], "-c", patient + MINION[2], *words],
        cwd=site.folder, env=site.env, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ran.stdout.startswith("slurm-1: 2 minions submitted"), ran
    until(lambda: site.stats().drained, site.told)
    until(lambda: site.jobs("slurm-1") == {"1_1": "ended", "1_2": "ended"}, site.told)


GUARD = "minion-guard\n"
SUBMITTED = {
    "a job": "sleep 600 & echo $! >{name}; wait",
    "a job that clears its variables": (
        "env -i MINION_ID=$MINION_ID PATH=$PATH sleep 600 & echo $! >{name}; wait"
    ),
    "a job's daemon": "setsid sh -c 'sleep 600 & echo $! >{name}'; sleep 600",
}


def test_a_minion_that_is_killed_takes_no_job_with_it(site: SlurmSite) -> None:
    """Its guard ends what its runs have started, in whatever session, and no job that they have
    submitted, on the same host."""
    site.feed(1)
    for at, text in enumerate(SUBMITTED.values()):
        script = "#!/bin/sh\n" + text.format(name=f"{site.folder}/job.{at}")
        (site.folder / f"{at}.sh").write_text(script)
    line = "; ".join(
        [*(f"sbatch --oversubscribe --mem=0 --output=/dev/null {at}.sh >&2" for at in range(2)),
         "setsid -f sh -c 'echo $$ >stray; exec sleep 600'", "echo $$ >run; exec sleep 600"]
    )  # fmt: skip
    for number in (0, 2):
        assert _kills_no_job(site, line.replace("0.sh", f"{number}.sh"), [number, 1])
        site.slurm.ok("scancel", "--user=root")
        until(lambda: "COMPLETING" not in site.slurm.states().values(), site.told)
        site.feed(1)


def _kills_no_job(site: SlurmSite, line: str, numbers: list[int]) -> bool:
    argv = [*MINION[:2], "from minionize.cli.minionize import main; main()", "-q", "q",
"sh", "-c", line]  # fmt: skip
    for name in ("run", "stray", *(f"job.{at}" for at in range(3))):
        (site.folder / name).unlink(missing_ok=True)
    with subprocess.Popen(argv, cwd=site.folder, env=site.env) as process:
        try:
            files = [site.folder / name for name in ("run", "stray")]
            files += [site.folder / f"job.{number}" for number in numbers]
            until(lambda: all(file.exists() and file.read_text() for file in files), site.told)
            pids = [int(file.read_text()) for file in files]
            jobs = pids[2:]
            environ = [Path(f"/proc/{pid}/environ").read_bytes() for pid in jobs]
            assert all(b"MINION_ID=" in each for each in environ)
            guard = guard_of(process.pid)
        finally:
            process.kill()
    until(lambda: not any(map(alive, pids[:2])), lambda: f"{pids} {site.told()}")
    # The guard is gone when it has looked at all that there is.
    until(lambda: not alive(guard), site.told)
    return all(map(alive, jobs))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def guard_of(minion: int) -> int:
    children = Path(f"/proc/{minion}/task/{minion}/children").read_text().split()
    (guard,) = (pid for pid in children if Path(f"/proc/{pid}/comm").read_text() == GUARD)
    return int(guard)

"""What the machine and the scheduler allow: CPUs, wall time, and who started us."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping

from minionize.settings import parsing

_OF_SLURM = "slurmstepd"
_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh", "mksh", "ash", "fish", "csh", "tcsh"})


def cpus(env: Mapping[str, str]) -> int:
    """The CPUs this process may use: the least of affinity, cgroup quota and scheduler."""
    known = [len(os.sched_getaffinity(0))]
    quota = cgroup_cpus()
    if quota is not None:
        known.append(max(1, int(quota)))
    granted = scheduler_cpus(env, os.uname().nodename)
    if granted is not None:
        known.append(granted)
    return max(1, min(known))


def cgroup_cpus(root: str = "/sys/fs/cgroup", own: str = "/proc/self/cgroup") -> float | None:
    """CPUs that the cgroup's quota (v1 or v2, the tightest on the way up) is worth, or None."""
    quotas: list[float] = []
    for line in (_read(own) or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root if not controllers else f"{root}/cpu"
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(parts), -1, -1):
            folder = "/".join([top, *parts[:depth]])
            if controllers:
                limit = [_read(f"{folder}/cpu.cfs_{name}_us") or "" for name in ("quota", "period")]
            else:
                limit = (_read(f"{folder}/cpu.max") or "").split()
            try:
                quota, period = (float(word) for word in limit)
            except ValueError:  # `max`, or no such file at this height
                continue
            if quota > 0 and period > 0:
                quotas.append(quota / period)
    return min(quotas, default=None)


def scheduler_cpus(env: Mapping[str, str], host: str) -> int | None:
    """CPUs that OAR, Slurm, PBS, LSF or Grid Engine gave to this job on this host, or None."""
    # In a step of several tasks the node's CPUs are shared out among them.
    if "SLURM_STEP_ID" in env and (each := _number(env.get("SLURM_CPUS_PER_TASK"))):
        return each
    for variable in ("SLURM_CPUS_ON_NODE", "PBS_NUM_PPN", "NCPUS", "NSLOTS"):
        if number := _number(env.get(variable)):
            return number
    for variable in ("OAR_NODEFILE", "OAR_NODE_FILE", "PBS_NODEFILE"):
        # One line for each core, with the name of its host.
        lines = (_read(env.get(variable, "")) or "").split()
        if here := sum(_same_host(line, host) for line in lines):
            return here
    words = env.get("LSB_MCPU_HOSTS", "").split()
    for name, count in zip(words[::2], words[1::2], strict=False):
        if _same_host(name, host) and (number := _number(count)):
            return number
    return None


def scheduler(env: Mapping[str, str]) -> str:
    """Who started this job: `oar`, `slurm`, `pbs`, `kubernetes`, or empty for none of these.

    A batch system counts more than Kubernetes, where its own daemons may run. `sbatch` in a job of
    OAR gives the new job that one's variables too, and `oarsub` gives none. So where both are
    there, Slurm's daemon above us says that the job is Slurm's.
    """
    if env.get("OAR_JOB_ID") and env.get("SLURM_JOB_ID") and _is_beneath(_OF_SLURM):
        return "slurm"
    for name, variable in (
        ("oar", "OAR_JOB_ID"),
        ("slurm", "SLURM_JOB_ID"),
        ("pbs", "PBS_JOBID"),
        ("kubernetes", "KUBERNETES_SERVICE_HOST"),
    ):
        if env.get(variable):
            return name
    return ""


NO_JOB = "none"


def job(env: Mapping[str, str]) -> str:
    """The job in which we run, `slurm:CLUSTER:7`, by its variables; NO_JOB where there is none."""
    name = scheduler(env)
    for variable, cluster in (
        ("OAR_JOB_ID", ""),
        ("SLURM_JOB_ID", "SLURM_CLUSTER_NAME"),
        ("PBS_JOBID", ""),
    ):
        if variable.lower().startswith(name or NO_JOB):
            return f"{name}:{env.get(cluster, '')}:{env[variable]}"
    return NO_JOB


def _is_of_another_job(env: Mapping[str, str]) -> bool:
    """Whether the variables of a run are of one in another job, which has submitted ours. A
    container of a run may not see in which job it is."""
    if "MINION_ID" not in env and "MINION_JOB" not in env:
        return False  # a person has set what there is
    return job(env) not in (NO_JOB, env.get("MINION_JOB", NO_JOB))


def run_in_job(env: Mapping[str, str]) -> dict[str, str]:
    """What a run is told of the job that it is in, and `sbatch` tells the job that it submits."""
    name = job(env)
    return {} if name == NO_JOB else {"MINION_JOB": name}


def deadline(env: Mapping[str, str], now: float) -> tuple[float, str] | None:
    """When the scheduler will end this job (Unix time), and the variable that says so. A
    MINION_DEADLINE that came along from a run in another job is not heeded."""
    for variable in ("MINION_DEADLINE", "SLURM_JOB_END_TIME"):
        if variable == "MINION_DEADLINE" and _is_of_another_job(env):
            continue
        try:
            at = float(env.get(variable, ""))
        except ValueError:
            continue
        if variable == "SLURM_JOB_END_TIME" and at <= now:
            continue  # of a job that is over, and we run
        if math.isfinite(at) and at > 0:
            return at, variable
    for variable, whose, name in (
        ("OAR_JOB_WALLTIME_SECONDS", "OAR_JOB_ID", "oar"),
        ("PBS_WALLTIME", "PBS_JOBID", "pbs"),
    ):
        said = env.get(variable, "")
        if not said or (env.get("SLURM_JOB_ID") and scheduler(env) != name):
            continue
        try:
            walltime_s = parsing.seconds(said)
        except ValueError:
            continue
        # Neither says when the job began. Its oldest process that we descend from comes
        # close; where it can't be found the end is guessed too late, and TERM comes first.
        return now - job_age_s(env, whose) + walltime_s, variable
    return None


def _is_beneath(command: str) -> bool:
    """Whether one of our ancestors is called so, as far as /proc shows them."""
    pid = "self"
    while stat := _read(f"/proc/{pid}/stat"):
        head, _, rest = stat.rpartition(")")
        if head.partition("(")[2] == command:
            return True
        pid = rest.split()[1]
    return False


def job_age_s(env: Mapping[str, str], variable: str) -> float:
    """Seconds since the oldest of our ancestors with the same `variable` began, as far as
    /proc tells; 0.0 where it doesn't."""
    mark = f"{variable}={env.get(variable, '')}".encode()
    pid, age_s = "self", 0.0
    up_s = float((_read("/proc/uptime") or "0").split()[0])
    while True:
        stat = (_read(f"/proc/{pid}/stat") or "").rpartition(")")[2].split()
        if len(stat) < 20:
            return age_s
        age_s = max(age_s, up_s - int(stat[19]) / os.sysconf("SC_CLK_TCK"))
        pid = stat[1]
        try:
            with open(f"/proc/{pid}/environ", "rb") as environ:
                if mark not in environ.read().split(b"\0"):
                    return age_s
        except OSError:
            return age_s


def shell_between(env: Mapping[str, str]) -> bool:
    """Whether a script's shell stands between the scheduler and us, and keeps its signals."""
    if not ("OAR_JOB_ID" in env or "SLURM_JOB_ID" in env) or os.isatty(0):
        return False
    return (_read(f"/proc/{os.getppid()}/comm") or "").strip() in _SHELLS


def _same_host(name: str, host: str) -> bool:
    return name.partition(".")[0] == host.partition(".")[0]


def _number(word: str | None) -> int | None:
    return int(word) if word and word.isdecimal() and int(word) > 0 else None


def _read(path: str) -> str | None:
    """A small file's text, or None where it can't be read."""
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError:
        return None

"""CPUs and wall time, as the machine and the schedulers tell them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minionize.settings import machine


def test_affinity_holds() -> None:
    assert 1 <= machine.cpus({}) <= len(os.sched_getaffinity(0))


def test_cgroup_quotas(tmp_path: Path) -> None:
    own = tmp_path / "own"
    (tmp_path / "a/b").mkdir(parents=True)
    own.write_text("0::/a/b\n")
    assert machine.cgroup_cpus(str(tmp_path), str(own)) is None
    (tmp_path / "a/b/cpu.max").write_text("max 100000\n")
    assert machine.cgroup_cpus(str(tmp_path), str(own)) is None
    (tmp_path / "a/cpu.max").write_text("150000 100000\n")
    assert machine.cgroup_cpus(str(tmp_path), str(own)) == 1.5
    (tmp_path / "a/b/cpu.max").write_text("50000 100000\n")
    assert machine.cgroup_cpus(str(tmp_path), str(own)) == 0.5


def test_cgroup_quotas_of_version_1(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("4:cpu,cpuacct:/job\n3:memory:/job\n")
    (tmp_path / "cpu/job").mkdir(parents=True)
    (tmp_path / "cpu/job/cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "cpu/job/cpu.cfs_period_us").write_text("100000\n")
    assert machine.cgroup_cpus(str(tmp_path), str(own)) is None
    (tmp_path / "cpu/job/cpu.cfs_quota_us").write_text("400000\n")
    assert machine.cgroup_cpus(str(tmp_path), str(own)) == 4


def test_no_cgroups(tmp_path: Path) -> None:
    assert machine.cgroup_cpus(str(tmp_path), str(tmp_path / "none")) is None


@pytest.mark.parametrize(
    ("env", "cpus"),
    [
        ({}, None),
        ({"SLURM_CPUS_ON_NODE": "12"}, 12),
        ({"SLURM_CPUS_ON_NODE": "12", "SLURM_CPUS_PER_TASK": "3"}, 12),
        ({"SLURM_CPUS_ON_NODE": "12", "SLURM_CPUS_PER_TASK": "3", "SLURM_STEP_ID": "0"}, 3),
        ({"PBS_NUM_PPN": "4"}, 4),
        ({"NCPUS": "5"}, 5),
        ({"NSLOTS": "6"}, 6),
        ({"NCPUS": "x"}, None),
        ({"LSB_MCPU_HOSTS": "other 4 node7 2"}, 2),
        ({"LSB_MCPU_HOSTS": "other 4"}, None),
        ({"OAR_NODEFILE": "/nonexistent"}, None),
    ],
)
def test_schedulers(env: dict[str, str], cpus: int | None) -> None:
    assert machine.scheduler_cpus(env, "node7.cluster") == cpus


@pytest.mark.parametrize("variable", ["OAR_NODEFILE", "OAR_NODE_FILE", "PBS_NODEFILE"])
def test_node_files(tmp_path: Path, variable: str) -> None:
    nodes = tmp_path / "nodes"
    nodes.write_text("node7.cluster\nnode7.cluster\nnode70.cluster\n")
    assert machine.scheduler_cpus({variable: str(nodes)}, "node7") == 2
    assert machine.scheduler_cpus({variable: str(nodes)}, "elsewhere") is None


def test_the_scheduler_bounds_auto() -> None:
    assert machine.cpus({"SLURM_CPUS_ON_NODE": "1"}) == 1


def test_deadlines() -> None:
    assert machine.deadline({}, 1000.0) is None
    assert machine.deadline({"SLURM_JOB_END_TIME": "2000"}, 1000.0) == (2000, "SLURM_JOB_END_TIME")
    own = {"MINION_DEADLINE": "1500.5", "SLURM_JOB_END_TIME": "2000"}
    assert machine.deadline(own, 1000.0) == (1500.5, "MINION_DEADLINE")
    for bad in ("", "soon", "nan", "inf", "-5"):
        assert machine.deadline({"MINION_DEADLINE": bad}, 1000.0) is None


@pytest.mark.parametrize(
    ("variable", "text"),
    [("OAR_JOB_WALLTIME_SECONDS", "3600"), ("PBS_WALLTIME", "3600"), ("PBS_WALLTIME", "1:00:00")],
)
def test_wall_times_count_from_the_beginning(variable: str, text: str) -> None:
    env = {variable: text, "OAR_JOB_ID": "no such job", "PBS_JOBID": "no such job"}
    found = machine.deadline(env, time.time())
    assert found is not None and found[1] == variable
    began = found[0] - 3600
    # This process began before, and nobody above it is of that job.
    assert time.time() - 3600 * 24 < began <= time.time()


def test_the_job_is_as_old_as_its_oldest_process_above_us() -> None:
    """A child asks; its parent, this one, has no such variable, and its own child has."""
    code = (
        "import subprocess, sys, time; time.sleep(0.3);"
        "code = 'import os; from minionize.settings import machine;"
        ' print(machine.job_age_s(os.environ, "OAR_JOB_ID"))\';'
        "subprocess.run([sys.executable, '-c', code], check=True)"
    )
    env = {**os.environ, "OAR_JOB_ID": "4711-test"}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, check=True, timeout=180
    )
    assert float(ran.stdout) >= 0.3
    assert machine.job_age_s({"OAR_JOB_ID": "4711-test"}, "OAR_JOB_ID") > 0


def test_a_shell_between() -> None:
    code = "import os; from minionize import settings; print(settings.shell_between(os.environ))"
    for above, env, told in [
        (["sh", "-c", '"$0" -c "$1"; :'], {"OAR_JOB_ID": "1"}, "True"),
        (["bash", "-c", '"$0" -c "$1"; :'], {"SLURM_JOB_ID": "1"}, "True"),
        (["sh", "-c", 'exec "$0" -c "$1"'], {"OAR_JOB_ID": "1"}, "False"),
        (["sh", "-c", '"$0" -c "$1"; :'], {}, "False"),
    ]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("OAR_", "SLURM_"))}
        ran = subprocess.run(
            [*above, sys.executable, code],
            env={**clean, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=180,
        )
        assert ran.stdout.decode().strip() == told, above


@pytest.mark.parametrize(("daemon", "name"), [("slurmstepd", "slurm"), ("sshd", "oar")])
def test_a_job_of_slurm_that_a_job_of_oar_submitted(tmp_path: Path, daemon: str, name: str) -> None:
    """`sbatch` has given it the variables of both: what is above it tells whose it is."""
    above = tmp_path / daemon
    shutil.copy("/bin/sh", above)
    code = (
        "import os, time; from minionize.settings import machine as m; e = os.environ;"
        " print(m.scheduler(e), m.job(e), m.deadline(e, time.time()) is None)"
    )
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2]),
           "OAR_JOB_ID": "5", "OAR_JOB_WALLTIME_SECONDS": "60", "SLURM_JOB_ID": "7",
           "SLURM_CLUSTER_NAME": "t"}  # fmt: skip
    said = subprocess.run(
        [str(above), "-c", '"$0" -c "$1"; :', sys.executable, code], env=env, text=True,
        capture_output=True, check=True,
    ).stdout.split()  # fmt: skip
    job = {"slurm": "slurm:t:7", "oar": "oar::5"}[name]
    assert said == [name, job, str(name == "slurm")]

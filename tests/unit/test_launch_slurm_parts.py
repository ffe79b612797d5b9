"""Slurm: what its commands print, read; whose a job is; and what `sbatch` is told."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from minionize.errors import LaunchRefused, UsageError
from minionize.launch import Launch, commands, launcher, slurm
from minionize.launch import slurm_asking as asking
from minionize.launch.environment import asking as env_asking
from minionize.launch.environment import submitting, unheeded
from minionize.launch.slurm_asking import Site, site_of
from minionize.launch.slurm_states import Identity, seen_by_sacct, seen_by_squeue
from minionize.launch.values import Job, JobState, Submitted
from minionize.values import RUN_VARIABLES

CONFIG = """Configuration data as of 2026-11-28T21:23:45
AccountingStorageHost   = localhost
AccountingStorageType   = {accounts}
ClusterName             = {cluster}
MaxArraySize            = {size}
SLURM_CONF              = /etc/slurm/slurm.conf

Slurmctld(primary) at n0 is UP
"""


@pytest.mark.parametrize(
    ("accounts", "size", "found"),
    [
        ("accounting_storage/none", "1001", Site("t", 1000, accounts=False)),
        ("accounting_storage/slurmdbd", "5", Site("t", 4, accounts=True)),
        ("(null)", "1", Site("t", 1000, accounts=False)),
        ("", "many", Site("t", 1000, accounts=False)),
    ],
)
def test_what_a_site_says_of_itself(accounts: str, size: str, found: Site) -> None:
    assert site_of(CONFIG.format(accounts=accounts, cluster="t", size=size)) == found


def test_a_site_that_says_nothing() -> None:
    assert site_of("") == Site("", 1000, accounts=False)


def launched(*ids: str, details: dict[str, str] | None = None, minions: int = 2) -> Submitted:
    return Submitted("slurm", ids, "my|scan", "file:/q", minions, at=1000.0, details=details or {})


def test_tasks_of_arrays_of_uneven_size() -> None:
    """11 minions in arrays of at most 5: as many in each as were asked for, in that order."""
    tasks = slurm._tasks(launched("7", "9", "12", minions=11))
    assert tasks == [*(f"7_{n}" for n in range(1, 5)), *(f"9_{n}" for n in range(1, 5)),
                     *(f"12_{n}" for n in range(1, 4))]  # fmt: skip
    assert slurm._tasks(launched(minions=3)) == []
    assert slurm._arrays(tasks) == ["7", "9", "12"]


WHOLE = {"cluster": "t", "mark": "0af3", "submit_times": "900 901"}
LINE = "7_1|RUNNING|n1|0|None|t|900|0|my|scan|/q/my-scan-1.sh minionize=0af3-0|"


@pytest.mark.parametrize(
    ("line", "ours"),
    [
        (LINE, True),
        (LINE.replace("|t|", "||"), True),  # a Slurm without that field
        (LINE.replace("|t|", "|u|"), False),
        (LINE.replace("|900|", "|899|"), False),
        (LINE.replace("|900|", "|N/A|"), True),
        (LINE.replace("|900|0|", "|950|1|"), True),  # requeued, which is a submission
        (LINE.replace("|900|0|", "|950|0|"), False),
        (LINE.replace("|900|0|", "|850|1|"), False),
        (LINE.replace("7_1|", "9_1|"), False),  # 901 is its time
        (LINE.replace("7_1|", "9_1|").replace("|900|", "|901|"), True),
        (LINE.replace("my|scan|", "my|scans|"), False),
        (LINE.replace("my|scan|", "my|sca|"), False),
        (LINE.replace("0af3-", "0af4-"), False),
        (LINE.replace("minionize=0af3-0", ""), False),
        (LINE.replace("/q/my-scan-1.sh minionize=0af3-0", ""), True),  # interactive, or not told
    ],
)
def test_whose_a_job_is(line: str, ours: bool) -> None:
    assert seen_by_squeue(line).is_of(Identity.of(launched("7", "9", details=WHOLE))) is ours


@pytest.mark.parametrize(
    ("at", "restarts", "ours"),
    [("1000", 0, True), ("990", 0, True), ("300", 0, False), ("1100", 0, False), ("9", 3, True)],
)
def test_a_record_of_an_older_version_has_only_its_name_and_its_time(
    at: str, restarts: int, ours: bool
) -> None:
    line = f"7_1|RUNNING|n1|0|None|t|{at}|{restarts}|my|scan|/q/my-scan-1.sh|"
    assert seen_by_squeue(line).is_of(Identity.of(launched("7"))) is ours


def test_where_the_time_was_not_told_the_mark_says_it() -> None:
    identity = Identity.of(launched("7", details={**WHOLE, "submit_times": "?"}))
    assert seen_by_squeue(LINE.replace("|900|", "|5|")).is_of(identity)
    assert not seen_by_squeue(LINE.replace("0af3", "9999")).is_of(identity)


@pytest.mark.parametrize(
    ("line", "job", "ours"),
    [
        ("7_1|FAILED|n1|9:0|900|my|scan|sbatch /q/a.sh minionize=0af3-0",
         Job("7_1", JobState.FAILED, "n1", "exit 9 or 137"), True),
        ("7_1|FAILED|n1|0:0|900|my|scan|", Job("7_1", JobState.FAILED, "n1", "failed"), True),
        ("7_1|FAILED|n1|2:0|900|my|scan|", Job("7_1", JobState.FAILED, "n1", "exit 2"), True),
        ("7_1|FAILED|n1|75:0|950|my|scan|", Job("7_1", JobState.ENDED, "n1", "exit 75"), True),
        ("7_1|COMPLETED|n1|0:0|850|my|scan|", Job("7_1", JobState.ENDED, "n1", "exit 0"), False),
        ("7_1|COMPLETED|n1|0:0|900|mine|", Job("7_1", JobState.ENDED, "n1", "exit 0"), False),
        ("7_1|FAILED|n1|9:0|900|my|scan|sbatch /q/a.sh minionize=4444-0",
         Job("7_1", JobState.FAILED, "n1", "exit 9 or 137"), False),
    ],
)  # fmt: skip
def test_what_the_accounts_tell(line: str, job: Job, ours: bool) -> None:
    seen = seen_by_sacct(line)
    assert seen.job == job
    assert seen.is_of(Identity.of(launched("7", "9", details=WHOLE))) is ours


def test_only_what_is_told_is_known() -> None:
    """A status that can't be read is no 0."""
    seen = seen_by_squeue("7_1|FAILED|n1|?|NonZero|t|900|0|my|scan||")
    assert (seen.job.state, seen.job.detail) == (JobState.FAILED, "failed")
    seen = seen_by_squeue("7_1|FAILED|n1|137:0|NonZero|t|900|0|my|scan||")
    assert (seen.job.state, seen.job.detail) == (JobState.FAILED, "exit 137")


HOSTILE = {
    **{f"SBATCH_{name}": "1" for name in ("TIMELIMIT", "WAIT", "ARRAY_INX", "NOT_YET_INVENTED")},
    **dict.fromkeys(("SQUEUE_USERS", "SACCT_LOCAL", "SCANCEL_STATE", "SCONTROL_FUTURE"), "1"),
    **dict.fromkeys(("SLURM_JOB_ID", "SLURM_JOB_END_TIME", "SLURM_STEP_ID", "PMI_RANK"), "1"),
    **dict.fromkeys(("SLURM_CLUSTERS", "OAR_JOB_ID", "OAR_NODEFILE", "PBS_JOBID"), "1"),
}  # fmt: skip
FINE = {"PATH": "/bin", "SLURM_CONF": "/c", "SLURM_JWT": "x", "MINION_QUEUE": "q",
        "SLURMY": "y", "OARS": "z"}  # fmt: skip


def test_no_variable_changes_what_commands_are_asked() -> None:
    found = env_asking({**HOSTILE, **FINE, "SBATCH_PARTITION": "low"})
    assert found == {**FINE, "SLURM_TIME_FORMAT": "%s"}


def test_nothing_of_a_job_or_run_goes_into_a_new_job() -> None:
    run = dict.fromkeys(RUN_VARIABLES, "1")
    found = submitting({**HOSTILE, **FINE, **run, "SBATCH_PARTITION": "low"})
    assert found == {**FINE, "SBATCH_PARTITION": "low", "SLURM_CLUSTERS": "1"}
    assert unheeded({**HOSTILE, "SBATCH_ACCOUNT": "a"}) == [
        "SBATCH_ARRAY_INX", "SBATCH_NOT_YET_INVENTED", "SBATCH_TIMELIMIT", "SBATCH_WAIT",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "option",
    ["--wait", "--wai", "-W", "--array=1-3", "--arr=3", "-a1-3", "--wrap=ls", "--test-only",
     "--comment='open"],
)  # fmt: skip
def test_options_that_make_other_jobs_are_refused(option: str) -> None:
    launch = Launch(command=("true",), options={"sbatch": (option,)})
    with pytest.raises(UsageError, match=r"^-O sbatch="):
        launcher("slurm").render(launch)


@pytest.mark.parametrize(
    ("option", "directive", "words"),
    [
        ("--exclusive", "--exclusive", ["--exclusive"]),
        ("--comment=a#b", '--comment="a#b"', ["--comment=a#b"]),
        ("--comment='two words'", '--comment="two words"', ["--comment=two words"]),
        ("-C 'a&b'", '-C "a&b"', ["-C", "a&b"]),
        ("--wait-all-nodes=1", "--wait-all-nodes=1", ["--wait-all-nodes=1"]),
    ],
)
def test_an_option_means_the_same_in_the_script_and_on_the_command_line(
    option: str, directive: str, words: list[str]
) -> None:
    launch = Launch(command=("true",), options={"sbatch": (option,)})
    assert f"\n#SBATCH {directive}\n" in launcher("slurm").render(launch)
    assert words in list(slurm._options(launch))


SBATCH = """#!/bin/sh
for word in "$@"; do last=$word; done
echo "12||/q/a.sh $last|" >>"$HERE/jobs"
{rest}
"""
SQUEUE = """#!/bin/sh
cat "$HERE/jobs" 2>/dev/null || exit 0
"""


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Makes a command of that name and text."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("HERE", str(tmp_path))
    monkeypatch.setattr(asking, "_LOOK_EVERY_S", 0.1)
    monkeypatch.setattr(asking, "_LOOK_FOR_S", 0.5)

    def make(name: str, text: str) -> None:
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    return make


@pytest.mark.parametrize(
    "rest",
    ["exec sleep 600", "echo 'sbatch: error: Batch job submission failed: Socket timed out on "
     "send/recv operation' >&2; exit 1"],
)  # fmt: skip
def test_a_job_whose_answer_was_lost_is_found_by_its_mark(
    fakes: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch, rest: str
) -> None:
    monkeypatch.setattr(commands, "SILENT_S", 0.2)
    monkeypatch.setattr(commands, "PATIENCE_S", 0.5)
    fakes("sbatch", SBATCH.format(rest=rest))
    fakes("squeue", SQUEUE)
    assert asking.sbatch([], ["/q/a.sh", "minionize=0af3-0"], os.environ) == "12"


@pytest.mark.parametrize(
    ("said", "looked_for"),
    [
        ("Batch job submission failed: Socket timed out on send/recv operation", True),
        (
            "Batch job submission failed: Unable to contact slurm controller (connect failure)",
            False,
        ),
        ("Batch job submission failed: Invalid partition name specified", False),
    ],
)
def test_one_that_did_not_arrive_is_not_found(
    fakes: Callable[[str, str], None], tmp_path: Path, said: str, looked_for: bool
) -> None:
    """Nor is another's taken for it."""
    fakes("sbatch", f"#!/bin/sh\necho 'sbatch: error: {said}' >&2; exit 1")
    fakes("squeue", f"#!/bin/sh\n: >{tmp_path}/asked; echo '12||/q/a.sh minionize=0af3-1|'")
    with pytest.raises(LaunchRefused, match="Batch job submission failed"):
        asking.sbatch([], ["/q/a.sh", "minionize=0af3-0"], os.environ)
    assert (tmp_path / "asked").exists() is looked_for


@pytest.mark.parametrize(
    ("options", "env", "clusters"),
    [
        ([], {}, ""),
        ([], {"SLURM_CLUSTERS": "a"}, "a"),
        ([], {"SLURM_CLUSTERS": "a", "SBATCH_CLUSTERS": "b"}, "b"),
        (["--clusters=c,d"], {"SBATCH_CLUSTERS": "b"}, "c,d"),
        (["-M", "c", "--time=1"], {}, "c"),
        (["-Mc"], {}, "c"),
    ],
)
def test_where_a_lost_job_is_looked_for(
    options: list[str], env: dict[str, str], clusters: str
) -> None:
    assert asking._clusters(options, env) == clusters


@pytest.mark.parametrize(
    ("folder", "workdir", "logs"),
    [("/q/launches", "/work", "/q/launches"), (None, "/work", "/work"), (None, None, ".")],
)
def test_output_goes_to_the_launch_s_folder_or_where_it_works(
    folder: str | None, workdir: str | None, logs: str
) -> None:
    launch = Launch(name="m", command=("true",), folder=folder, workdir=workdir)
    assert f"#SBATCH --output={logs}/logs/m.%A_%a.out" in slurm.render(launch)

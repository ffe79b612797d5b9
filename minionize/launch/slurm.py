"""Slurm: minions as the tasks of a job array."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence

from minionize.errors import MinionizeError, UsageError
from minionize.launch import commands, files
from minionize.launch.contract import Key
from minionize.launch.script import (
    SETUP,
    clock,
    file_name,
    last,
    printable,
    script,
    whole,
    write_script,
    yes,
)
from minionize.launch.slurm_states import job_of_sacct, job_of_squeue
from minionize.launch.values import Job, JobState, Launch, LogLine, Submitted
from minionize.settings import parsing

SHARES_FILES = True


def _quotable(value: str) -> str:
    """The value, as sbatch reads the words of a directive. ValueError where it can't."""
    printable(value)
    if re.fullmatch(r"[A-Za-z0-9_./:=,%@+-]+", value):
        return value
    if "\\" in value:
        raise ValueError(f"{value!r} has a backslash, which Slurm's files can't: choose another")
    if '"' not in value:
        return f'"{value}"'
    if "'" not in value:
        return f"'{value}'"
    raise ValueError(f"{value!r} has both kinds of quotes: leave one out")


def _quoted(what: str, value: str) -> str:
    try:
        return _quotable(value)
    except ValueError as error:
        raise UsageError(f"{what} {error}") from None


def _option(word: str) -> str:
    if not word.startswith("-"):
        raise ValueError(f"{word!r} is no option of sbatch: write --NAME")
    return printable(word)


KEYS = {
    "partition": Key("sbatch --partition", parse=_quotable),
    "account": Key("sbatch --account", parse=_quotable),
    "qos": Key("sbatch --qos", parse=_quotable),
    "gres": Key("sbatch --gres, instead of what --gpus says", parse=_quotable),
    "constraint": Key("sbatch --constraint", parse=_quotable),
    "requeue": Key(
        "no: what is preempted, or loses its node, isn't started again (yes)",
        parse=parsing.flag,
    ),
    "warn": Key(
        "Seconds before its end at which a minion gets USR1 (60, or --grace and 30)",
        parse=parsing.whole_from(1),
    ),
    "throttle": Key("At most so many minions run at once", parse=parsing.whole_from(1)),
    "sbatch": Key("One more option of sbatch: --exclusive", many=True, parse=_option),
    "setup": SETUP,
}

_NAME = "Slurm"
_NO_CONFIGURATION = (
    "launch on Slurm's front end or login node, or have SLURM_CONF name its slurm.conf; --dry-run "
    "prints the script without it"
)
_REMEDIES = (
    ("Could not establish a configuration source", _NO_CONFIGURATION),
    ("Unable to process configuration file", _NO_CONFIGURATION),
    ("Unable to contact slurm controller", "see whether it is up (scontrol ping), then try again"),
    ("Problem talking to the database", "see whether slurmdbd is up, then try again"),
)
"""What its commands say, and what helps then."""
_LIMIT = 1000
"""Tasks of an array where the site says nothing else; Slurm's own default."""


def render(launch: Launch) -> str:
    """The script, with its directives: `sbatch` alone starts it too."""
    return script(launch, [f"#SBATCH {option}" for option in _options(launch)], list(_end(launch)))


def submit(launch: Launch) -> Submitted:
    """`sbatch`, several times where the site's arrays are smaller than that."""
    assert launch.folder is not None
    text = render(launch)
    sizes = _shares(launch.minions, _array_limit()) if launch.minions > 1 else [1]
    path = write_script(launch.folder, launch.name, text)
    jobs: list[str] = []
    try:
        for size in sizes:
            said = _run(["sbatch", "--parsable", f"--array={_array(size, launch)}", path])
            # `--parsable`: the id, and behind ; the cluster's name where there are several.
            jobs.append(said.strip().splitlines()[-1])
    except MinionizeError:
        if jobs:
            _run(["scancel", *(job.partition(";")[0] for job in jobs)])
        raise
    return files.submitted(launch, "slurm", [job.partition(";")[0] for job in jobs], _log(launch))


def states(submitted: Sequence[Submitted]) -> Sequence[Job]:
    """One `squeue` for all. Slurm forgets each task some minutes after its end: `sacct` tells of
    those, where there is accounting; elsewhere they are UNKNOWN."""
    wanted = [task for each in submitted for task in _tasks(each)]
    if not wanted:
        return []
    found = {job.id: job for job in _squeue(_arrays(wanted))}
    forgotten = [task for task in wanted if task not in found]
    if forgotten and _accounts():
        told = {job.id: job for job in _sacct(_arrays(forgotten))}
        found = {**told, **found}
    return [
        found.get(task) or Job(task, JobState.UNKNOWN, "", "Slurm has forgotten it")
        for task in wanted
    ]


def logs(submitted: Submitted, *, follow: bool) -> Iterator[LogLine]:
    """The lines of the tasks' files."""
    return files.lines(submitted, follow=follow, states=lambda: states([submitted]))


def cancel(submitted: Submitted) -> int:
    """`scancel`: first the warning, then, when the grace is over, Slurm's own end."""
    alive = [job for job in states([submitted]) if job.state.alive]
    if alive:
        _run(["scancel", *submitted.job_ids])
    return len(alive)


def _run(argv: Sequence[str]) -> str:
    return commands.run(argv, _NAME, _REMEDIES)


def _options(launch: Launch) -> Iterator[str]:
    yield f"--job-name={_quoted('--name', launch.name)}"
    yield f"--array={_array(launch.minions, launch)}"
    yield "--nodes=1"
    yield "--ntasks=1"
    if launch.cpus is not None:
        yield f"--cpus-per-task={launch.cpus}"
    if launch.memory_mib is not None:
        yield f"--mem={launch.memory_mib}M"
    gres = last(launch, "gres")
    if gres is None and launch.gpus is not None:
        gres = f"gpu:{launch.gpus}"
    if gres is not None:
        yield f"--gres={_quoted('-O gres=', gres)}"
    if launch.wall_time_s is not None:
        yield f"--time={clock(_whole_minutes(launch.wall_time_s) * 60)}"
    for key in ("partition", "account", "qos", "constraint"):
        value = last(launch, key)
        if value is not None:
            yield f"--{key}={_quoted(f'-O {key}=', value)}"
    yield "--requeue" if yes(launch, "requeue", default=True) else "--no-requeue"
    # B: to the script itself, which is minionize after its exec.
    yield f"--signal=B:USR1@{whole(launch, 'warn') or max(60, math.ceil(launch.grace_s) + 30)}"
    yield f"--output={_quoted('the folder', _log(launch))}"
    yield "--open-mode=append"  # a requeued task goes on in its file
    for option in launch.options.get("sbatch", ()):
        try:
            yield _option(option)
        except ValueError as error:
            raise UsageError(f"-O sbatch={option}: {error}") from None


def _end(launch: Launch) -> Iterator[str]:
    if launch.wall_time_s is not None:
        # Slurm says so itself from 23.02 on; a minion that knows it ends before the warning.
        yield (
            ": ${SLURM_JOB_END_TIME:=$(($(date +%s) + "
            f"{_whole_minutes(launch.wall_time_s) * 60}))}}; export SLURM_JOB_END_TIME"
        )


def _whole_minutes(seconds: float) -> int:
    """Slurm counts in minutes, and rounds up."""
    return math.ceil(seconds / 60)


def _array(size: int, launch: Launch) -> str:
    throttle = whole(launch, "throttle")
    return f"1-{size}" + (f"%{throttle}" if throttle is not None else "")


def _log(launch: Launch) -> str:
    folder = (launch.folder or launch.workdir or ".").replace("%", "%%")
    return os.path.join(folder, "logs", f"{file_name(launch.name)}.%A_%a.out")


def _shares(minions: int, limit: int) -> list[int]:
    """`minions` in as few arrays of at most `limit` as it takes, of about the same size."""
    return _evenly(minions, -(-minions // limit))


def _evenly(minions: int, arrays: int) -> list[int]:
    return [minions // arrays + (at < minions % arrays) for at in range(arrays)]


def _tasks(submitted: Submitted) -> list[str]:
    """The ids of all tasks of its arrays, in order."""
    arrays = submitted.job_ids
    sizes = _evenly(submitted.minions, len(arrays)) if arrays else []
    return [
        f"{job}_{task}"
        for job, size in zip(arrays, sizes, strict=True)
        for task in range(1, size + 1)
    ]


def _arrays(tasks: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(task.partition("_")[0] for task in tasks))


def _array_limit() -> int:
    """Tasks that an array of this site may have; they are numbered from 1."""
    said = _configuration().get("MaxArraySize", "")
    return int(said) - 1 if said.isdecimal() and int(said) > 1 else _LIMIT


def _accounts() -> bool:
    kind = _configuration().get("AccountingStorageType", "")
    return kind not in ("", "(null)", "accounting_storage/none")


def _configuration() -> dict[str, str]:
    pairs = (line.partition("=")[::2] for line in _run(["scontrol", "show", "config"]).splitlines())
    return {key.strip(): value.strip() for key, value in pairs}


def _squeue(wanted: Sequence[str]) -> list[Job]:
    form = "JobArrayID:|,State:|,NodeList:|,exit_code:|,Reason:|"
    argv = ["squeue", "--noheader", "--array", "--states=all", f"--Format={form}"]
    try:
        said = _run([*argv, f"--jobs={','.join(wanted)}"])
    except commands.Refused as refused:
        # It says so of one job alone; of several it leaves out the forgotten ones.
        if "Invalid job id" not in refused.said:
            raise
        return []
    return [job_of_squeue(line) for line in said.splitlines() if line.strip()]


def _sacct(wanted: Sequence[str]) -> list[Job]:
    argv = ["sacct", "--noheader", "--parsable2", "--allocations"]
    form = "--format=JobID,State,NodeList,ExitCode"
    said = _run([*argv, form, f"--jobs={','.join(wanted)}"])
    return [job_of_sacct(line) for line in said.splitlines() if line.strip()]

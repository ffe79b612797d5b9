"""Slurm: minions as the tasks of a job array."""

from __future__ import annotations

import math
import os
import re
import secrets
import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from minionize.errors import LaunchRefused, MinionizeError, UsageError
from minionize.launch import commands, environment, files
from minionize.launch import slurm_asking as asking
from minionize.launch.contract import Key
from minionize.launch.identity import leave_alone, marked
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
from minionize.launch.slurm_states import LEAVING, Identity, Seen
from minionize.launch.values import Job, JobState, Launch, LogLine, Submitted
from minionize.settings import parsing
from minionize.values import RUN_VARIABLES

SHARES_FILES = True


def _quotable(value: str) -> str:
    """The value, as sbatch reads the words of a directive. ValueError where it can't."""
    printable(value)
    if re.fullmatch(r"[A-Za-z0-9_./:=,%@+-]+", value):
        return value
    if "\\" in value:
        raise ValueError(f"{value!r} has a backslash, which Slurm's files can't: choose another")
    # What stands before = is left as it is: so people write it.
    name, equals, rest = value.partition("=")
    if not (value.startswith("--") and equals):
        name, equals, rest = "", "", value
    if '"' not in rest:
        return f'{name}{equals}"{rest}"'
    if "'" not in rest:
        return f"{name}{equals}'{rest}'"
    raise ValueError(f"{value!r} has both kinds of quotes: leave one out")


def _fit(what: str, value: str) -> str:
    """The value, which can stand in a directive. UsageError where it can't."""
    try:
        _quotable(value)
        return value
    except ValueError as error:
        raise UsageError(f"{what} {error}") from None


def _option(text: str) -> list[str]:
    """The words of an option, as a directive has them. ValueError where they are none."""
    if not text.startswith("-"):
        raise ValueError(f"{text!r} is no option of sbatch: write --NAME")
    words = shlex.split(printable(text))
    for word in words:
        _quotable(word)
        name = word.removeprefix("--").partition("=")[0]
        once = [each for each in _ONCE if word.startswith("--") and each.startswith(name)]
        if (once and len(name) > 2) or re.match("-[aW]", word):
            raise ValueError(f"{word!r} is for minion launch to say (-n, --wait): leave it out")
    return words


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

_CANCEL_S = 10.0
"""So long after `scancel` a job may still be said to wait or run."""
_LOOK_EVERY_S = 0.5
_ONCE = ("array", "wait", "wrap", "test-only")
"""Options of sbatch by which there would be other jobs than were launched, or none."""


def render(launch: Launch) -> str:
    """The script, with its directives: `sbatch` alone starts it too."""
    directives = [f"#SBATCH {' '.join(map(_quotable, words))}" for words in _options(launch)]
    return script(launch, directives, list(_first(launch)))


def submit(launch: Launch) -> Submitted:
    """`sbatch`, several times where the site's arrays are smaller than that. What the script says
    stands on its command line, too, since variables win over a script."""
    assert launch.folder is not None
    text = render(launch)
    sizes = _shares(launch.minions, asking.site().array_limit) if launch.minions > 1 else [1]
    path = write_script(launch.folder, launch.name, text)
    mark = secrets.token_hex(6)
    log = _log(launch, mark)
    options = [word for words in _options(launch, log) for word in words]
    env = environment.submitting(os.environ)
    left_out = environment.unheeded(os.environ)
    if left_out:
        commands.tell(f"{', '.join(left_out)}: not heeded: say it with an option, or -O sbatch=")
    said: list[str] = []
    try:
        for size in sizes:
            words = [path, marked(mark, len(said))]
            said.append(asking.sbatch([*options, f"--array={_array(size, launch)}"], words, env))
    except MinionizeError:
        for job in said:
            asking.run(["scancel", *_elsewhere(job.partition(";")[2]), job.partition(";")[0]])
        raise
    jobs = [job.partition(";")[0] for job in said]
    cluster = said[0].partition(";")[2] or asking.site().cluster
    submitted = files.submitted(launch, "slurm", jobs, log)
    details = {"cluster": cluster, "mark": mark, "submit_times": _submit_times(cluster, jobs)}
    return replace(submitted, details=details)


def _submit_times(cluster: str, jobs: Sequence[str]) -> str:
    """Unix times for these jobs, with blanks between; empty where one is not told."""
    try:
        seen = asking.squeue(_elsewhere(cluster), jobs)
    except MinionizeError:  # they are in, and their mark tells them from others
        return ""
    times = {each.job.id.partition("_")[0]: each.submitted for each in seen}
    return " ".join(str(times.get(job, "?")) for job in jobs)


def states(submitted: Sequence[Submitted]) -> Sequence[Job]:
    """See `states_of_each`."""
    return [job for jobs in states_of_each(submitted) for job in jobs]


def states_of_each(submitted: Sequence[Submitted]) -> Sequence[Sequence[Job]]:
    """One `squeue` for all of a cluster. Slurm forgets each task some minutes after its end:
    `sacct` tells of those, where there is accounting; elsewhere they are UNKNOWN. So are those of
    a cluster that can't be asked from here, and those whose number another job has."""
    clusters: dict[str, list[Submitted]] = {}
    for each in submitted:
        clusters.setdefault(Identity.of(each).cluster, []).append(each)
    found: dict[int, list[Job]] = {}
    for cluster, launches in clusters.items():
        for each, jobs in zip(launches, _states_on(cluster, launches), strict=True):
            found[id(each)] = jobs
    return [found[id(each)] for each in submitted]


def _states_on(cluster: str, launches: Sequence[Submitted]) -> list[list[Job]]:
    """The jobs of each of these launches on one cluster."""
    other = _elsewhere(cluster)
    wanted = [(Identity.of(each), _tasks(each)) for each in launches]
    every = [task for _, tasks in wanted for task in tasks]
    if not every:
        return [[] for _ in launches]
    try:
        seen = asking.squeue(other, _arrays(every))
    except commands.Refused:
        if not other:
            raise
        asking.site(again=True)  # it may be the one here, the next time
        return _out_of_reach(cluster, wanted)
    at_work = {each.job.id: each for each in seen}
    missing = [task for whose, tasks in wanted for task in tasks
               if task not in at_work or not at_work[task].is_of(whose)]  # fmt: skip
    over: dict[str, list[Seen]] = {}
    if missing:
        here = asking.site(again=True)
        if cluster and not other and here.cluster != cluster:
            return _out_of_reach(cluster, wanted)
        if other or here.accounts:
            for each in asking.sacct(other, _arrays(missing)):
                over.setdefault(each.job.id, []).append(each)
    return [
        [_job(task, whose, at_work.get(task), over.get(task, ())) for task in tasks]
        for whose, tasks in wanted
    ]


def _out_of_reach(cluster: str, wanted: Sequence[tuple[Identity, list[str]]]) -> list[list[Job]]:
    why = f"on cluster {cluster}, which can't be asked from here: ask on its front end"
    return [[Job(task, JobState.UNKNOWN, "", why) for task in tasks] for _, tasks in wanted]


def _job(task: str, whose: Identity, at_work: Seen | None, over: Sequence[Seen]) -> Job:
    """What the controller, and else the accounts, tell of a task."""
    if at_work is not None and at_work.is_of(whose):
        return at_work.job
    ours = [each.job for each in over if each.is_of(whose)]
    if ours:
        return ours[-1]
    if at_work is not None:
        why = f"another job has its number now: {at_work.called()}"
        return Job(task, JobState.UNKNOWN, "", why)
    return Job(task, JobState.UNKNOWN, "", "Slurm has forgotten it", gone=True)


def logs(submitted: Submitted, *, follow: bool) -> Iterator[LogLine]:
    """The lines of the tasks' files."""
    return files.lines(submitted, follow=follow, states=lambda: states([submitted]))


def cancel(submitted: Submitted) -> int:
    """`scancel`: first the warning, then, when the grace is over, Slurm's own end. Then Slurm is
    asked whether that took."""
    before = states([submitted])
    alive = [job for job in before if job.state.alive]
    if alive:
        cluster = Identity.of(submitted).cluster
        asking.run(["scancel", *_elsewhere(cluster), *_arrays([job.id for job in alive])])
        until = time.monotonic() + _CANCEL_S
        while left := [job for job in states([submitted]) if _goes_on(job)]:
            if time.monotonic() > until:
                raise LaunchRefused(
                    f"scancel told {len(alive)} jobs to end, and {len(left)} of them go on: "
                    f"{left[0].id} is {left[0].detail}; see scontrol show job {left[0].id}"
                )
            time.sleep(_LOOK_EVERY_S)
    leave_alone([job for job in before if not (job.over or job.state.alive)], len(alive))
    return len(alive)


def _goes_on(job: Job) -> bool:
    return job.state.alive and job.detail not in LEAVING


def _elsewhere(cluster: str) -> list[str]:
    """The option by which Slurm's commands ask this cluster; none for the one here."""
    return [f"--clusters={cluster}"] if cluster and cluster != asking.site().cluster else []


def _options(launch: Launch, log: str = "") -> Iterator[list[str]]:
    """Options of sbatch, each with its value if that is a word of its own."""
    yield [f"--job-name={_fit('--name', launch.name)}"]
    yield [f"--array={_array(launch.minions, launch)}"]
    yield ["--nodes=1"]
    yield ["--ntasks=1"]
    if launch.cpus is not None:
        yield [f"--cpus-per-task={launch.cpus}"]
    if launch.memory_mib is not None:
        yield [f"--mem={launch.memory_mib}M"]
    gres = last(launch, "gres")
    if gres is None and launch.gpus is not None:
        gres = f"gpu:{launch.gpus}"
    if gres is not None:
        yield [f"--gres={_fit('-O gres=', gres)}"]
    if launch.wall_time_s is not None:
        yield [f"--time={clock(_whole_minutes(launch.wall_time_s) * 60)}"]
    for key in ("partition", "account", "qos", "constraint"):
        value = last(launch, key)
        if value is not None:
            yield [f"--{key}={_fit(f'-O {key}=', value)}"]
    yield ["--requeue" if yes(launch, "requeue", default=True) else "--no-requeue"]
    # B: to the script itself, which is minionize after its exec.
    yield [f"--signal=B:USR1@{whole(launch, 'warn') or max(60, math.ceil(launch.grace_s) + 30)}"]
    yield [f"--output={_fit('the folder', log or _log(launch))}"]
    yield ["--open-mode=append"]  # a requeued task goes on in its file
    for option in launch.options.get("sbatch", ()):
        try:
            yield _option(option)
        except ValueError as error:
            raise UsageError(f"-O sbatch={option}: {error}") from None


def _first(launch: Launch) -> Iterator[str]:
    yield "set --"  # its argument is the launch's mark, and not for files that `setup` sources
    # A run of ours may have submitted this script, and then its variables are here.
    yield f"unset {' '.join(RUN_VARIABLES)}"
    if launch.wall_time_s is not None:
        # Slurm says so itself from 23.02 on; before, it would be what another job was told.
        yield (
            "export SLURM_JOB_END_TIME=$(($(date +%s) + "
            f"{_whole_minutes(launch.wall_time_s) * 60}))"
        )


def _whole_minutes(seconds: float) -> int:
    """Slurm counts in minutes, and rounds up."""
    return math.ceil(seconds / 60)


def _array(size: int, launch: Launch) -> str:
    throttle = whole(launch, "throttle")
    return f"1-{size}" + (f"%{throttle}" if throttle is not None else "")


def _log(launch: Launch, mark: str = "") -> str:
    """With the mark of one launch: another cluster may give the same numbers."""
    folder = (launch.folder or launch.workdir or ".").replace("%", "%%")
    name = ".".join(filter(None, (file_name(launch.name), mark, "%A_%a.out")))
    return os.path.join(folder, "logs", name)


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

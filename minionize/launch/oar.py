"""OAR: minions as the jobs of an array."""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from minionize.errors import LaunchRefused, UsageError
from minionize.launch import commands, files
from minionize.launch.contract import Key
from minionize.launch.environment import submitting
from minionize.launch.identity import leave_alone, marked
from minionize.launch.oar_states import is_cancelled, is_of, is_told, job_of_oarstat
from minionize.launch.script import (
    SETUP,
    clock,
    file_name,
    last,
    on_one_line,
    printable,
    script,
    whole,
    write_script,
    yes,
)
from minionize.launch.values import Job, JobState, Launch, LogLine, Submitted
from minionize.settings import parsing

SHARES_FILES = True

KEYS = {
    "besteffort": Key(
        "no: jobs that count, and aren't killed for others' (yes)", parse=parsing.flag
    ),
    "idempotent": Key("no: a job that is killed isn't started again (yes)", parse=parsing.flag),
    "type": Key("oarsub -t, besides the two above", many=True, parse=printable),
    "property": Key("oarsub -p: cluster = 'a' AND mem > 64000", parse=printable),
    "resources": Key(
        "oarsub -l without its walltime, instead of what --cpus and --gpus say", parse=printable
    ),
    "queue": Key("oarsub -q", parse=printable),
    "project": Key("oarsub --project", parse=printable),
    "checkpoint": Key(
        "Seconds before its end at which a minion gets USR2 (60, or --grace and 30)",
        parse=parsing.whole_from(1),
    ),
    "notify": Key("oarsub --notify", parse=printable),
    "setup": SETUP,
}

_NAME = "OAR"
_DOWN = "see whether OAR's server and its database are up, then try again"
_REMEDIES = (
    ("DB connection error", _DOWN),
    ("Could not connect to the socket", _DOWN),
    (
        "Invalid stdout file name",
        "OAR takes letters, digits, blanks and _ . - there: have the queue in such a folder",
    ),
)
"""What its commands say, and what helps then."""
_USR2 = 12
_CANCEL_S = 20.0
"""So long after `oardel` a job may still be as before."""
_LOOK_EVERY_S = 0.5
_ASKED_AT_ONCE = 2000
"""Jobs in one question: a word of a command line may be 128 KiB long."""
_AT_ONCE = 20
"""Jobs that `oardel` tells at a time: to each it goes by ssh."""


def render(launch: Launch) -> str:
    """The script, with its directives: `oarsub -S` alone starts it too."""
    directives = [f"#OAR {flag} {value}" for flag, value in _options(launch)]
    options = launch.minionize_options
    if yes(launch, "idempotent", default=True) and not {"--requeue", "--no-requeue"} & {*options}:
        # It could ask OAR whether its job is idempotent, but not on nodes without `oarstat`.
        launch = replace(launch, minionize_options=(*options, "--requeue"))
    # Its argument is the launch's mark, and not for files that `setup` sources.
    return script(launch, directives, ["set --"])


def submit(launch: Launch) -> Submitted:
    """`oarsub`, with the directives as its options, since `-S` can't read a script whose path
    has blanks."""
    assert launch.folder is not None
    path = write_script(launch.folder, launch.name, render(launch))
    if not os.access(path, os.X_OK):
        raise UsageError(
            f"{path} can't be executed, and OAR would find that out later: mount its disk without "
            "noexec, or have the queue elsewhere"
        )
    mark = secrets.token_hex(6)
    log = _log(launch, mark)
    options = [word for option in _options(launch, log) for word in option]
    jobs = _oarsub([*options, f"{shlex.quote(path)} {marked(mark)}"], mark)
    submitted = files.submitted(launch, "oar", jobs, log)
    return replace(submitted, details={"mark": mark})


def _oarsub(words: Sequence[str], mark: str) -> list[str]:
    """The jobs that were submitted. Where no answer comes, they are looked for by their mark."""
    try:
        said = commands.run(["oarsub", *words], _NAME, _REMEDIES, submitting(os.environ))
    except commands.Unanswered:
        where = f"command LIKE '%{marked(mark)}'"
        jobs = sorted(_asked(where), key=int)
        if not jobs:
            raise
        return jobs
    jobs = re.findall(r"^OAR_JOB_ID=([0-9]+)$", said, re.MULTILINE)
    if not jobs:
        raise LaunchRefused(f"oarsub named no job: {' '.join(said.split())}")
    return jobs


def states(submitted: Sequence[Submitted]) -> Sequence[Job]:
    """See `states_of_each`."""
    return [job for jobs in states_of_each(submitted) for job in jobs]


def states_of_each(submitted: Sequence[Submitted]) -> Sequence[Sequence[Job]]:
    """One `oarstat` for all, and for those that took the places of killed ones."""
    rows = _rows(submitted)
    return [_jobs_of(each, rows) for each in submitted]


def _jobs_of(submitted: Submitted, rows: Mapping[str, dict[str, Any]]) -> list[Job]:
    jobs = [job_of_oarstat(id, row) for id, row in _ours(rows, [submitted]).items()]
    known = {job.id for job in jobs}
    for id in (id for id in submitted.job_ids if id not in known):
        why = "OAR has another job of that number" if id in rows else "OAR has no such job"
        jobs.append(Job(id, JobState.UNKNOWN, "", f"{why}: was it launched at another site?"))
    return sorted(jobs, key=lambda job: int(job.id))


def _ours(
    rows: Mapping[str, dict[str, Any]], submitted: Sequence[Submitted]
) -> dict[str, dict[str, Any]]:
    """Those of these rows that are surely of these launches."""
    by_id = {id: each for each in submitted for id in each.job_ids}
    found: dict[str, dict[str, Any]] = {}
    for id, row in sorted(rows.items(), key=lambda pair: int(pair[0])):
        # One that took the place of another has a number above it.
        whose = by_id.get(id) or by_id.get(str(row.get("resubmit_job_id")))
        if whose is not None and is_of(row, whose):
            found[id] = row
            by_id[id] = whose
    return found


def _rows(submitted: Sequence[Submitted]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    wanted = [job for each in submitted for job in each.job_ids]
    while wanted:
        rows: dict[str, dict[str, Any]] = {}
        for at in range(0, len(wanted), _ASKED_AT_ONCE):
            ids = ",".join(wanted[at : at + _ASKED_AT_ONCE])
            rows.update(_asked(f"job_id IN ({ids}) OR resubmit_job_id IN ({ids})"))
        # A job that was started again may have been killed again.
        asked = {*wanted}
        wanted = [id for id in rows if id not in found and id not in asked]
        found.update(rows)
    return found


def _asked(where: str) -> dict[str, dict[str, Any]]:
    said = _run(["oarstat", "--json", "--full", "--sql", where])
    rows: dict[str, dict[str, Any]] = json.loads(said) if said.strip() else {}
    return rows


def logs(submitted: Submitted, *, follow: bool) -> Iterator[LogLine]:
    """The lines of the jobs' files."""
    return files.lines(submitted, follow=follow, states=lambda: states([submitted]))


def cancel(submitted: Submitted) -> int:
    """INT to what runs, as of a person's Ctrl-C: it gives back what it holds, and ends with no 99,
    for which OAR would start it again. What waits, and what was told before, is deleted."""
    alive, unknown = _alive(submitted), _unknown(submitted)
    running = [
        id for id, row in alive.items() if row.get("state") == "Running" and not is_cancelled(row)
    ]
    # First what waits: it would take the places of the others.
    _delete([id for id in alive if id not in running])
    try:
        for at in range(0, len(running), _AT_ONCE):
            _run(["oardel", "--signal", "INT", *running[at : at + _AT_ONCE]])
    except commands.Refused:
        # Some ended meanwhile, or their nodes don't answer.
        _delete([id for id, row in _alive(submitted).items()
                 if id in running and not is_cancelled(row)])  # fmt: skip
    until = time.monotonic() + _CANCEL_S
    while left := [id for id, row in _alive(submitted).items() if id in alive and not is_told(row)]:
        if time.monotonic() > until:
            raise LaunchRefused(
                f"oardel told {len(alive)} jobs to end, and {len(left)} of them go on: see "
                f"oarstat -f -j {left[0]}"
            )
        time.sleep(_LOOK_EVERY_S)
    leave_alone(unknown, len(alive))
    return len(alive)


def _alive(submitted: Submitted) -> dict[str, dict[str, Any]]:
    rows = _ours(_rows([submitted]), [submitted])
    return {id: row for id, row in rows.items() if job_of_oarstat(id, row).state.alive}


def _unknown(submitted: Submitted) -> list[Job]:
    return [job for job in states([submitted]) if not (job.over or job.state.alive)]


def _run(argv: Sequence[str]) -> str:
    return commands.run(argv, _NAME, _REMEDIES)


def _delete(ids: Sequence[str]) -> None:
    if ids:
        _run(["oardel", *ids])


def _options(launch: Launch, log: str = "") -> Iterator[tuple[str, str]]:
    """Pairs of option and value; OAR takes a directive's value as it stands, to the line's end."""
    yield "-n", on_one_line("--name", launch.name)
    yield "--array", str(launch.minions)
    resources = _resources(launch)
    if resources:
        yield "-l", on_one_line("-O resources=", resources)
    if yes(launch, "besteffort", default=True):
        yield "-t", "besteffort"
    if yes(launch, "idempotent", default=True):
        yield "-t", "idempotent"
    for kind in launch.options.get("type", ()):
        yield "-t", on_one_line("-O type=", kind)
    for key, flag in (("property", "-p"), ("queue", "-q"), ("project", "--project")):
        value = last(launch, key)
        if value is not None:
            yield flag, on_one_line(f"-O {key}=", value)
    yield (
        "--checkpoint",
        str(whole(launch, "checkpoint") or max(60, math.ceil(launch.grace_s) + 30)),
    )
    yield "--signal", str(_USR2)
    notify = last(launch, "notify")
    if notify is not None:
        yield "--notify", on_one_line("-O notify=", notify)
    if launch.workdir is not None:
        yield "-d", on_one_line("the folder", launch.workdir)
    log = log or _log(launch)
    yield "-O", on_one_line("the folder", log)
    yield "-E", log


def _resources(launch: Launch) -> str:
    resources = last(launch, "resources")
    if resources is None:
        if launch.memory_mib is not None:
            raise UsageError(
                "--memory: OAR has no word for it; use the site's property, "
                "as -O property='mem >= 4096'"
            )
        parts = []
        if launch.cpus is not None or launch.gpus is not None:
            parts.append("nodes=1")
        if launch.gpus is not None:
            parts.append(f"gpu={launch.gpus}")
        if launch.cpus is not None:
            parts.append(f"core={math.ceil(launch.cpus / (launch.gpus or 1))}")
        resources = "/" + "/".join(parts) if parts else ""
    if launch.wall_time_s is None:
        return resources
    return ",".join(filter(None, (resources, f"walltime={clock(launch.wall_time_s)}")))


def _log(launch: Launch, mark: str = "") -> str:
    """With the mark of one launch: another site may give the same numbers."""
    folder = launch.folder or launch.workdir or "."
    name = ".".join(filter(None, (file_name(launch.name), mark, "%jobid%.out")))
    return os.path.join(folder, "logs", name)

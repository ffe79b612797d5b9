"""OAR: minions as the jobs of an array."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from minionize.errors import LaunchRefused, UsageError
from minionize.launch import commands, files
from minionize.launch.contract import Key
from minionize.launch.oar_states import is_cancelled, job_of_oarstat
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
from minionize.launch.values import Job, Launch, LogLine, Submitted
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
_REMEDIES = (("DB connection error", _DOWN), ("Could not connect to the socket", _DOWN))
"""What its commands say, and what helps then."""
_USR2 = 12
_AT_ONCE = 20
"""Jobs that `oardel` tells at a time: to each it goes by ssh."""


def render(launch: Launch) -> str:
    """The script, with its directives: `oarsub -S` alone starts it too."""
    directives = [f"#OAR {flag} {value}" for flag, value in _options(launch)]
    options = launch.minionize_options
    if yes(launch, "idempotent", default=True) and not {"--requeue", "--no-requeue"} & {*options}:
        # It could ask OAR whether its job is idempotent, but not on nodes without `oarstat`.
        launch = replace(launch, minionize_options=(*options, "--requeue"))
    return script(launch, directives)


def submit(launch: Launch) -> Submitted:
    """`oarsub`, with the directives as its options, since `-S` can't read a script whose path
    has blanks."""
    assert launch.folder is not None
    path = write_script(launch.folder, launch.name, render(launch))
    options = [word for option in _options(launch) for word in option]
    said = _run(["oarsub", *options, shlex.quote(path)])
    jobs = re.findall(r"^OAR_JOB_ID=([0-9]+)$", said, re.MULTILINE)
    if not jobs:
        raise LaunchRefused(f"oarsub named no job: {' '.join(said.split())}")
    return files.submitted(launch, "oar", jobs, _log(launch))


def states(submitted: Sequence[Submitted]) -> Sequence[Job]:
    """One `oarstat` for all, and for those that took the places of killed ones."""
    jobs = [job_of_oarstat(id, row) for id, row in _rows(submitted).items()]
    return sorted(jobs, key=lambda job: int(job.id))


def _rows(submitted: Sequence[Submitted]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    wanted = [job for each in submitted for job in each.job_ids]
    while wanted:
        ids = ",".join(wanted)
        where = f"job_id IN ({ids}) OR resubmit_job_id IN ({ids})"
        said = _run(["oarstat", "--json", "--full", "--sql", where])
        rows: dict[str, dict[str, Any]] = json.loads(said) if said.strip() else {}
        # A job that was started again may have been killed again.
        wanted = [id for id in rows if id not in found and id not in wanted]
        found.update(rows)
    return found


def logs(submitted: Submitted, *, follow: bool) -> Iterator[LogLine]:
    """The lines of the jobs' files."""
    return files.lines(submitted, follow=follow, states=lambda: states([submitted]))


def cancel(submitted: Submitted) -> int:
    """INT to what runs, as of a person's Ctrl-C: it gives back what it holds, and ends with no 99,
    for which OAR would start it again. What waits, and what was told before, is deleted."""
    alive = {
        id: row for id, row in _rows([submitted]).items() if job_of_oarstat(id, row).state.alive
    }
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
        rows = _rows([submitted])
        left = [id for id in running if job_of_oarstat(id, rows[id]).state.alive]
        _delete([id for id in left if not is_cancelled(rows[id])])
    return len(alive)


def _run(argv: Sequence[str]) -> str:
    return commands.run(argv, _NAME, _REMEDIES)


def _delete(ids: Sequence[str]) -> None:
    if ids:
        _run(["oardel", *ids])


def _options(launch: Launch) -> Iterator[tuple[str, str]]:
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
    yield "-O", on_one_line("the folder", _log(launch))
    yield "-E", _log(launch)


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


def _log(launch: Launch) -> str:
    folder = launch.folder or launch.workdir or "."
    return os.path.join(folder, "logs", f"{file_name(launch.name)}.%jobid%.out")

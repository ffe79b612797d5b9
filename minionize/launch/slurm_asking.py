"""Slurm's commands: what is asked of which cluster, and what it answers."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from minionize.launch import commands
from minionize.launch.slurm_states import (
    SACCT,
    SACCT_OF_20,
    SQUEUE,
    Seen,
    seen_by_sacct,
    seen_by_squeue,
)

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
_MAYBE_IN = ("timed out", "Unexpected message received", "Zero Bytes were transmitted")
"""In what `sbatch` says when the controller was asked, and its answer did not arrive: the job may
be in. Where the controller could not be reached ("Unable to contact"), it is not."""
_LOOK_FOR_S = 30.0
_LOOK_EVERY_S = 2.0
_LIMIT = 1000
"""Tasks of an array where the site says nothing else; Slurm's own default."""


class Site(NamedTuple):
    """What a Slurm says of itself."""

    cluster: str
    array_limit: int
    """Tasks that an array may have; they are numbered from 1."""
    accounts: bool
    """Whether `sacct` tells of jobs that the controller has forgotten."""


def run(argv: Sequence[str], env: Mapping[str, str] | None = None) -> str:
    """The output of one of its commands; errors as of `commands.run`."""
    return commands.run(argv, _NAME, _REMEDIES, env)


def site(*, again: bool = False) -> Site:
    """The Slurm that is asked from here. It is asked for that once, and `again` where that is to
    be sure."""
    if again:
        _site.cache_clear()
    return _site(os.environ.get("SLURM_CONF", ""), os.environ.get("PATH", ""))


@lru_cache(maxsize=16)
def _site(_configuration: str, _path: str) -> Site:
    return site_of(run(["scontrol", "show", "config"]))


def site_of(text: str) -> Site:
    """From what `scontrol show config` prints."""
    pairs = (line.partition("=")[::2] for line in text.splitlines())
    told = {key.strip(): value.strip() for key, value in pairs}
    size = told.get("MaxArraySize", "")
    limit = int(size) - 1 if size.isdecimal() and int(size) > 1 else _LIMIT
    kind = told.get("AccountingStorageType", "")
    return Site(
        cluster=told.get("ClusterName", ""),
        array_limit=limit,
        accounts=kind not in ("", "(null)", "accounting_storage/none"),
    )


def squeue(cluster: Sequence[str], jobs: Sequence[str]) -> list[Seen]:
    """The tasks of these jobs that the controller has; `cluster`: the option that names another
    cluster than the one here, if any."""
    argv = ["squeue", *cluster, "--noheader", "--array", "--states=all", f"--Format={SQUEUE}"]
    try:
        said = run([*argv, f"--jobs={','.join(jobs)}"])
    except commands.Refused as refused:
        # It says so of one job alone; of several it leaves out the forgotten ones.
        if "Invalid job id" not in refused.said:
            raise
        return []
    return [seen_by_squeue(line) for line in said.splitlines() if line.count("|") > 8]


def sacct(cluster: Sequence[str], jobs: Sequence[str]) -> list[Seen]:
    """The tasks of these jobs that are in the accounts, those of other jobs that had the same
    numbers included. The last line of a job comes last."""
    argv = ["sacct", *cluster, "--noheader", "--parsable2", "--allocations", "--duplicates",
            f"--jobs={','.join(jobs)}"]  # fmt: skip
    try:
        lines = run([*argv, f"--format={SACCT}"]).splitlines()
    except commands.Refused as refused:
        if "SubmitLine" not in refused.said:
            raise
        lines = [f"{line}|" for line in run([*argv, f"--format={SACCT_OF_20}"]).splitlines()]
    return [seen_by_sacct(line) for line in lines if line.count("|") > 5]


def sbatch(options: Sequence[str], words: Sequence[str], env: Mapping[str, str]) -> str:
    """Submit `words`, a script and arguments of which the last is found nowhere else; what
    `--parsable` tells of it: its number, and behind ; its cluster where it is another one.

    Where no answer comes, the job may be in: so it is asked for, for a while."""
    try:
        return run(["sbatch", "--parsable", *options, *words], env).strip().splitlines()[-1]
    except (commands.Unanswered, commands.Refused) as error:
        if isinstance(error, commands.Refused) and not any(
            text in error.said for text in _MAYBE_IN
        ):
            raise
        found = _by_mark(words[-1], _clusters(options, env))
        if not found:
            raise
        return found


def _clusters(options: Sequence[str], env: Mapping[str, str]) -> str:
    """The clusters among which `sbatch` chooses; empty: the one here."""
    found = env.get("SBATCH_CLUSTERS") or env.get("SLURM_CLUSTERS") or ""
    for word, after in zip(options, [*options[1:], ""], strict=False):
        if word.startswith("--clusters="):
            found = word.partition("=")[2]
        elif word in ("--clusters", "-M"):
            found = after
        elif word.startswith("-M"):
            found = word[2:]
    return found


def _by_mark(mark: str, clusters: str) -> str:
    """The number of our job with this mark, and its cluster, as `sbatch` would have said it; empty
    where none comes within that time, or the controller does not say."""
    until = time.monotonic() + _LOOK_FOR_S
    argv = ["squeue", *([f"--clusters={clusters}"] if clusters else []), "--noheader",
            "--states=all", f"--user={os.getuid()}"]  # fmt: skip
    while True:
        try:
            said = run([*argv, "--Format=ArrayJobID:|,Cluster:|,Command:|"])
        except (commands.Unanswered, commands.Refused):
            said = ""
        for line in said.splitlines():
            id, _, rest = line.partition("|")
            cluster, _, command = rest.partition("|")
            if mark in command.replace("|", " ").split():
                return f"{id.strip()};{cluster}" if clusters else id.strip()
        if time.monotonic() >= until:
            return ""
        time.sleep(_LOOK_EVERY_S)

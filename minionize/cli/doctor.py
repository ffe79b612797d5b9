"""`minion doctor`: can this folder serve as a queue, from here?"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator

import click

from minionize import settings
from minionize.cli.doctor_checks import check_folder
from minionize.cli.doctor_finding import FAIL, OK, WARN, Finding
from minionize.cli.doctor_space import check_scratch
from minionize.cli.ending import one_line, say
from minionize.cli.opening import opened_queue, queue_option
from minionize.cli.secrets import shown
from minionize.contracts.engine import EngineOptions, Queue, TellsPolicies
from minionize.engines.file.calls import Calls
from minionize.errors import MinionizeError, NoSuchQueue, UsageError
from minionize.settings import parsing
from minionize.values import Harm
from minionize.worker.output import spool_folder

NAME = "minion doctor"

HELP = """Try out whether the queue's folder can serve as one, from this host: its type of file
system, rights, locks, fresh reads under the lock, link, fsync, space, clock; whether the queue in
it is whole, and what crashed minions left. Of a queue on a server: whether it can be reached, and
which policies of the server drop, delay or hide params.

\b
  minion doctor -q /shared/runs
  minion doctor -q /shared/runs --hosts 2    on two hosts at once: are locks
                                             and reads coherent between them?

Exit status: 0 all is well, 1 warnings, 2 something fails.
"""


@click.command("doctor", help=HELP, short_help="Can this folder serve as a queue, from here?")
@queue_option
@click.option("--full", is_flag=True, help="Read every param and check it.")
@click.option("--hosts", type=click.IntRange(1, 64), default=1, metavar="N", help="Test together "
              "with N - 1 others that are started at the same time.")  # fmt: skip
@click.option("--timeout", default="2m", metavar="TIME", help="How long to wait for them. [2m]")
def doctor(queue: str | None, full: bool, hosts: int, timeout: str) -> int:
    """The command."""
    try:
        timeout_s = parsing.seconds_above_0(timeout)
    except ValueError as error:
        raise UsageError(f"--timeout {one_line(timeout)}: {error}") from error
    loaded = settings.load({"queue": queue}, feeding=True, exporting=False)
    told = loaded.settings
    from minionize.engines.registry import normalise

    scheme, _, address = normalise(told.queue).partition(":")
    if scheme == "file":
        for note in loaded.notes:
            say(f"{NAME}: {one_line(note)}")
        options = EngineOptions(lease_s=told.lease_s, create=False, env=told.env)
        findings = _folder_findings(os.path.abspath(address), options, full, hosts, timeout_s)
    elif hosts > 1:
        raise UsageError(
            f"--hosts is for queues in a folder, and {one_line(shown(told.queue))} is none"
        )
    else:
        findings = _engine_findings(queue)
    return _table(findings)


def _folder_findings(
    folder: str, options: EngineOptions, full: bool, hosts: int, timeout_s: float
) -> Iterator[Finding]:
    calls = Calls()
    place = folder
    while not os.path.isdir(place):
        if os.path.lexists(place):
            yield Finding(FAIL, "folder", f"{place} is no folder", "name another: -q FOLDER")
            return
        place = os.path.dirname(place)
    calls.keep_beneath(place)
    if place == folder:
        yield Finding(OK, "folder", folder)
    else:
        yield Finding(OK, "folder", f"{folder} is not there yet: trying out {place}")
    yield from check_folder(calls, place, shared=hosts > 1)
    if os.path.exists(os.path.join(folder, "head")) or os.path.exists(
        os.path.join(folder, "params")
    ):
        from minionize.cli.doctor_queue import check_queue

        yield from check_queue(folder, options, full=full)
    elif place == folder:
        yield Finding(OK, "queue", "none here yet: minion feed makes one")
    yield from check_scratch(spool_folder(options.env))
    if hosts > 1:
        from minionize.cli.doctor_hosts import Meeting

        meeting = Meeting(calls, place, hosts, timeout_s, lambda line: say(f"{NAME}: {line}"))
        try:
            yield from meeting.findings()
        except OSError as error:
            yield Finding(FAIL, "coherence", f"{error.strerror or error}", "see the lines above")


def _engine_findings(queue: str | None) -> Iterator[Finding]:
    try:
        with opened_queue(NAME, {"queue": queue}) as (opened, _settings):
            try:
                stats = opened.stats()
            except NoSuchQueue as error:
                yield _unfit(error)
                yield from _policies(opened)
                return
            waiting = "" if stats.waiting is None else f", {stats.waiting:,} waiting"
            yield Finding(OK, "queue", f"{opened.url} can be reached{waiting}")
            if stats.lost:
                yield Finding(
                    WARN, "lost", f"{stats.lost:,} params are gone, and no minion ran them",
                    "see the policies below, or which program deletes messages; feed them again",
                )  # fmt: skip
            yield from _policies(opened)
    except MinionizeError as error:
        yield _unfit(error)


def _unfit(error: MinionizeError) -> Finding:
    said, _, remedy = str(error).rpartition(": ")
    return Finding(FAIL, "queue", said or str(error), remedy if said else "")


def _policies(queue: Queue) -> Iterator[Finding]:
    if not isinstance(queue, TellsPolicies):
        return
    policies = queue.policies()
    for policy in policies:
        level = FAIL if policy.harm is Harm.BLOCK else WARN
        yield Finding(level, "policy", f"{policy.setting}: {policy.effect}", policy.remedy)
    if not policies:
        yield Finding(OK, "policies", "none that drops, delays or hides params")


def _table(findings: Iterable[Finding]) -> int:
    """Print the findings as they come; the exit status that they mean."""
    status = 0
    colours = {OK: "green", WARN: "yellow", FAIL: "red"}
    for finding in findings:
        level = click.style(f"{finding.level:<4}", fg=colours[finding.level])
        click.echo(f"{level}  {finding.what:<11}  {one_line(finding.said)}")
        if finding.remedy:
            click.echo(f"{'':19}{one_line(finding.remedy)}")
        sys.stdout.flush()
        status = max(status, {OK: 0, WARN: 1, FAIL: 2}[finding.level])
    return status

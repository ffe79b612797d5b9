"""`minion jobs`, `minion logs`, `minion cancel`: what became of launches."""

from __future__ import annotations

import glob
import json
import socket
import time
from collections.abc import Iterator, Sequence

import click

from minionize import settings
from minionize.cli.ending import one_line, say
from minionize.cli.launch_plan import absolute
from minionize.cli.opening import number, queue_option
from minionize.cli.scheduler import scheduler_for
from minionize.cli.status import print_lines
from minionize.errors import LaunchRefused, MinionizeError, UsageError
from minionize.launch import records
from minionize.launch.records import Record
from minionize.launch.values import Job, JobState
from minionize.status.escape import safe

NO_INPUT = 66
"""Of `logs`, where some of it could not be read."""

JOBS_HELP = """Your launches on this queue, and how many of their minions wait, run and
ended. With IDs, each of their minions, and the files of their output.
"""

LOGS_HELP = """What the minions of a launch wrote (of the last one, without ID), each line behind
the id of its job.
"""

CANCEL_HELP = """End the minions of launches: what they hold goes back to the queue.

Those of `minion launch local` get TERM, each time; for those of a scheduler it is the scheduler's
own warning, and, told once more, the end at once where it has one.
"""


@click.command("jobs", help=JOBS_HELP, short_help="Your launches on this queue.")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@queue_option
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each launch.")
def jobs(ids: tuple[str, ...], queue: str | None, as_json: bool) -> int:
    """The command."""
    found = _found("minion jobs", queue, ids)
    for record, states, why in _asked(found):
        if as_json:
            print_lines([_json(record, states, why)])
        else:
            print_lines(_lines(record, states, why, each=bool(ids)))
    if not found:
        say(
            "minion jobs: no launch is on record here: minion launch makes one (launch local: with "
            "-O output=files, or while it runs)"
        )
    return 0


@click.command("logs", help=LOGS_HELP, short_help="What launched minions wrote.")
@click.argument("id", required=False)
@queue_option
@click.option("-f", "--follow", is_flag=True, help="Go on as they write, until all ended.")
def logs(id: str | None, queue: str | None, follow: bool) -> int:
    """The command."""
    found = _found("minion logs", queue, (id,) if id else ())
    if not found:
        raise UsageError(
            "no launch is on record here: minion launch makes one (launch local: with "
            "-O output=files, or while it runs)"
        )
    submitted = found[-1].submitted
    unread, silent = 0, True
    asked = scheduler_for("minion logs", submitted.scheduler)
    for line in asked.logs(submitted, follow=follow):
        silent = False
        if line.unread:
            unread += 1
            say(f"minion logs: {one_line(line.text)}")
        else:
            print_lines([f"{line.job}: {safe(line.text)}"])
    if silent:
        say(f"minion logs: {_why_silent(found[-1])}")
    return NO_INPUT if unread else 0


@click.command("cancel", help=CANCEL_HELP, short_help="End launched minions.")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@queue_option
@click.option("--all", "every", is_flag=True, help="Of all your launches on this queue.")
def cancel(ids: tuple[str, ...], queue: str | None, every: bool) -> int:
    """The command."""
    if bool(ids) == every:
        raise UsageError("name the launches to cancel, as minion jobs does, or give --all")
    status = 0
    for record in _found("minion cancel", queue, ids):
        try:
            asked = scheduler_for("minion cancel", record.submitted.scheduler)
            told = asked.cancel(record.submitted)
        except MinionizeError as error:
            if not every:
                raise
            say(f"minion cancel: {record.id}: {one_line(str(error))}")
            status = error.exit_status
            continue
        if told or ids:
            click.echo(f"{record.id}: {number(told, 'minion')} told to end")
    return status


def _why_silent(record: Record) -> str:
    if record.submitted.scheduler == "local" and not _outputs(record):
        return (
            f"{record.id} writes to where it was launched: -O output=files keeps it for minion logs"
        )
    return f"{record.id} has written nothing yet"


def _outputs(record: Record) -> list[str]:
    """The patterns of its files that there are files of."""
    return [pattern for pattern in record.submitted.logs if glob.glob(pattern)]


def _found(name: str, queue: str | None, ids: Sequence[str]) -> Sequence[Record]:
    """The launches of these ids, or all of the queue."""
    loaded = settings.load({"queue": queue}, exporting=False)
    for note in loaded.notes:
        say(f"{name}: {one_line(note)}")
    url = absolute(loaded.settings.queue)
    scheme, _, address = url.partition(":")
    folder = records.folder_of(address if scheme == "file" else None, loaded.settings.env)
    found = records.recorded(
        folder,
        None if scheme == "file" else url,
        tell=lambda line: say(f"{name}: {one_line(line)}"),
    )
    if not ids:
        return found
    by_id = {record.id: record for record in found}
    unknown = [id for id in ids if id not in by_id]
    if unknown:
        known = ", ".join(by_id) or "none"
        raise UsageError(f"no launch {one_line(unknown[0])} on {one_line(url)}: there is {known}")
    return [by_id[id] for id in dict.fromkeys(ids)]


_ASKED_TOGETHER = frozenset({"slurm", "oar"})
"""Schedulers of which one question is enough for all launches; its failure is that of all."""


def _asked(found: Sequence[Record]) -> Iterator[tuple[Record, Sequence[Job], str]]:
    """Each launch with its jobs, or with why they aren't known."""
    groups: dict[str, list[Record]] = {}
    for record in found:
        name = record.submitted.scheduler
        groups.setdefault(name if name in _ASKED_TOGETHER else record.id, []).append(record)
    told: dict[str, tuple[Sequence[Job], str]] = {}
    for group in groups.values():
        try:
            asked = scheduler_for("minion jobs", group[0].submitted.scheduler)
            states = asked.states_of_each([record.submitted for record in group])
        except (LaunchRefused, UsageError) as error:
            told.update((record.id, ((), one_line(str(error)))) for record in group)
        else:
            told.update((record.id, (jobs, "")) for record, jobs in zip(group, states, strict=True))
    return ((record, *told[record.id]) for record in found)


def _lines(record: Record, states: Sequence[Job], why: str, *, each: bool) -> list[str]:
    submitted = record.submitted
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(submitted.at))
    by = f"by {submitted.user}"
    if submitted.host != socket.gethostname():
        by += f" on {submitted.host}"
    head = f"{record.id}  {at}  {submitted.name}  {number(submitted.minions, 'minion')}, {by}"
    outputs = _outputs(record)
    files = bool(outputs) and submitted.scheduler == "local"
    kept = f", output: minion logs {record.id}" if files else ""
    lines = [safe(f"{head}: {why or _counts(states)}{kept}")]
    if each:
        lines += [
            "  " + safe("  ".join(filter(None, (job.id, job.state.value, job.where, job.detail))))
            for job in states
        ]
        lines += [safe(f"  output: {pattern}") for pattern in outputs]
    return lines


def _counts(states: Sequence[Job]) -> str:
    counts = {state: sum(job.state is state for job in states) for state in JobState}
    told = ", ".join(f"{n:,} {state.value}" for state, n in counts.items() if n) or "forgotten"
    unsure = [job.detail for job in states if not (job.over or job.state.alive)]
    return f"{told}: {unsure[0]}" if unsure and unsure[0] else told


def _json(record: Record, states: Sequence[Job], why: str) -> str:
    submitted = record.submitted
    return json.dumps(
        {
            "id": record.id,
            "scheduler": submitted.scheduler,
            "job_ids": submitted.job_ids,
            "name": submitted.name,
            "queue": submitted.queue,
            "minions": submitted.minions,
            "at": submitted.at,
            "user": submitted.user,
            "host": submitted.host,
            "logs": submitted.logs,
            "jobs": [job._asdict() for job in states],
            "error": why or None,
        }
    )

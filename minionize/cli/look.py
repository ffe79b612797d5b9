"""`minion list`, `show`, `results` and `failures`: what the queue holds and what came of it."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, islice
from typing import TextIO

import click

from minionize.cli.ending import one_line, say
from minionize.cli.opening import opened_queue, queue_option
from minionize.cli.status import print_lines
from minionize.contracts.engine import ForgetsDone, Queue
from minionize.errors import NotSupported, UsageError
from minionize.settings import Settings
from minionize.status.read import Faults, Report, exists, read_rolls
from minionize.status.report import report_of
from minionize.values import State

LISTED = 20
_SHOWN_STATES = (State.RUNNING, State.WAITING, State.DELAYED, State.DEAD)

LIST_HELP = """The params of the queue by state: id, state, attempt, param.

Without --state those that run, wait, are delayed or dead. A terminal gets the first 20 of each
state, a pipe all of them.
"""

SHOW_HELP = """One param: its attempts, where and how long they ran, what they printed, why they
failed, and a line that runs it here.

The line is made from what the last minion ran and from the settings here (--shell, --chdir ...).
"""

RESULTS_HELP = """A row for each param that is done: its keys, those of its result, and _id,
_status, _attempt, _seconds, _host, _reason.

A param or result that is no object stands under param or result. Where both have a key with
different values, the result's is named result.KEY.
"""

FAILURES_HELP = """What failed, grouped by reason: how often, which params, and the end of what the
last of them wrote to stderr.
"""


@click.command("list", help=LIST_HELP, short_help="The params, by state.")
@queue_option
@click.option("--state", type=click.Choice([state.value for state in State]), help="Only these.")
@click.option("-n", "--number", "number", type=click.IntRange(min=0), metavar="N",
              help="At most N of each state.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each.")
def list_(queue: str | None, state: str | None, number: int | None, as_json: bool) -> int:
    """The command."""
    if number is None and sys.stdout.isatty():
        number = LISTED
    with opened_queue("minion list", {"queue": queue}) as (opened, settings):
        from minionize.status.listing import listed, listed_line

        opened.stats()  # NoSuchQueue before anything is printed
        folder = _report(opened, settings)
        faults = Faults()
        cant: NotSupported | None = None
        heard = False
        for each in [State(state)] if state else _SHOWN_STATES:
            try:
                found = listed(opened, each, folder, faults)
            except NotSupported as error:
                cant = cant or error
                continue
            heard = True
            count = 0
            for entry in islice(found, number):
                print_lines([listed_line(entry, as_json=as_json, width=_width())])
                count += 1
            if number and count == number and next(found, None) is not None:
                say(f"minion list: there are more {each.value} ones: -n shows them")
        _tell("minion list", faults)
        if cant is not None:
            if not heard:
                raise cant
            say(f"minion list: only these: {one_line(str(cant))}")
    return 0


@click.command("show", help=SHOW_HELP, short_help="One param: its attempts, hosts, output.")
@click.argument("id")
@queue_option
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def show(id: str, queue: str | None, as_json: bool) -> int:
    """The command."""
    with opened_queue("minion show", {"queue": queue}) as (opened, settings):
        from minionize.status.history import history, param_text, show_json, show_lines
        from minionize.status.replay import run_here

        opened.stats()
        entry = opened.look_up([id]).get(id)
        faults = Faults()
        folder = _report(opened, settings)
        told = history(folder, id, faults)
        if entry is None and not told:
            if not opened.traits.scans:
                raise UsageError(
                    f"{opened.url} can't be asked for a param, and the report in {folder} has no "
                    f"{id!r}: give the id that a line of minionize or minion failures shows"
                )
            if _dropped(opened, id):
                raise UsageError(
                    f"param {id} of {opened.url} is not kept any more: it was done or dead, and "
                    "minion purge dropped it; to run it again, feed it again"
                )
            raise UsageError(f"no param {id!r} in {opened.url}: minion list shows their ids")
        text = param_text(entry, told)
        command = next((source.command for source, _ in reversed(told) if source.command), "")
        if not command:
            # Not run yet: as the latest minion would.
            rolls = reversed(read_rolls(folder, faults))
            command = next((roll.command for roll in rolls if roll.command), "")
        attempt = entry.attempt if entry is not None else 1
        here = run_here(settings, command, id, text, attempt) if text is not None else None
        if as_json:
            print_lines([show_json(id, entry, told, here)])
        else:
            print_lines(show_lines(id, entry, told, here))
        _tell("minion show", faults)
    return 0


@click.command("results", help=RESULTS_HELP, short_help="A row for each param that is done.")
@queue_option
@click.option("--format", "form", type=click.Choice(["csv", "jsonl"]),
              help="Default: jsonl for -o *.jsonl, else csv.")  # fmt: skip
@click.option("--output", "output", is_flag=True,
              help="Captured output too, as _stdout and _stderr.")  # fmt: skip
@click.option("--parse", type=click.Choice(["json"]),
              help="Captured standard output, or its last line, is JSON: the result.")  # fmt: skip
@click.option("--all", "dead", is_flag=True, help="Dead letters too, with _status dead.")
@click.option("-o", "file", type=click.Path(dir_okay=False), metavar="FILE",
              help="Write to this file, which appears whole.")  # fmt: skip
def results(
    queue: str | None,
    form: str | None,
    output: bool,
    parse: str | None,
    dead: bool,
    file: str | None,
) -> int:
    """The command."""
    with opened_queue("minion results", {"queue": queue}) as (opened, settings):
        from minionize.status.rows import Want, result_rows
        from minionize.status.tables import csv_lines, json_lines

        opened.stats()
        folder = _report(opened, settings)
        faults = Faults()
        found = result_rows(opened, folder, Want(dead, output, parse is not None), faults)
        first = next(found, None)
        if not exists(folder):
            say(
                f"minion results: there is no report in {one_line(str(folder))}: minions write it "
                "with the json reporter"
            )
        elif first is None and not faults.lines():
            say(
                f"minion results: no param in the report in {one_line(str(folder))} is done: "
                "minion status tells how far the queue is"
            )
        rows = found if first is None else chain([first], found)
        if form is None:
            form = "jsonl" if file and file.endswith((".jsonl", ".ndjson")) else "csv"
        if form == "jsonl":
            lines = json_lines(rows)
        else:
            lines = csv_lines(rows, for_terminal=file is None and sys.stdout.isatty())
        with _target(file) as out:
            out.writelines(lines)
        _tell("minion results", faults)
    return 0


@click.command("failures", help=FAILURES_HELP, short_help="What failed, grouped by reason.")
@queue_option
@click.option("--all", "every", is_flag=True, help="All ids, and all that the last one wrote.")
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each reason.")
def failures(queue: str | None, every: bool, as_json: bool) -> int:
    """The command."""
    import json

    with opened_queue("minion failures", {"queue": queue}) as (opened, settings):
        from minionize.status.failures import failure_lines
        from minionize.status.failures import failures as grouped
        from minionize.status.listing import scanned

        opened.stats()
        faults = Faults()
        dead = scanned(opened, State.DEAD)
        folder = _report(opened, settings)
        groups = grouped(folder, dead, faults, keep=None if every else 1000)
        if as_json:
            lines = (json.dumps(group.to_json()) for group in groups)
            print_lines([line.replace("\x7f", "\\u007f") for line in lines])
        elif groups:
            print_lines(failure_lines(groups, all_ids=every, width=_width()))
            if any(group.dead for group in groups):
                say("minion failures: minion show ID tells more, minion retry runs them again")
        elif dead is None and not read_rolls(folder, Faults()):
            say(
                f"minion failures: {one_line(opened.url)} can't list its dead letters, and there "
                f"is no report in {one_line(str(folder))}: minions write it with the json reporter"
            )
        else:
            say("minion failures: nothing failed")
        _tell("minion failures", faults)
    return 0


def _dropped(queue: Queue, id_: str) -> bool:
    """Whether the queue knows that it has let go of this param, which it does not hold."""
    if not isinstance(queue, ForgetsDone) or not (id_.isascii() and id_.isdecimal()):
        return False
    return id_ == str(int(id_)) and 1 <= int(id_) < queue.forgotten_below()


def _report(queue: Queue, settings: Settings) -> Report:
    return report_of(settings, queue.traits.folder)


def _tell(name: str, faults: Faults) -> None:
    for line in faults.lines():
        say(f"{name}: {one_line(line)}")


def _width() -> int:
    return shutil.get_terminal_size((100, 24)).columns


@contextmanager
def _target(file: str | None) -> Iterator[TextIO]:
    """Where rows go: standard output, or a draft that becomes `file` at a good end."""
    if file is None:
        # UTF-8 whatever the locale says; a lone surrogate as its escape.
        out = io.TextIOWrapper(
            sys.stdout.buffer, encoding="utf-8", errors="backslashreplace", newline=""
        )
        try:
            yield out
        finally:
            out.detach()
        return
    draft = f"{file}.{os.getpid()}.draft"
    try:
        with open(draft, "w", encoding="utf-8", errors="backslashreplace", newline="") as out:
            yield out
        os.replace(draft, file)
    except OSError as error:
        raise UsageError(
            f"{one_line(file)} can't be written ({error.strerror}): give another -o FILE"
        ) from error
    finally:
        if os.path.exists(draft):
            os.unlink(draft)

"""`minion purge --done`: a service that runs for years sheds what was done long ago."""

from __future__ import annotations

import os
import sys
import time

import click

from minionize.cli.ending import one_line, say
from minionize.cli.opening import number, opened_queue
from minionize.contracts.engine import ForgetsDone, Queue
from minionize.errors import NotSupported, UsageError

NAME = "minion purge"


def forget_done(queue: str | None, older_s: float, yes: bool) -> int:
    """Drop what was done `older_s` seconds ago or earlier, with its files of the report."""
    with opened_queue(NAME, {"queue": queue}) as (opened, settings):
        from minionize.reporters.remote import RemoteReport
        from minionize.status.read import Faults, exists, read_rolls
        from minionize.status.report import report_of
        from minionize.status.shedding import Shed, lowest_done_since, remove_old_files

        opened.stats()  # NoSuchQueue
        report = report_of(settings, opened.traits.folder)
        in_folder = not isinstance(report, RemoteReport) and exists(report)
        if not isinstance(opened, ForgetsDone) and not in_folder:
            raise NotSupported(
                f"{one_line(opened.url)} keeps nothing of what is done but its count"
                + (": the report there has a bound of its own, ?keep=N" if not in_folder else "")
            )
        before_s = time.time() - older_s
        if not (yes or _agreed(opened, before_s, older_s)):
            say(f"{NAME}: nothing was dropped")
            return 2
        count = 0
        shed = Shed(0, 0)
        if isinstance(opened, ForgetsDone):
            # In this order: what is done from here on stays, whatever the report tells of it.
            below = opened.settled_below()
            recent = lowest_done_since(report, before_s, Faults()) if older_s else None
            _keep_hashes(opened)
            count = opened.forget_done(below if recent is None else min(below, recent), before_s)
        if in_folder and not isinstance(report, RemoteReport):
            alive = {minion.id for minion in opened.minions()}
            if opened.stats().minions is None:
                # It knows no minions: one that did not say that it ended may be at work.
                rolls = read_rolls(report, Faults())
                alive |= {roll.minion for roll in rolls if roll.ended is None}
            try:
                shed = remove_old_files(report, before_s, alive)
            except OSError as error:
                say(
                    f"{NAME}: {one_line(str(report))}: {error.strerror}: its old files stay; mend "
                    "that, and try again"
                )
        files = f", {number(shed.files, 'file')} of the report removed" if shed.files else ""
        click.echo(f"{number(count, 'finished param')} dropped{files}: {one_line(opened.url)}")
    return 0


def _agreed(opened: Queue, before_s: float, older_s: float) -> bool:
    when = "" if not older_s else time.strftime(" before %Y-%m-%d %H:%M", time.localtime(before_s))
    what = f"params and results of {one_line(opened.url)} that were done{when}"
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"this would drop {what}, and nobody is there to be asked: give --yes")
    return click.confirm(f"Drop {what}, for good?", err=True)


def _keep_hashes(opened: Queue) -> None:
    """What feed --dedupe compares with is read from the queue: before it goes."""
    from minionize.filling.dedupe import INDEX, Deduper

    folder = opened.traits.folder
    if folder is not None and os.path.exists(os.path.join(folder, INDEX)):
        Deduper(opened).catch_up()

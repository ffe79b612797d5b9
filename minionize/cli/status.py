"""`minion status`: what waits, runs, is done and dead; the rate, and who is at work."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Sequence

import click

from minionize.cli.ending import one_line, say
from minionize.cli.opening import opened_queue, queue_option
from minionize.contracts.engine import Queue, TellsPolicies
from minionize.errors import EngineUnavailable, NoSuchQueue
from minionize.settings import Settings
from minionize.status.overview import Overview, overview
from minionize.status.read import Faults, read_rolls
from minionize.status.render import chart_columns, page
from minionize.status.report import report_of
from minionize.values import Harm, MinionInfo

NAME = "minion status"
_CLEAR = "\x1b[H\x1b[2J"
_SAMPLES = 60
_HARMS = {
    Harm.LOSS: "params can be dropped by it",
    Harm.BLOCK: "minions can't work under it",
    Harm.DELAY: "params can be delayed or hidden by it",
}

HELP = """What the queue holds, how fast it is worked on, and by whom.

Counts come from the queue; rates, durations, memory and failures from the report that minions
write with the json reporter. It can be looked at while minions run and afterwards.
"""


@click.command("status", help=HELP, short_help="What waits, runs, is done and dead.")
@queue_option
@click.option("--watch", is_flag=True, help="Look again and again, until Ctrl-C.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two looks.",
)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, a line for each look.")
@click.option("--all", "every", is_flag=True, help="List all minions and reasons.")
def status(queue: str | None, watch: bool, interval: float, as_json: bool, every: bool) -> int:
    """The command."""
    samples: list[tuple[float, int]] = []
    awaited = False
    while True:
        try:
            with opened_queue(NAME, {"queue": queue}) as (opened, settings):
                while True:
                    _look(opened, settings, samples, watch=watch, as_json=as_json, every=every)
                    if not watch:
                        return 0
                    time.sleep(interval)
        except NoSuchQueue as error:
            if not watch:
                raise
            if not awaited:
                say(f"{NAME}: {one_line(str(error))}; waiting for it")
            awaited = True
        time.sleep(interval)


def _look(
    queue: Queue,
    settings: Settings,
    samples: list[tuple[float, int]],
    *,
    watch: bool,
    as_json: bool,
    every: bool,
) -> None:
    try:
        view = look(queue, settings, samples)
    except EngineUnavailable as error:
        if not watch:
            raise
        say(f"{NAME}: {one_line(str(error))}")
    else:
        _show(view, watch=watch, as_json=as_json, every=every)


def look(queue: Queue, settings: Settings, samples: list[tuple[float, int]]) -> Overview:
    """The queue and its report now. `samples` remembers earlier looks, for a rate without one."""
    stats = queue.stats()
    known: list[MinionInfo] = list(queue.minions())
    now = time.time()
    if stats.done is not None:
        samples.append((now, stats.done))
        del samples[:-_SAMPLES]
    folder = report_of(settings, queue.traits.folder)
    faults = Faults()
    rolls = read_rolls(folder, faults)
    notes = faults.lines()
    if isinstance(queue, TellsPolicies):
        told = [policy for policy in queue.policies() if policy.harm in _HARMS]
        notes[:0] = [f"{each.setting}: {_HARMS[each.harm]}: see minion doctor" for each in told]
    if rolls and queue.traits.folder is None:
        # Nothing but the settings ties this report to this queue.
        notes.insert(0, f"the report is that in {folder}")
    if not rolls and (stats.done or stats.done is None):
        kind = "json" if isinstance(folder, (str, os.PathLike)) else "redis"
        cant = "" if queue.traits.counts else f"{queue.url} can't count what it holds, and "
        notes.append(f"{cant}no report in {folder}: minions write it with --reporter {kind}")
    return overview(
        queue.url,
        stats,
        known,
        rolls,
        now=now,
        samples=samples,
        vanished=_vanished(known),
        columns=chart_columns(_width()),
        notes=notes,
    )


def _vanished(known: Sequence[MinionInfo]) -> set[str]:
    """Those that ran on this host and are no more. The queue forgets them a lease later, and
    only when another minion looks."""
    host = os.uname().nodename
    return {
        info.id for info in known if info.host == host and not os.path.exists(f"/proc/{info.pid}")
    }


def _show(view: Overview, *, watch: bool, as_json: bool, every: bool) -> None:
    if as_json:
        text = json.dumps(view.to_json()).replace("\x7f", "\\u007f")
    else:
        limits: dict[str, int | None] = {"minions": None} if every else {}
        text = page(view, width=_width(), failures=10_000 if every else 10, **limits)
        if watch and sys.stdout.isatty():
            # What does not fit would scroll the head of the page away.
            height = shutil.get_terminal_size((100, 24)).lines
            text = "\n".join(text.split("\n")[: max(5, height - 1)])
            sys.stdout.write(_CLEAR)
        elif watch:
            text += "\n"
    print_lines([text])
    sys.stdout.flush()


def _width() -> int:
    return shutil.get_terminal_size((100, 24)).columns


def print_lines(lines: list[str]) -> None:
    """Lines on standard output, whatever letters its encoding lacks."""
    text = "".join(f"{line}\n" for line in lines)
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))

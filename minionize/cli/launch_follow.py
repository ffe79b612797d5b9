"""Submitting, and staying until the queue is drained."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace

import click

from minionize.cli.ending import one_line, say
from minionize.cli.launch_plan import Plan
from minionize.cli.opening import number, opened_queue
from minionize.contracts.engine import Queue
from minionize.errors import EngineUnavailable, LaunchRefused
from minionize.launch import records
from minionize.launch.contract import Launcher
from minionize.launch.decisions import Progress, missing
from minionize.launch.records import Record
from minionize.launch.values import Job
from minionize.values import Stats

NAME = "minion launch"
STILL_LEFT = 75
_LOOK_EVERY_S = 1.0
_ASK_FIRST_S = 2.0
_ASK_AT_MOST_S = 15.0
"""The scheduler is asked more and more seldom, down to this: all users share the scheduler."""
_TELL_EVERY_S = 60.0


def submit(plan: Plan, module: Launcher) -> list[Record]:
    """Submit and put on record. NoSuchQueue before anything is submitted."""
    with opened_queue(NAME, {"queue": plan.queue}) as (queue, _settings):
        queue.stats()
    return [_submit(plan, module, plan.launch.minions)]


def follow(plan: Plan, module: Launcher, found: list[Record], *, resubmit: bool) -> int:
    """Stay until the queue is drained; returns the exit status. With `resubmit` minions that are
    gone are replaced while there is work for them."""
    live = sys.stderr is not None and sys.stderr.isatty()
    with opened_queue(NAME, {"queue": plan.queue}) as (queue, settings):
        look = _Look(queue, settings.reconnect_s)
        progress = Progress(plan.launch.minions)
        unknown = _Unknown()
        told_at = -_TELL_EVERY_S
        ask_at, between_s = time.monotonic(), _ASK_FIRST_S
        jobs: Sequence[Job] = []
        while True:
            stats = look.stats()
            now = time.monotonic()
            if now >= ask_at:
                known = _states(module, found)
                between_s = min(_ASK_AT_MOST_S, between_s * 1.5)
                ask_at = time.monotonic() + between_s
            else:
                known = None
            if known is not None:
                jobs = known
                # One that is only unknown may be at work: it is waited for, and not doubled.
                alive = sum(not job.over for job in jobs)
                unknown.tell(jobs)
                if not alive and not resubmit:
                    stats = look.stats()
                    if stats.drained is not False:
                        return _end(stats, live)
                    return _left(stats, live)
                wanted = missing(stats, alive, plan.launch.minions) if resubmit else 0
                if wanted and progress.worth_it(stats, now):
                    found.append(_submit(plan, module, wanted))
                    between_s = _ASK_FIRST_S
                    ask_at = time.monotonic() + between_s
                elif wanted and progress.hopeless:
                    return _hopeless(stats, live)
            if stats.drained:
                return _end(stats, live)
            if live or now - told_at >= _TELL_EVERY_S:
                told_at = now
                _tell(_line(stats, jobs), live)
            time.sleep(_LOOK_EVERY_S)


def _submit(plan: Plan, module: Launcher, minions: int) -> Record:
    # Found again by the queue's address here, whatever the minions call it.
    submitted = replace(module.submit(replace(plan.launch, minions=minions)), queue=plan.queue)
    record = records.remember(plan.records, submitted)
    arrays = len(submitted.job_ids)
    what = number(minions, "minion")
    how = f" in {arrays} arrays" if 1 < arrays < minions else ""
    click.echo(f"{record.id}: {what} submitted{how}: minion jobs, minion logs, minion cancel")
    return record


def _states(module: Launcher, found: Sequence[Record]) -> Sequence[Job] | None:
    """None if it can't say: a scheduler that is restarted answers again later, and no job is
    taken for dead or replaced meanwhile."""
    try:
        return module.states([record.submitted for record in found])
    except LaunchRefused as error:
        say(f"{NAME}: {one_line(str(error))}; asking again")
        return None


class _Unknown:
    """Says so, once each time, when jobs are known no more."""

    def __init__(self) -> None:
        self._last: frozenset[str] = frozenset()

    def tell(self, jobs: Sequence[Job]) -> None:
        found = [job for job in jobs if not (job.over or job.state.alive)]
        ids = frozenset(job.id for job in found)
        if ids - self._last:
            why = f" ({found[0].detail})" if found[0].detail else ""
            say(
                f"{NAME}: {number(len(found), 'minion')} not known, and taken for alive: "
                f"{one_line(found[0].id + why)}"
            )
        self._last = ids


class _Look:
    """The queue's counts; one that can't be reached is tried again for a while."""

    def __init__(self, queue: Queue, patience_s: float) -> None:
        self._queue = queue
        self._patience_s = patience_s

    def stats(self) -> Stats:
        lost_at = None
        while True:
            try:
                return self._queue.stats()
            except EngineUnavailable as error:
                now = time.monotonic()
                if lost_at is None:
                    lost_at = now
                    say(f"{NAME}: {one_line(str(error))}; trying on for {self._patience_s:.0f} s")
                elif now - lost_at > self._patience_s:
                    raise
                time.sleep(_LOOK_EVERY_S)


def _line(stats: Stats, jobs: Sequence[Job]) -> str:
    counts = {
        "done": stats.done, "dead": stats.dead, "running": stats.running,
        "waiting": stats.waiting, "delayed": stats.delayed,
    }  # fmt: skip
    params = ", ".join(f"{count:,} {word}" for word, count in counts.items() if count)
    states: dict[str, int] = {}
    for job in jobs:
        states[job.state.value] = states.get(job.state.value, 0) + 1
    minions = ", ".join(f"{count:,} {word}" for word, count in states.items())
    return f"{params or 'nothing done yet'}; minions: {minions or 'none known'}"


def _tell(line: str, live: bool) -> None:
    if live:
        sys.stderr.write(f"\r\x1b[K{line}")
        sys.stderr.flush()
    else:
        say(f"{NAME}: {line}")


def _clear(live: bool) -> None:
    if live:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


def _end(stats: Stats, live: bool) -> int:
    _clear(live)
    dead = stats.dead or 0
    done = f"{stats.done:,} done" if stats.done is not None else "all minions ended"
    lost = f", {stats.lost:,} lost: see minion doctor" if stats.lost else ""
    click.echo(f"{done}, {dead:,} dead" + (": see minion failures" if dead else "") + lost)
    return 1 if dead or stats.lost else 0


def _left(stats: Stats, live: bool) -> int:
    _clear(live)
    left = sum(filter(None, (stats.waiting, stats.delayed, stats.running)))
    say(
        f"{NAME}: all its minions ended, and {number(left, 'param')} are left: see minion jobs and "
        "minion logs, launch again, or use --resubmit"
    )
    return STILL_LEFT


def _hopeless(stats: Stats, live: bool) -> int:
    _clear(live)
    left = sum(filter(None, (stats.waiting, stats.delayed, stats.running)))
    say(
        f"{NAME}: minions end without getting anything done, {number(left, 'param')} left: see "
        "minion logs, then launch again"
    )
    return STILL_LEFT

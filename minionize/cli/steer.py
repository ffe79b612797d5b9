"""`minion pause`, `resume`, `stop`, `wait`, `purge`, `retry`: what people tell a queue."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import click

from minionize.cli.ending import one_line, say
from minionize.cli.opening import number, opened_queue, queue_option
from minionize.contracts.engine import ForgetsDone, Queue
from minionize.errors import EngineUnavailable, NotSupported, UsageError
from minionize.settings import parsing
from minionize.values import State, Stats

TIMED_OUT = 75
_LOOK_EVERY_S = 0.5


@click.command(
    "pause",
    short_help="No minion takes params until resume.",
    help="Tell all minions of the queue to take no more params, until `minion resume`. What runs "
    "goes on. Minions wait meanwhile.",
)
@queue_option
def pause(queue: str | None) -> int:
    """The command."""
    with opened_queue("minion pause", {"queue": queue}) as (opened, _settings):
        _must_steer(opened)
        stats = opened.stats()
        opened.steer(paused=True)
        running = f", {stats.running:,} running to their end" if stats.running else ""
        already = "already paused" if stats.paused else "paused"
        click.echo(f"{already}: {one_line(opened.url)}{running}; go on with minion resume")
    return 0


@click.command(
    "resume",
    short_help="End a pause.",
    help="Let the minions of the queue take params again.",
)
@queue_option
def resume(queue: str | None) -> int:
    """The command."""
    with opened_queue("minion resume", {"queue": queue}) as (opened, _settings):
        _must_steer(opened)
        stats = opened.stats()
        opened.steer(paused=False)
        was = "resumed" if stats.paused else "was not paused"
        click.echo(f"{was}: {one_line(opened.url)}{_waiting(stats)}")
    return 0


@click.command(
    "stop",
    short_help="Tell the minions at work to stop.",
    help="Tell the minions that are at work now to stop, as TERM would: each gives back what it "
    "has not done and ends with 75. Minions that are started later do work.",
)
@queue_option
@click.option("--wait", is_flag=True, help="Wait until none of them is alive.")
@click.option("--timeout", metavar="TIME", help="Wait at most so long (90, 10m, 2h); then 75.")
def stop(queue: str | None, wait: bool, timeout: str | None) -> int:
    """The command."""
    timeout_s = _seconds(timeout)
    if timeout_s is not None and not wait:
        raise UsageError("--timeout is for --wait: give both")
    with opened_queue("minion stop", {"queue": queue}) as (opened, settings):
        _must_steer(opened)
        told = {minion.id for minion in opened.minions() if not minion.feeder}
        opened.steer(stop=True)
        if not told:
            click.echo(f"no minion is at work: {one_line(opened.url)}")
            return 0
        click.echo(f"told {number(len(told), 'minion')} to stop: {one_line(opened.url)}")
        if not wait:
            return 0

        def gone() -> bool:
            return told.isdisjoint(minion.id for minion in opened.minions())

        if not _until(gone, timeout_s, settings.reconnect_s):
            left = [minion for minion in opened.minions() if minion.id in told]
            names = ", ".join(one_line(minion.id) for minion in left[:3])
            more = ", …" if len(left) > 3 else ""
            say(
                f"minion stop: {number(len(left), 'minion')} still there after {timeout}: "
                f"{names}{more}"
            )
            return TIMED_OUT
        click.echo("all of them stopped")
    return 0


@click.command(
    "wait",
    short_help="Wait until the queue is drained.",
    help="Wait until every param is done or dead, whoever does them, and nobody feeds. Exit "
    "status: 0 all done; 1 some are dead or lost; 75 the time is over.",
)
@queue_option
@click.option("--timeout", metavar="TIME", help="Wait at most so long (90, 10m, 2h); then 75.")
def wait(queue: str | None, timeout: str | None) -> int:
    """The command."""
    timeout_s = _seconds(timeout)
    with opened_queue("minion wait", {"queue": queue}) as (opened, settings):
        stats = opened.stats()
        if stats.drained is None:
            raise NotSupported(
                f"{one_line(opened.url)} can't tell when it is drained: wait for its minions, "
                "minionize --idle"
            )

        def drained() -> bool:
            nonlocal stats
            stats = opened.stats()
            return bool(stats.drained)

        if not drained():
            _say_who_works(opened, stats)
        if not _until(drained, timeout_s, settings.reconnect_s):
            left = sum(filter(None, (stats.waiting, stats.delayed, stats.running)))
            say(
                f"minion wait: {number(left, 'param')} left after {timeout_s:g} s: "
                "see minion status"
            )
            return TIMED_OUT
        dead = stats.dead or 0
        done = f"{stats.done:,} done" if stats.done is not None else "drained"
        lost = f", {stats.lost:,} lost: see minion doctor" if stats.lost else ""
        click.echo(f"{done}, {dead:,} dead" + (": see minion failures" if dead else "") + lost)
        return 1 if dead or stats.lost else 0


@click.command(
    "purge",
    short_help="Drop params.",
    help="Drop all params that nobody runs, waiting, delayed and dead ones; with --dead only the "
    "dead letters. Asks first. What is done and its results stay; with --done they go, and nothing "
    "else: params, results and files of the report. They stay counted as done.",
)
@queue_option
@click.option("--dead", is_flag=True, help="Only dead letters.")
@click.option("--done", is_flag=True, help="Only what is done, to have its room on the disk back.")
@click.option("--older-than", metavar="TIME", help="With --done: what was done so long ago (90, "
              "10m, 2h, 7d) or earlier. [all]")  # fmt: skip
@click.option("--yes", is_flag=True, help="Don't ask.")
def purge(queue: str | None, dead: bool, done: bool, older_than: str | None, yes: bool) -> int:
    """The command."""
    if done and dead:
        raise UsageError("--done and --dead are two commands: give one of them")
    if older_than is not None and not done:
        raise UsageError("--older-than tells how old what is done must be: give --done with it")
    if done:
        from minionize.cli.forget import forget_done

        older_s = _seconds(older_than, "--older-than") if older_than is not None else 0.0
        return forget_done(queue, older_s or 0.0, yes)
    with opened_queue("minion purge", {"queue": queue}) as (opened, _settings):
        stats = opened.stats()
        counts = {"dead": stats.dead}
        if not dead:
            counts = {"waiting": stats.waiting, "delayed": stats.delayed, **counts}
        if None not in counts.values() and not any(counts.values()):
            what = "no dead letter" if dead else "nothing waiting, delayed or dead"
            click.echo(f"{what} to drop: {one_line(opened.url)}")
            return 0
        if not yes:
            listing = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
            if not (sys.stdin.isatty() and sys.stderr.isatty()):
                raise UsageError(
                    f"this would drop {listing or 'params'} of {one_line(opened.url)}, and nobody "
                    "is there to be asked: give --yes"
                )
            question = f"Drop {listing or 'params'} of {one_line(opened.url)} for good?"
            if not click.confirm(question, err=True):
                say("minion purge: nothing was dropped")
                return 2
        dropped = opened.purge(State.DEAD if dead else None)
        click.echo(f"{number(dropped, 'param')} dropped: {one_line(opened.url)}")
    return 0


@click.command(
    "retry",
    short_help="Put dead letters back to work.",
    help="Put dead letters back to work, their attempts counted anew: all of them, or those of "
    "these IDs, or those whose reason has this text. With --done, run finished params again: all "
    "of them, or these IDs.",
)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@queue_option
@click.option("--reason", metavar="TEXT", help="Only those whose reason or detail has this text, "
              "as `minion failures` shows it.")  # fmt: skip
@click.option("--done", is_flag=True, help="Run finished params again.")
def retry(ids: tuple[str, ...], queue: str | None, reason: str | None, done: bool) -> int:
    """The command."""
    state = State.DONE if done else State.DEAD
    if reason is not None and (done or ids):
        raise UsageError("--reason chooses among all dead letters: no IDs or --done with it")
    with opened_queue("minion retry", {"queue": queue}) as (opened, _settings):
        if done and not opened.traits.keeps_done:
            raise NotSupported(
                f"{one_line(opened.url)} does not keep what is done: feed those params again"
            )
        wanted: list[str] | None = list(dict.fromkeys(ids)) or None
        if reason is not None:
            wanted = [
                entry.id
                for entry in opened.scan(State.DEAD)
                if entry.failure is not None
                and (reason in entry.failure.reason or reason in entry.failure.detail)
            ]
        before = opened.stats().done if done and wanted is None else None
        count = opened.requeue(wanted, state) if wanted is None or wanted else 0
        noun = "finished param" if done else "dead letter"
        click.echo(
            f"{number(count, noun)} back to work: {one_line(opened.url)}{_waiting(opened.stats())}"
        )
        if before is not None and count < before and _forgotten_below(opened) > 1:
            say(
                f"minion retry: {number(before - count, 'finished param')} left out: minion purge "
                "--done dropped what they were"
            )
        if ids and wanted is not None and count < len(wanted):
            _say_which_not(opened, wanted, "finished" if done else "dead")
            return 2
        if reason is not None and not count:
            say(f"minion retry: no reason has {reason!r}: see minion failures")
            return 2
    return 0


def _say_which_not(queue: Queue, ids: list[str], state: str) -> None:
    """Which of `ids` were not put back, and why."""
    found = queue.look_up(ids)
    below = _forgotten_below(queue)

    def lacks(id: str) -> str:
        return "dropped" if id.isdecimal() and 0 < int(id) < below else "unknown"

    others = [
        f"{one_line(id)} {found[id].state.value if id in found else lacks(id)}"
        for id in ids
        if id not in found or found[id].state not in (State.WAITING, State.RUNNING)
    ]
    if not others:
        others = ["some waiting or running already"]
    more = ", …" if len(others) > 5 else ""
    say(f"minion retry: not {state}, so left alone: {', '.join(others[:5])}{more}")


def _forgotten_below(queue: Queue) -> int:
    return queue.forgotten_below() if isinstance(queue, ForgetsDone) else 1


def _say_who_works(queue: Queue, stats: Stats) -> None:
    """Without a minion at work the wait would have no end: say so."""
    if stats.paused:
        say(f"minion wait: {one_line(queue.url)} is paused: minion resume lets it go on")
    elif stats.minions == 0 and not stats.feeders:
        say("minion wait: no minion is at work here yet: start some with minionize")


def _must_steer(queue: Queue) -> None:
    if not queue.traits.steers:
        raise NotSupported(
            f"{one_line(queue.url)} can't tell its minions anything: send them TERM to stop them"
        )


def _waiting(stats: Stats) -> str:
    return "" if stats.waiting is None else f", {stats.waiting:,} waiting"


def _seconds(text: str | None, option: str = "--timeout") -> float | None:
    if text is None:
        return None
    try:
        return parsing.seconds(text)
    except ValueError as error:
        raise UsageError(f"{option} {one_line(text)}: {error}") from error


def _until(reached: Callable[[], bool], timeout_s: float | None, patience_s: float) -> bool:
    """Look now and then until `reached()`; False when `timeout_s` went by without.

    A queue that can't be reached is tried again for `patience_s`.
    """
    end = None if timeout_s is None else time.monotonic() + timeout_s
    lost_at = None
    while True:
        try:
            if reached():
                return True
            lost_at = None
        except EngineUnavailable as error:
            now = time.monotonic()
            if lost_at is None:
                lost_at = now
                say(f"minion: {one_line(str(error))}; trying on for {patience_s:.0f} s")
            elif now - lost_at > patience_s:
                raise
        left_s = _LOOK_EVERY_S if end is None else end - time.monotonic()
        if left_s <= 0:
            return False
        time.sleep(min(_LOOK_EVERY_S, left_s))

"""`minion cp`: what waits in one queue, into another one of any kind."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from itertools import chain, islice

import click

from minionize import settings as settings_room
from minionize.cli.ending import one_line, say
from minionize.cli.opening import number, opened, options_of, say_made, say_policies
from minionize.cli.progress import Progress
from minionize.cli.secrets import shown, warning
from minionize.contracts.engine import Engine, MovesOut, Queue
from minionize.errors import EngineUnavailable, UsageError
from minionize.settings import Settings
from minionize.values import Lease, State, Stats

NAME = "minion cp"
_BATCH = 1000
_STATES = (State.WAITING, State.DELAYED, State.DEAD)

HELP = """Copy the params that wait in FROM into TO. Both are folders or URLs, of any kind; TO is
made if it is missing.

\b
  minion cp minion-queue redis://host/0?stream=ising
  minion cp --state dead runs/a runs/b

All of them are put, or none. FROM stays as it is. In TO each is a new param, whose attempts count
from 1. While minions work on FROM, what they do meanwhile may be copied as well: minion pause keeps
them from it.

--move takes the params out of FROM, as a minion would, 1,000 at a time: lease, put, then settle. So
it works where FROM can't list what it holds; if it is interrupted, up to 1,000 may be in both. FROM
counts them as purged, not as done: retry --done leaves them alone.
Where FROM can't count either, nothing to take for MINION_IDLE (30 s) is its end.
"""


@click.command("cp", help=HELP, short_help="Copy what waits into another queue.")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--state", "states", multiple=True, type=click.Choice([s.value for s in _STATES]),
              help="Which params; may be repeated. [waiting]")  # fmt: skip
@click.option("--move", is_flag=True, help="Take them out of FROM.")
@click.option("--create/--no-create", default=True, help="Make what is missing of TO, and say so "
              "(as it is); or end with 2 instead.")  # fmt: skip
def cp(source: str, target: str, states: tuple[str, ...], move: bool, create: bool) -> int:
    """The command."""
    if move and states:
        raise UsageError("--move takes what waits, as a minion does: no --state with it")
    loaded = settings_room.load({"queue": source}, exporting=False)
    notes = [warning(name, url, ".env") for name, url in (("FROM", source), ("TO", target))]
    for note in (*loaded.notes, *filter(None, notes)):
        say(f"{NAME}: {one_line(note)}")
    told = loaded.settings
    _check_different(source, target)
    wanted = [State(state) for state in dict.fromkeys(states)] or [State.WAITING]
    with (
        opened(told, create=False) as from_,
        opened(told._replace(queue=target), create=create) as to,
    ):
        _check_apart(from_, to)
        before = from_.stats()  # NoSuchQueue before anything is made
        say_policies(NAME, to)
        if move:
            done = _Move(from_, to, told).run()
        else:
            done = _copy(from_, to, wanted, before)
        _tell(from_, to, done, moved=move)
    return 0


def _check_different(source: str, target: str) -> None:
    if _place(source) == _place(target):
        raise UsageError(
            f"FROM and TO are the same queue, {one_line(shown(source))}: name two of them"
        )


def _check_apart(from_: Queue, to: Queue) -> None:
    """What is put into TO must not come to FROM: a move would never end."""
    if getattr(from_, "inbox", from_.url) == getattr(to, "inbox", to.url):
        raise UsageError(
            f"what is put into {one_line(to.url)} comes to {one_line(from_.url)} too: name two "
            "queues that have no topic in common"
        )


def _place(url: str) -> str:
    """The queue's URL; a folder's with the one path that all its names have in common."""
    from minionize.engines.registry import normalise

    scheme, _, address = normalise(url).partition(":")
    return f"{scheme}:{os.path.realpath(address) if scheme in ('file', 'execo') else address}"


def _copy(from_: Queue, to: Queue, states: Sequence[State], before: Stats) -> tuple[int, int]:
    """(how many were read, how many were put), all of them in one put."""
    from minionize.status.listing import scanned

    counts = [getattr(before, state.value) for state in states]
    progress = Progress(NAME, None if None in counts else sum(counts))
    read = 0

    def texts() -> Iterator[str]:
        nonlocal read
        for state in states:
            entries = scanned(from_, state)
            if entries is None:
                raise UsageError(
                    f"{from_.url} can't list its {state.value} params: --move takes out what waits"
                )
            for entry in entries:
                read += 1
                yield entry.text
                progress.show(read, read)

    # The first one before anything is made: a source that can't list leaves no empty queue.
    rest = texts()
    first = [*islice(rest, 1)]
    try:
        with to.feeding():
            put = to.put_texts(chain(first, rest))
    finally:
        progress.end()
    return read, put


class _Move:
    """Lease, put, ack, until nothing waits."""

    def __init__(self, from_: Queue, to: Queue, settings: Settings) -> None:
        self._from = from_
        self._to = to
        self._settings = settings
        self._beat_s = settings.lease_s / 4
        self._beaten_at = time.monotonic()

    def run(self) -> tuple[int, int]:
        """(how many were taken, how many were put)."""
        from minionize.engines.registry import open_engine

        settings = self._settings
        progress = Progress(NAME, self._from.stats().waiting, "moved")
        taken = put = 0
        engine = open_engine(settings.queue, options_of(settings, create=False))
        try:
            with self._to.feeding():
                for leases in self._leased(engine):
                    try:
                        put += self._to.put_texts([lease.text for lease in leases])
                    except EngineUnavailable:
                        if taken:
                            say(f"{NAME}: {number(taken, 'param')} moved before it ended")
                        raise
                    if isinstance(engine, MovesOut):
                        engine.moved(leases)
                    else:
                        engine.ack(leases)
                    taken += len(leases)
                    progress.show(taken, taken)
        finally:
            # What was leased and not put goes back uncharged.
            engine.close()
            progress.end()
        return taken, put

    def _leased(self, engine: Engine) -> Iterator[Sequence[Lease]]:
        idle_since = None
        while True:
            leases = engine.lease(_BATCH, 1.0)
            now = time.monotonic()
            if leases:
                idle_since = None
                yield leases
            else:
                idle_since = now if idle_since is None else idle_since
                if self._is_empty(engine, now - idle_since):
                    return
            if now - self._beaten_at >= self._beat_s:
                self._beaten_at = now
                engine.extend(())
                self._to.put_texts(())  # a feeder that is silent is taken for dead

    def _is_empty(self, engine: Engine, idle_s: float) -> bool:
        stats = engine.stats()
        if stats.paused:
            raise UsageError(f"{self._from.url} is paused: minion resume, or cp without --move")
        if stats.waiting is None:
            return idle_s >= self._settings.idle_s
        return stats.waiting == 0


def _tell(from_: Queue, to: Queue, done: tuple[int, int], *, moved: bool) -> None:
    read, put = done
    say_made(NAME, to)
    verb = "moved" if moved else "copied"
    line = f"{number(put, 'param')} {verb}: {from_.url} to {to.url}"
    waiting = to.stats().waiting
    click.echo(one_line(line if waiting is None else f"{line}, {waiting:,} waiting"))
    if moved and (running := from_.stats().running):
        say(
            f"{NAME}: {number(running, 'param')} of {one_line(from_.url)} held by minions, dead "
            "ones maybe: what comes back is not moved, so move again then"
        )
    if put < read:
        say(f"{NAME}: {number(read - put, 'param')} left out: {one_line(to.url)} had them before")

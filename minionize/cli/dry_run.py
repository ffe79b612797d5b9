"""`--dry-run`: what the first five waiting params would run, with nothing leased."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING

import click

from minionize.assembly.containers import in_container
from minionize.cli.ending import one_line, say
from minionize.errors import NotSupported, Reject, UsageError
from minionize.settings import Settings
from minionize.values import Lease, State

if TYPE_CHECKING:
    from minionize.callbacks.command import CommandCallback

SHOWN = 5


def dry_run(settings: Settings, cmd: Sequence[str]) -> int:
    """Print the command lines, quoted for a shell; returns the exit status."""
    waiting = _waiting(settings)
    leases = list(islice(waiting, SHOWN))
    if settings.call:
        for lease in leases:
            click.echo(f"{settings.call}  {one_line(lease.text)}")
        return 0
    from minionize.callbacks.command import CommandCallback

    command = CommandCallback(settings, cmd)
    callback = in_container(settings, command, say)
    if settings.image is None:
        callback.check_program()
    for lease in leases:
        try:
            click.echo(callback.shown(lease))
        except (Reject, LookupError) as error:
            say(f"minionize: param {lease.id}: {one_line(str(error))}")
    if settings.stdout or settings.stderr:
        _tell_shared(command, chain(leases, waiting))
    return 0


def _tell_shared(command: CommandCallback, leases: Iterable[Lease]) -> None:
    """Say if params share a file of output: then only the last one's stays. A hash of each name
    is kept, some 60 bytes."""
    seen: set[int] = set()
    count = shared = 0
    first = ""
    for lease in leases:
        count += 1
        try:
            files = command.output_files(lease)
        except (Reject, LookupError, UsageError):
            continue  # said above, or it will be: its run fails
        for file in files:
            key = hash(file)
            if key in seen:
                shared += 1
                first = first or f"{one_line(file)} (param {one_line(lease.id)})"
            seen.add(key)
    if shared:
        say(
            f"minionize: {shared} of {count} params write a file that another one writes, too, "
            f"first {first}: only the last one's stays; put {{id}} into its name"
        )


def _waiting(settings: Settings) -> Iterator[Lease]:
    if settings.from_file:
        from minionize.filling.reading import read_params

        texts = read_params(
            settings.from_file,
            null=settings.null,
            format=settings.format,
            typed=settings.typed,
            sep=settings.sep,
            header=settings.header,
        )
        for number, text in enumerate(texts, 1):
            yield Lease(str(number), text)
        return
    from minionize.contracts.engine import EngineOptions
    from minionize.engines.registry import open_queue

    queue = open_queue(settings.queue, EngineOptions(create=False, env=settings.env))
    try:
        from minionize.status.listing import scanned

        waiting = scanned(queue, State.WAITING)
        if waiting is None:
            raise NotSupported(
                f"{queue.url} can't list what waits, so --dry-run has nothing to show: try some "
                "params with --from FILE"
            )
        for entry in waiting:
            yield Lease(entry.id, entry.text, entry.attempt, entry.crashes)
    finally:
        queue.close()

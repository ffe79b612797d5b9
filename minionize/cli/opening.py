"""How the commands of `minion` open the queue they are about."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from minionize import settings
from minionize.cli.ending import one_line, say
from minionize.contracts.engine import EngineOptions, Queue
from minionize.settings import Settings

Command = TypeVar("Command", bound=Callable[..., Any])


def queue_option(command: Command) -> Command:
    """`-q/--queue URL`, as `minionize` has it."""
    return click.option(
        "-q",
        "--queue",
        metavar="URL",
        help="The queue: a folder or a URL. [MINION_QUEUE; default minion-queue]",
    )(command)


@contextmanager
def opened_queue(
    name: str, given: Mapping[str, Any], *, feeding: bool = False
) -> Iterator[tuple[Queue, Settings]]:
    """The queue that options (`given`, fields of Settings; None: not given) and environment
    name, as a person sees it. Notes on the settings are said as `name`."""
    loaded = settings.load(given, feeding=feeding)
    for note in loaded.notes:
        say(f"{name}: {one_line(note)}")
    from minionize.engines.registry import open_queue

    host = socket.gethostname()
    options = EngineOptions(
        lease_s=loaded.settings.lease_s,
        minion_id=f"{host}-{os.getpid()}-{secrets.token_hex(3)}",
        host=host,
        pid=os.getpid(),
        env=loaded.settings.env,
    )
    queue = open_queue(loaded.settings.queue, options)
    try:
        yield queue, loaded.settings
    finally:
        queue.close()


def number(count: int, noun: str) -> str:
    """`1,000 params`, `1 param`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"

"""How the commands of `minion` open the queue they are about."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from minionize import settings
from minionize.cli.ending import one_line, say
from minionize.cli.secrets import warnings
from minionize.contracts.engine import EngineOptions, Queue, TellsPolicies
from minionize.settings import Settings
from minionize.values import Harm

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
    name: str, given: Mapping[str, Any], *, feeding: bool = False, create: bool = True
) -> Iterator[tuple[Queue, Settings]]:
    """The queue that options (`given`, fields of Settings; None: not given) and environment
    name, as a person sees it. Notes on the settings are said as `name`. `create`: what is
    missing may be made when it is filled."""
    loaded = settings.load(given, feeding=feeding, exporting=False)
    for note in (*loaded.notes, *warnings(loaded)):
        say(f"{name}: {one_line(note)}")
    with opened(loaded.settings, create=create) as queue:
        yield queue, loaded.settings


@contextmanager
def opened(settings: Settings, *, create: bool = True) -> Iterator[Queue]:
    """The queue of `settings`, as a person sees it."""
    from minionize.engines.registry import open_queue

    queue = open_queue(settings.queue, options_of(settings, create=create))
    try:
        yield queue
    finally:
        queue.close()


def options_of(settings: Settings, *, create: bool) -> EngineOptions:
    """How this process opens queues."""
    host = socket.gethostname()
    return EngineOptions(
        lease_s=settings.lease_s,
        create=create,
        minion_id=f"{host}-{os.getpid()}-{secrets.token_hex(3)}",
        host=host,
        pid=os.getpid(),
        env=settings.env,
    )


def say_made(name: str, queue: Queue) -> None:
    """What had to be made for `queue`. A folder stands in the line about what was put."""
    made: Sequence[str] = getattr(queue, "made", ())  # engines of others may be older than it
    if queue.traits.folder is None and made:
        say(one_line(f"{name}: made {', '.join(made)}"))


def say_policies(name: str, queue: Queue) -> None:
    """What the broker of `queue` may do to its params, where a person should know that before
    they are put."""
    if isinstance(queue, TellsPolicies):
        for policy in queue.policies():
            if policy.harm is not Harm.UNKNOWN:
                say(one_line(f"{name}: warning: {policy.line()}"))


def number(count: int, noun: str) -> str:
    """`1,000 params`, `1 param`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"

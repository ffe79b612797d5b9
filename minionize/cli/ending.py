"""How a command of ours ends: one line for what went wrong, the right status, never a traceback."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

import click

from minionize import settings
from minionize.errors import MinionizeError


def finish(body: Callable[[], int], name: str) -> NoReturn:
    """Run `body` and end the process with the status it returns, or with that of its error.

    `name` begins each line on stderr. MINION_DEBUG=1 shows the traceback of any error.
    """
    try:
        status = body()
        sys.stdout.flush()
    except KeyboardInterrupt:
        die_of(signal.SIGINT)
    except click.Abort as abort:
        # click makes the same of ^C and of a question that got no answer.
        if isinstance(abort.__cause__, KeyboardInterrupt):
            die_of(signal.SIGINT)
        status = told(abort, name)
    except BrokenPipeError:
        # Whoever read our output went away, as `head` does.
        die_of(signal.SIGPIPE)
    except Exception as error:
        status = told(error, name)
    try:
        sys.stderr.flush()
    except OSError:
        status = status or 70
    sys.exit(status)


def told(error: Exception, name: str) -> int:
    """Say on stderr what went wrong; returns the exit status it means."""
    if settings.debugging():
        import traceback

        traceback.print_exception(type(error), error, error.__traceback__)
    if isinstance(error, click.ClickException):
        message = error.format_message().rstrip(".")
        line, status = f"{message}: see {name} --help", 2
    elif isinstance(error, MinionizeError):
        line, status = str(error), error.exit_status
    elif isinstance(error, click.Abort):
        line, status = "given up: nothing was changed", 2
    else:
        line = (
            f"unexpected {type(error).__name__}: {error}; "
            "MINION_DEBUG=1 shows where, please report it"
        )
        status = 70
    say(f"{name}: {one_line(line)}")
    return status


def say(line: str) -> None:
    """A line on stderr, as far as anybody reads it."""
    try:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        # Nobody listens, or the disk of the log is full; the exit status still tells.
        return


def one_line(text: str) -> str:
    """Without line breaks, nor anything else that a terminal obeys or can't show."""
    text = " ".join(text.split())
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def die_of(signum: int) -> NoReturn:
    """End as this signal ends a process, so that a shell's loop around us ends too."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signum})
    os.kill(os.getpid(), signum)
    os._exit(128 + signum)

"""How a command of ours ends: one line for what went wrong, the right status, never a traceback."""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import select
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from minionize import settings
from minionize.errors import MinionizeError

SOFTWARE = 70
"""An error of our own; never 1, which is what a drained queue with dead letters means."""


def finish(
    body: Callable[[], int], name: str, *, quickly: Callable[[], bool] = lambda: False
) -> NoReturn:
    """Run `body` and end the process with the status it returns, or with that of its error.

    `name` begins each line on stderr. MINION_DEBUG=1 shows the traceback of any error. Where
    the reader of our output went away, as `head` does, the end is that of other programs: SIGPIPE.
    `quickly` says afterwards whether nothing but ours was in this process.
    """
    if os.getpid() == 1:
        from minionize.cli.first import stand_before

        stand_before()
    open_standard()
    try:
        status = body()
        if sys.stdout is not None:  # as with >&-
            sys.stdout.flush()
    except KeyboardInterrupt:
        die_of(signal.SIGINT)
    except BaseException as error:
        if isinstance(error, BrokenPipeError) and _reader_left():
            die_of(signal.SIGPIPE)
        try:
            status = told(error, name)
            _drop_unwritten()
        except BaseException:  # no memory even for that
            os._exit(SOFTWARE)
    if quickly():
        _leave(status)
    sys.exit(status)


def _leave(status: int) -> None:
    """End as sys.exit does, without taking the interpreter apart: that takes 10 to 50 ms, for
    which a person would wait after many short runs. Returns where a thread or profiler that is not
    ours wants more."""
    threading = sys.modules.get("threading")
    if (
        (threading is not None and threading.active_count() > 1)
        or sys.gettrace() is not None
        or sys.getprofile() is not None
        or settings.debugging()
    ):
        return
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            if stream is not None:
                stream.flush()
    os._exit(status)


def open_standard() -> None:
    """Put /dev/null where standard input, output or error is closed: the next file that is
    opened would take its place, and be written to in its name."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:  # what prints need not know
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def _reader_left() -> bool:
    """Whether our output has no reader any more: another pipe may have been the broken one."""
    poll = select.poll()
    for fd in (1, 2):
        poll.register(fd, 0)
    return any(seen & (select.POLLERR | select.POLLHUP) for _fd, seen in poll.poll(0))


def _drop_unwritten() -> None:
    """What can't be written to stdout must not be tried, and complained of, once more."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)


def told(error: BaseException, name: str) -> int:
    """Say on stderr what went wrong; returns the exit status it means."""
    if settings.debugging():
        import traceback

        traceback.print_exception(type(error), error, error.__traceback__)
    click = sys.modules.get("click")  # not imported by a minion that starts as it should
    if isinstance(error, MinionizeError):
        line, status = str(error), error.exit_status
    elif click is not None and isinstance(error, click.ClickException):
        message = error.format_message().rstrip(".")
        habit = _HABITS.get(getattr(error, "option_name", ""))
        if habit and name in ("minionize", "minion run"):
            message = f"{message}: {habit}"
        line, status = f"{message}: see {name} --help", 2
    elif click is not None and isinstance(error, click.Abort):
        line, status = "given up: nothing was changed", 2
    else:
        line, status = _unexpected(error), SOFTWARE
    say(f"{name}: {one_line(line)}")
    return status


_HABITS = {
    "-P": "-j N runs N params at once",
    "--jobs": "-j N runs N params at once",
    "-n": "a run takes one param",
    "-N": "a run takes one param",
    "-L": "a run takes one param",
    "-I": "{} in CMD stands for the param",
    "-i": "{} in CMD stands for the param",
    "-a": "--from FILE names the file of params",
    "--arg-file": "--from FILE names the file of params",
    "--retries": "--max-attempts N tries so often",
    "--results": "--stdout and --stderr name a file for each run",
    "--joblog": "a queue remembers what is done",
    "--resume": "a queue remembers what is done",
}
"""What options of xargs and GNU parallel are here."""

_LACKING = {
    errno.EMFILE: "more open files are needed than the limit here: raise ulimit -n",
    errno.ENFILE: "this host has too many open files: end some, or use another",
    errno.EAGAIN: "no process can be started: raise the limit on processes (ulimit -u, a job's)",
    errno.ENOMEM: "no memory is left: raise the limit on it (ulimit -v, ulimit -d, a job's)",
    errno.EFBIG: "larger files are needed than the limit here: raise ulimit -f",
}


def lacking(error: BaseException) -> str:
    """What this host lacks, and the remedy, if that is what `error` says; else empty."""
    if isinstance(error, MemoryError) or (
        # How a library of C is told that it can't be mapped.
        isinstance(error, ImportError) and "failed to map" in str(error)
    ):
        return _LACKING[errno.ENOMEM]
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return _LACKING[errno.EAGAIN]
    # A write that would have to wait for its reader has EAGAIN as well.
    if not isinstance(error, OSError) or hasattr(error, "characters_written"):
        return ""
    return _LACKING.get(error.errno or 0, "")


def _unexpected(error: BaseException) -> str:
    if line := lacking(error):
        return line
    if isinstance(error, OSError):
        try:
            os.getcwd()
        except OSError:
            return "the current folder is gone: cd to one that is there"
        if error.errno == errno.ENOSPC and error.filename is None:
            return "no space left where the output goes: make room, or send it elsewhere"
        if error.errno in (errno.EACCES, errno.EPERM) and error.filename is not None:
            return (
                f"{os.fsdecode(error.filename)}: {error.strerror}: you need the right to read it, "
                "and where something is written the right to write (ask its owner; chmod)"
            )
    return (
        f"unexpected {type(error).__name__}: {error}; MINION_DEBUG=1 shows where, please report it"
    )


def say(line: str) -> None:
    """A line on stderr, as far as it has a reader."""
    if sys.stderr is None:  # as with 2>&-
        return
    try:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        # It has no reader, or the disk of the log is full; the exit status still tells.
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
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            continue
    signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signum})
    os.kill(os.getpid(), signum)
    os._exit(128 + signum)

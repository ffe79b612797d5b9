"""What a function returned, or raised, as text that can travel."""

from __future__ import annotations

import contextlib
import math
import os
from typing import Any

from minionize.callbacks import current
from minionize.errors import Reject, RetryLater
from minionize.worker.functions.encoding import Unkept, text_of
from minionize.worker.functions.records import MOST_DETAIL, MOST_RESULT, Fields

NO_ROOM = "no room for its result"
"""What the reason of a run begins with whose result could not be written: the machine's fault."""


class Keeper:
    """Makes of what a function returned what its record says."""

    def __init__(self, folder: str | None) -> None:
        """`folder`: for results that are large; made when there is one. None: no
        result is kept, and it is only noted that there was one."""
        self._folder = folder

    def keep(self, value: Any) -> str | Fields:
        """The JSON text of `value`, or more to say: a file that has it, or why it can't be kept."""
        if self._folder is None:
            return "null"
        try:
            text = text_of(value)
        except Unkept as error:
            return Fields("failed", f"no JSON: {error.kind}", f"{error}: {REMEDY}")
        return text if len(text) <= MOST_RESULT else self._in_file(text, self._folder)

    def _in_file(self, text: str, folder: str) -> Fields:
        name = f"{current.minion_id or 'minion'}.{os.urandom(6).hex()}.json"
        path, draft = os.path.join(folder, name), os.path.join(folder, f".{name}.tmp")
        try:
            _make_folder(folder)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(draft, flags, 0o666), "wb") as file:
                file.write(text.encode("ascii"))
            os.rename(draft, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(draft)
            return Fields("unable", f"{NO_ROOM} in {folder}: {error.strerror}")
        return Fields(result_file=path)


def _make_folder(folder: str) -> None:
    """Make it, and the one that it is in: a queue that was removed must not come back."""
    with contextlib.suppress(FileExistsError):
        try:
            os.mkdir(folder)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                os.mkdir(os.path.dirname(folder))
            os.mkdir(folder)


REMEDY = (
    "return numbers, text, lists, dicts, dates, arrays or dataclasses of these, or write a file "
    "and return its name"
)


_FOR_PROGRAMS = {
    75: "75 gives a param back only as the status of a program: a function raises "
    "minionize.RetryLater",
    65: "65 makes a param dead only as the status of a program: a function raises minionize.Reject",
}
"""Statuses that a program is known by, and what a function does instead."""


class Terminated(SystemExit):
    """TERM arrived: unwinds the function, so that what it opened is closed."""


def traced(error: BaseException) -> str:
    """The traceback of what a function raised, without our own frame; the end of it, if long."""
    import traceback

    frames = error.__traceback__.tb_next if error.__traceback__ is not None else None
    try:
        lines = traceback.format_exception(type(error), error, frames)
    except Exception as second:  # an exception that can't even be printed
        lines = [f"{type(error).__name__} (its text can't be had: {type(second).__name__})\n"]
    text = "".join(lines).rstrip()
    return text if len(text) <= MOST_DETAIL else "…" + text[-MOST_DETAIL:]


def failed(error: BaseException) -> Fields:
    """What an exception that left the function means."""
    if isinstance(error, RetryLater):
        return Fields("later", delay_s=_delay(error.delay_s))
    if isinstance(error, Reject):
        # The reason says it all, unless something else led to it.
        detail = traced(error) if error.__cause__ or error.__context__ else ""
        return Fields("rejected", str(error.reason)[:1000], detail)
    if isinstance(error, Terminated):
        return Fields("failed", "signal SIGTERM", traced(error), -15)
    if isinstance(error, SystemExit):
        status = exit_status(error)
        if not status:
            return Fields()  # as a program that ends with 0
        said = str(error.code)[-MOST_DETAIL:] if type(error.code) is str else traced(error)
        if status in _FOR_PROGRAMS:
            said = f"{said}\n{_FOR_PROGRAMS[status]}"
        return Fields("failed", f"exit {status}", said, status)
    return Fields("failed", type(error).__name__, traced(error))


def exit_status(error: BaseException) -> int:
    """What a process would end with that lets this exception go."""
    if not isinstance(error, SystemExit):
        return 1
    code = error.code
    if code is None or isinstance(code, int):
        # A status has 8 bits, and what is not 0 must not become 0.
        return int(code or 0) & 255 or (1 if code else 0)
    return 1


def _delay(asked: Any) -> float | None:
    """A delay that can be kept to; None (the usual one) for what is none."""
    try:
        delay_s = float(asked)
    except (TypeError, ValueError, OverflowError):
        return None
    return max(0.0, delay_s) if math.isfinite(delay_s) else None

"""What a function returned, or raised, as text that can travel."""

from __future__ import annotations

import json
import math
from typing import Any

from minionize.errors import Reject, RetryLater
from minionize.worker.functions.records import MOST_DETAIL, MOST_RESULT, Fields

_SMALL = 1 << 53


def _plain(value: Any) -> Any:
    """numpy's numbers and arrays (and what is like them) as plain ones."""
    tolist = getattr(value, "tolist", None)
    if tolist is None:
        raise TypeError(f"{type(value).__name__} is no JSON")
    return tolist()


_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":"), default=_plain).encode


def text_of(value: Any) -> str:
    """`value` as JSON text of 64 KiB at most; Lost, with the reason, where there is none.

    NaN and infinities, which JSON lacks, become null.
    """
    kind = type(value)
    if kind is int and -_SMALL < value < _SMALL:
        return repr(value)
    if kind is float and math.isfinite(value):
        return repr(value)
    try:
        text = _encode(value)
    except ValueError:
        try:
            text = _encode(_without_nan(value))
        except Exception as error:
            raise Lost(str(error)) from error
    except Exception as error:  # whatever the value's own methods raise
        raise Lost(str(error)) from error
    if len(text) > MOST_RESULT:
        raise Lost(f"{len(text) // 1024} KiB of JSON, and {MOST_RESULT >> 10} fit")
    return text


class Terminated(SystemExit):
    """TERM arrived: unwinds the function, so that what it opened is closed."""


class Lost(Exception):
    """A result that can't be kept; the run is done all the same."""


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _without_nan(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(member) for member in value]
    if hasattr(value, "tolist"):
        return _without_nan(value.tolist())
    return value


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


def lost_line(run_id: str, detail: str) -> str:
    """What a person is told, once, of a result that is lost."""
    return (
        f"{run_id}: {detail} (and so for others like it): "
        "return numbers, strings, lists and dicts, or write files"
    )

"""The values that all floors share: params, leases, what a queue holds, and clocks."""

from __future__ import annotations

import enum
import json
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol

from minionize.errors import BadParam

Param = Any
"""A param: one JSON value (None, bool, int, float, str, list, dict with str keys)."""

RUN_VARIABLES = (
    "MINION_PARAM",
    "MINION_PARAM_FILE",
    "MINION_PARAM_ID",
    "MINION_ATTEMPT",
    "MINION_ID",
    "MINION_SLOT",
    "MINION_DEADLINE",
    "MINION_JOB",
    "MINION_CHECKPOINT_DIR",
)
"""What the environment of a run holds, of which some may be missing."""


class State(str, enum.Enum):
    """Where a param is. The values are the words that people read and type."""

    WAITING = "waiting"
    """Can be leased now."""
    DELAYED = "delayed"
    """Given back; can be leased when its delay is over."""
    RUNNING = "running"
    """Leased by a minion (running, or about to)."""
    DONE = "done"
    """Acked."""
    DEAD = "dead"
    """A dead letter, kept with its reason."""


class Failure(NamedTuple):
    """Why a param is a dead letter, or why an attempt failed."""

    reason: str
    """Short and fit for grouping: `exit 3`, `signal SIGSEGV`, `timeout`, `ValueError`."""
    detail: str = ""
    """What helps to mend it: the tail of stderr, a traceback. At most a few KiB."""


class Lease(NamedTuple):
    """A param that a minion holds for a limited time.

    `id` survives redelivery; `token` is the engine's own and means nothing to others.
    The param is kept as its JSON text, since most minions only pass it on; `param` parses it.
    """

    id: str
    text: str
    """The param as JSON on one line, as it stands in the queue."""
    attempt: int = 1
    """1 + the runs of the param that failed by themselves."""
    crashes: int = 0
    """How often a minion died while it ran this param."""
    laters: int = 0
    """How often in a row the program asked for it to be given back (exit 75, RetryLater)."""
    suspect: bool = False
    """A dead minion held it: lease it singly and mark it with `started` before it starts."""
    token: Any = None

    @property
    def param(self) -> Param:
        """The param itself; parsed anew at each call."""
        return json.loads(self.text)


class Entry(NamedTuple):
    """A param as `scan` shows it to a person."""

    id: str
    text: str
    state: State
    attempt: int = 1
    crashes: int = 0
    holder: str = ""
    """The id of the minion that runs it, where the engine knows."""
    due_in_s: float | None = None
    """Seconds until a delayed param can be leased."""
    failure: Failure | None = None
    """Why it is dead."""

    @property
    def param(self) -> Param:
        """The param itself; parsed anew at each call."""
        return json.loads(self.text)


class Stats(NamedTuple):
    """What a queue holds. None where the engine can't know.

    put = waiting + delayed + running + done + dead + purged, where all are known.
    """

    put: int | None = None
    waiting: int | None = None
    delayed: int | None = None
    running: int | None = None
    done: int | None = None
    dead: int | None = None
    purged: int | None = None
    feeders: int = 0
    """Feeders at work: while there is one, the queue is not drained."""
    minions: int | None = None
    """Minions alive."""
    paused: bool = False
    due_in_s: float | None = None
    """Seconds until the next delayed param can be leased, where known."""
    lost: int | None = None
    """Params that are gone, and were neither run nor purged: the broker dropped them by a policy of
    its own, or another program deleted them. Where `purged` is known they are part of it."""

    @property
    def drained(self) -> bool | None:
        """Whether every param put is done or dead and no feed is at work; None where unknown."""
        if self.feeders:
            return False
        left = (self.waiting, self.delayed, self.running)
        if any(left):
            return False
        return None if None in left else True


class Harm(str, enum.Enum):
    """What a policy of a broker may do to a queue."""

    LOSS = "loss"
    """Params, or dead letters, can be dropped."""
    BLOCK = "block"
    """Minions can't work under it."""
    DELAY = "delay"
    """Params come later than they could, or are hidden from minions for a while."""
    UNKNOWN = "unknown"
    """The broker does not tell us its policies."""


class Policy(NamedTuple):
    """A setting of the broker by which params are dropped, delayed or hidden. Each part is a
    clause of one line for people."""

    harm: Harm
    setting: str
    """The setting and its value, in the broker's own words: `maxmemory-policy allkeys-lru`."""
    effect: str
    remedy: str

    def line(self) -> str:
        """`setting: effect: remedy`."""
        return f"{self.setting}: {self.effect}: {self.remedy}"


class Orders(NamedTuple):
    """What people told all minions of a queue; as of the last lease or extend."""

    paused: bool = False
    stops: int = 0
    """How often `minion stop` was said. A minion stops when it grows past what it found
    when it opened the queue, so that minions started later do work."""


class MinionInfo(NamedTuple):
    """A minion or feeder as the queue knows it."""

    id: str
    host: str = ""
    pid: int = 0
    slots: int = 0
    running: int = 0
    beat_age_s: float | None = None
    feeder: bool = False


class Clock(Protocol):
    """Time, so that tests can hold it in their hands."""

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back. Leases are measured with it."""

    def time(self) -> float:
        """Unix time in seconds. Only due times of delayed params and reports use it."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class SystemClock:
    """The machine's own clocks."""

    monotonic = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)
    time = staticmethod(time.time)  # last: from here on `time` is this, not the module


def to_text(param: Param) -> str:
    """The JSON text of `param` on one line, as queues keep it.

    Numbers and arrays of numpy are taken as plain ones. Raises ValueError or TypeError for what is
    no JSON (NaN, sets, keys that are no strings).
    """
    return _encode(param)


def _plain(value: Any) -> Any:
    if type(value).__module__ == "numpy":
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no JSON")


_encode = json.JSONEncoder(
    ensure_ascii=True, allow_nan=False, separators=(",", ":"), default=_plain
).encode


def to_texts(params: Iterable[Param]) -> Iterator[str]:
    """The same of each as it comes; BadParam for what is no JSON, with its place from 1."""
    for place, param in enumerate(params, 1):
        try:
            text = to_text(param)
        except (TypeError, ValueError, RecursionError) as error:
            raise BadParam(f"param {place} is no JSON ({error}): use JSON values only") from error
        yield text

"""Queues from Python: fill them, look into them, get their results."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from minionize.api.common import load_settings, say
from minionize.contracts.engine import EngineOptions, Queue, Traits
from minionize.errors import UsageError
from minionize.settings import Settings
from minionize.values import Entry, MinionInfo, Param, State, Stats


def open_queue(url: str | os.PathLike[str] | None = None, **settings: Any) -> QueueHandle:
    """The queue that `url` names (None: the one of the settings), to be filled and looked into.

    A context manager. A missing queue is made by `put`, and is NoSuchQueue to everything else.
    """
    return QueueHandle(load_settings({"queue": url, **settings}, feeding=True))


class QueueHandle:
    """A queue as people see it; see contracts.engine.Queue for what each method promises."""

    def __init__(self, settings: Settings) -> None:
        from minionize.engines.registry import open_queue as open_by_url

        host = os.uname().nodename
        plain = "".join(c if (c.isascii() and c.isalnum()) or c in "._-" else "-" for c in host)
        options = EngineOptions(
            lease_s=settings.lease_s,
            minion_id=f"{plain or 'host'}-{os.getpid()}-{os.urandom(3).hex()}",
            host=host,
            pid=os.getpid(),
            env=settings.env,
        )
        self._settings = settings
        self._queue: Queue = open_by_url(settings.queue, options)

    @property
    def traits(self) -> Traits:
        """What this kind of queue can do."""
        return self._queue.traits

    @property
    def url(self) -> str:
        """Its name, without credentials."""
        return self._queue.url

    @property
    def made(self) -> Sequence[str]:
        """What `put` had to make, in the broker's own words."""
        return self._queue.made

    def put(self, params: Iterable[Param]) -> int:
        """Put params, all or none; durable when it returns how many. BadParam for no JSON."""
        if isinstance(params, (str, bytes, dict)):
            raise UsageError(f"put takes params, not one {type(params).__name__}: put([param])")
        return self._queue.put(params)

    def put_texts(self, texts: Iterable[str]) -> int:
        """`put` for params that are JSON texts on one line each already; unchecked."""
        return self._queue.put_texts(texts)

    def feeding(self) -> AbstractContextManager[None]:
        """While it is entered, no minion calls the queue drained."""
        return self._queue.feeding()

    def results(self, *, dead: bool = False, output: bool = False) -> Iterator[dict[str, Any]]:
        """A row for each param that is done: its keys as they are (a param that is no object
        stands under `param`), the result's (no object: `result`), then `_id _status _attempt
        _seconds _host _reason`. So `pandas.DataFrame(queue.results())` is a table.

        `dead`: dead letters too. `output`: captured output as `_stdout` and `_stderr`. A large
        result whose file is gone is told in `_lost`. Rows are read from the report that the json
        reporter writes, the default of file queues.
        """
        from minionize.status.read import Faults
        from minionize.status.report import report_of
        from minionize.status.rows import Want, result_rows

        folder = report_of(self._settings, self._queue.traits.folder)
        faults = Faults()
        yield from result_rows(self._queue, folder, Want(dead=dead, output=output), faults)
        for line in faults.lines():
            say(line)

    def scan(self, state: State | str) -> Iterator[Entry]:
        """The params that are waiting, delayed, running, done or dead."""
        return self._queue.scan(State(state))

    def look_up(self, ids: Collection[str]) -> dict[str, Entry]:
        """The params of these ids, as far as they are found."""
        return self._queue.look_up(ids)

    def requeue(self, ids: Collection[str] | None = None, state: State | str = State.DEAD) -> int:
        """Put dead letters (all, or these) back to work; how many."""
        return self._queue.requeue(ids, State(state))

    def purge(self, state: State | str | None = None) -> int:
        """Drop the params in this state, or all that are not running; how many."""
        return self._queue.purge(None if state is None else State(state))

    def steer(self, *, paused: bool | None = None, stop: bool = False) -> None:
        """Pause or resume leasing, or tell the minions at work now to stop."""
        self._queue.steer(paused=paused, stop=stop)

    def minions(self) -> Sequence[MinionInfo]:
        """Minions and feeders alive."""
        return self._queue.minions()

    def stats(self) -> Stats:
        """How many are waiting, delayed, running, done and dead."""
        return self._queue.stats()

    def close(self) -> None:
        """Let go of files and connections."""
        self._queue.close()

    def __enter__(self) -> QueueHandle:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

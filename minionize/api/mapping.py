"""`simulate.map(params)`: all of it at once, on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from minionize.api.common import say
from minionize.api.minions import minionizer
from minionize.api.queues import QueueHandle, open_queue
from minionize.callbacks.func import FuncCallback
from minionize.errors import MinionizeError, UsageError
from minionize.events import Kind
from minionize.values import Param

_OURS = ("queue", "reporter", "report_dir", "from_file", "until")


class RunFailed(Exception):
    """What a run left behind when it failed: a traceback, or the tail of its stderr."""


def mapped(
    func: Callable[..., Any], params: Iterable[Param], settings: dict[str, Any]
) -> list[dict[str, Any]]:
    """The rows of `params`, in their order; see Minionized.map."""
    import tempfile

    for name in _OURS:
        if settings.get(name) is not None:
            raise UsageError(
                f"map brings its own {name.replace('_', ' ')}: use put, work and results"
            )
    with tempfile.TemporaryDirectory(prefix="minion-map-") as folder:
        # Named by the folder: one queue per call, also in several threads.
        url = f"memory:map-{folder}"
        mine = {"queue": url, "reporter": "json", "report_dir": folder, "until": "drained"}
        with open_queue(**mine) as queue:
            count = queue.put(params)
            if not count:
                return []
            try:
                minion = minionizer(FuncCallback(func), **{**settings, **mine})
                summary = minion.run()
                if summary.died_of is not None:
                    raise KeyboardInterrupt
                if summary.exit_status not in (0, 1):
                    last = _last_failure(folder)
                    why = f"map ended after {summary.done} of {count} params: {summary.why}"
                    raise MinionizeError(f"{why} ({last[0]})" if last else why) from (
                        RunFailed(f"{last[0]}\n{last[1]}") if last else None
                    )
                return _rows(queue)
            finally:
                queue.purge()


def _rows(queue: QueueHandle) -> list[dict[str, Any]]:
    rows = sorted(queue.results(dead=True), key=lambda row: int(row["_id"]))
    dead = [row for row in rows if row["_status"] != "done"]
    if dead:
        say(
            f"map: {len(dead)} of {len(rows)} params are dead, the first of {dead[0]['_reason']}: "
            "see _status and _reason of their rows"
        )
    return rows


def _last_failure(folder: str) -> tuple[str, str] | None:
    """Reason and detail of the last attempt that failed."""
    from minionize.status.read import Faults, read_events

    last = None
    for _, event in read_events(folder, Faults()):
        if event.reason and (event.charged or event.kind is Kind.DEAD):
            last = event.reason, event.detail
    return last

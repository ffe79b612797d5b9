"""`simulate.map(params)`: all of it at once, on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from minionize.api.common import load_settings, refuse_half_started, say
from minionize.api.queues import QueueHandle
from minionize.assembly import make_minion
from minionize.callbacks.func import FuncCallback
from minionize.errors import MinionizeError, UsageError
from minionize.events import Kind
from minionize.values import Param
from minionize.worker.summary import Summary

_OURS = ("queue", "reporter", "report_dir", "from_file", "call", "until")


class RunFailed(Exception):
    """What a run left behind when it failed: a traceback, or the tail of its stderr."""


def mapped(
    func: Callable[..., Any],
    params: Iterable[Param],
    usual: dict[str, Any],
    settings: dict[str, Any],
) -> list[dict[str, Any]]:
    """The rows of `params`, in their order; see Minionized.map. `usual`: the settings of the
    decorator, whose queue is not this one."""
    import tempfile

    refuse_half_started()
    for name in _OURS:
        if settings.get(name) is not None:
            raise UsageError(
                f"map brings its own {name.replace('_', ' ')}: use put, work and results"
            )
    usual = {name: value for name, value in usual.items() if name not in _OURS}
    told = load_settings({**usual, **settings, "until": "drained"})
    with tempfile.TemporaryDirectory(prefix="minion-map-") as folder:
        told = told._replace(
            queue=f"memory:map-{folder}",  # one per call, also in several threads
            reporter="json",
            report_dir=folder,
            from_file=None,
            wait=False,
        )
        with QueueHandle(told) as queue:
            count = queue.put(params)
            try:
                if count:
                    summary = make_minion(told, FuncCallback(func), lines=say).run()
                    if summary.died_of is not None:
                        raise KeyboardInterrupt
                    if queue.stats().drained is not True:
                        raise _ended_early(summary, count, folder)
                return _rows(queue)
            finally:
                if count:
                    queue.purge()


def _ended_early(summary: Summary, count: int, folder: str) -> MinionizeError:
    """What to raise, with the last failure as its cause."""
    error = MinionizeError(f"map ended after {summary.done} of {count} params: {summary.why}")
    last = _last_failure(folder)
    if last is not None:
        error = MinionizeError(f"{error} ({last[0]})")
        error.__cause__ = RunFailed(f"{last[0]}\n{last[1]}")
    return error


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

"""Joining a queue that is not there yet, or can't be reached just now."""

from __future__ import annotations

from collections.abc import Callable

from minionize.contracts.engine import Engine, EngineOptions
from minionize.engines.registry import open_engine
from minionize.errors import EngineUnavailable, NoSuchQueue
from minionize.settings import Settings
from minionize.values import Clock
from minionize.worker.link import LONG_BUSY_S
from minionize.worker.signals import Stopping, is_readable

_FIRST_LOOK_S = 0.1
_LAST_LOOK_S = 2.0


def join_queue(
    settings: Settings,
    options: EngineOptions,
    *,
    clock: Clock,
    stopping: Stopping,
    lines: Callable[[str], None],
) -> Engine | None:
    """The engine of `settings.queue`, or None when told to stop while waiting for it.

    With `settings.wait` a missing queue is waited for (up to `max_time_s`); one that can't be
    reached is tried for `reconnect_s`, but as long as it takes while it is only busy. After that
    NoSuchQueue or EngineUnavailable.
    """
    began = lost_at = clock.monotonic()
    pause_s = _FIRST_LOOK_S
    installed = told = False
    try:
        while not stopping.why:
            try:
                return open_engine(settings.queue, options)
            except NoSuchQueue as error:
                most_s = settings.max_time_s
                if not settings.wait or (most_s and clock.monotonic() - began >= most_s):
                    raise
                why = f"{error}; waiting for it"
            except EngineUnavailable as error:
                now = clock.monotonic()
                why = f"{error}; trying again for {settings.reconnect_s:.0f} s"
                if error.busy:
                    lost_at, pause_s = now, _FIRST_LOOK_S
                    why = f"{error}; waiting on" if now - began >= LONG_BUSY_S else ""
                if now - lost_at >= settings.reconnect_s:
                    raise
            if not installed:
                stopping.install()
                installed = True
            if why and not told:
                lines(why)
                told = True
            # A signal makes it readable, and ends the pause.
            is_readable(stopping.wake_fd, pause_s)
            pause_s = min(_LAST_LOOK_S, 1.5 * pause_s)
        return None
    finally:
        # The worker heeds them by itself; what came meanwhile is known to `stopping`.
        stopping.restore()

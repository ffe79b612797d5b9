"""The crew for a callback: of programs, or of functions."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from minionize import engines
from minionize.contracts.crew import Crew
from minionize.contracts.engine import Engine
from minionize.settings import Settings
from minionize.worker.blame import unfit
from minionize.worker.checkpoints import Checkpoints
from minionize.worker.guard import Guard
from minionize.worker.signals import Stopping


def make_crew(
    callback: Any,
    settings: Settings,
    *,
    engine: Engine,
    minion_id: str,
    stopping: Stopping,
    guard: Guard,
    before_output: Callable[[], None] | None,
    lines: Callable[[str], None],
    checkpoints: Checkpoints | None,
    backlog: int,
    keep_end: bool,
    results: str | None,
) -> Crew:
    """Programs for a callback with `invocation`, else functions. `before_output` is called
    before anything is written to stdout or stderr. `backlog`: so many ended runs may wait until
    their output is read. `keep_end`: of what programs print, which is passed on, outcomes have
    the end. `results`: as of Reporter.results_folder. HostUnfit where the machine has no room for
    its files or processes."""
    common: dict[str, Any] = {
        "slots": settings.slots,
        "env": settings.env,
        "minion_id": minion_id,
        "wake_fd": stopping.wake_fd,
        "guard": guard,
        "engine": engine,
        "timeout_s": settings.timeout_s,
        "deadline": settings.deadline,
        "checkpoints": None if checkpoints is None else checkpoints.folder,
        "patience_s": settings.reconnect_s,
        "capture": bool(settings.capture),
        "stop": stopping.request,
        "before_output": before_output,
    }
    of_programs = {
        "backlog": backlog,
        "alone": engines.alone,
        "keep_end": keep_end,
        "campaign": _campaign(engine),
    }
    try:
        return _made(callback, settings, common, of_programs, lines, results)
    except OSError as error:
        raise unfit("a minion can't begin here", error) from error


def _made(
    callback: Any,
    settings: Settings,
    common: dict[str, Any],
    of_programs: dict[str, Any],
    lines: Callable[[str], None],
    results: str | None,
) -> Crew:
    if hasattr(callback, "invocation"):
        from minionize.worker.programs import ProgramCrew

        return ProgramCrew(
            callback,
            on_exit=settings.on_exit,
            grace_s=settings.grace_s,
            tty=settings.tty,
            **of_programs,
            **common,
        )
    if settings.inline:
        from minionize.worker.functions.inline import InlineCrew

        return InlineCrew(callback, results=results, **common)
    from minionize.worker.functions.crew import FunctionCrew

    return FunctionCrew(callback, results=results, lines=lines, **common)


def _campaign(engine: Engine) -> str:
    """A word for its queue, without what is secret in the URL; empty where the queue ends with
    the minion."""
    if not engine.traits.durable:
        return ""
    import os
    import zlib

    word = f"{zlib.crc32(engine.url.encode()):08x}"
    folder = engine.traits.folder
    if folder is not None:
        with contextlib.suppress(OSError):
            # Another queue may have the name after this one.
            word += f"-{os.stat(folder).st_ino}"
    return word

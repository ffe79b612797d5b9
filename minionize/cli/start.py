"""Where the commands begin: what keeps one from being loaded is said by us, with our own status.

Python itself would end with 1, which means that a queue is drained and holds dead letters. So
nothing that could be missing is imported up here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import NoReturn

SOFTWARE = 70
_NO_MEMORY = b"minionize can't be loaded, for lack of memory: raise the limits here (ulimit -a)\n"
"""Made before memory is short."""


def minionize() -> NoReturn:
    """The console script `minionize`."""
    _run("minionize", "main", "minionize")


def minion() -> NoReturn:
    """The console script `minion`."""
    _run("minion", "main", "minion")


def status() -> NoReturn:
    """The console script `minion-status`."""
    _run("minion", "status_main", "minion-status")


def _run(module: str, function: str, name: str) -> NoReturn:
    try:
        import gc
        from importlib import import_module

        # What is imported stays: to look for garbage in it takes a tenth of the time.
        gc.disable()
        main = getattr(import_module(f"minionize.cli.{module}"), function)
        gc.enable()
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        os._exit(130)
    except BaseException as error:
        _tell(error, name)
        os._exit(SOFTWARE)
    main()
    os._exit(SOFTWARE)  # they do not return


def _tell(error: BaseException, name: str) -> None:
    try:
        if os.environ.get("MINION_DEBUG", "") not in ("", "0"):
            import traceback

            traceback.print_exception(type(error), error, error.__traceback__)
        why = " ".join(f"{type(error).__name__}: {error}".split())
        lacking = isinstance(error, (MemoryError, OSError)) or "failed to map" in why
        remedy = "raise the limits here (ulimit -a)" if lacking else "install minionize again"
        sys.stderr.write(
            f"{name}: it can't be loaded ({why}): {remedy}; MINION_DEBUG=1 shows where\n"
        )
        sys.stderr.flush()
    except BaseException:  # no memory for it, or no stderr to tell it on: then the status tells
        with contextlib.suppress(OSError):
            os.write(2, _NO_MEMORY)

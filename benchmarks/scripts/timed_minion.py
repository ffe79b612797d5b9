"""Minions whose visits to the head of their queue are timed. argv[1]: the file for the figures;
then the command line of one minion, or `launch local` and its own: then each minion adds `.` and
its process number to the file's name."""

import atexit
import json
import os
import sys
import time
from typing import Any

from minionize.engines.file.head_file import HeadFile
from minionize.engines.file.minion import FileEngine

took = {"visits": 0.0, "waited_s": 0.0, "held_s": 0.0}
lock, unlock, close = HeadFile._lock, HeadFile._unlock, FileEngine.close
locked_at = 0.0


def timed_lock(self: Any) -> None:
    global locked_at
    begin = time.monotonic()
    try:
        lock(self)
    finally:
        locked_at = time.monotonic()
        took["waited_s"] += locked_at - begin
        took["visits"] += 1


def timed_unlock(self: Any) -> None:
    unlock(self)
    took["held_s"] += time.monotonic() - locked_at


def tell(path: str) -> None:
    with open(path, "w") as out:
        json.dump({**took, "wall_s": time.monotonic() - began}, out)


def closed(self: Any) -> None:
    try:
        close(self)
    finally:
        tell(f"{figures}.{os.getpid()}")


def forked() -> None:
    global began
    began = time.monotonic()
    took.update(dict.fromkeys(took, 0.0))


HeadFile._lock, HeadFile._unlock = timed_lock, timed_unlock  # type: ignore[method-assign]
figures = os.path.abspath(sys.argv.pop(1))
began = time.monotonic()
if sys.argv[1] == "launch":
    from minionize.cli.minion import main as launch

    FileEngine.close = closed  # type: ignore[method-assign]
    os.register_at_fork(after_in_child=forked)
    sys.exit(launch())
else:
    from minionize.cli.minionize import main

    atexit.register(tell, figures)
    main()

"""Launches whose minions write into files that are seen from here."""

from __future__ import annotations

import getpass
import glob
import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence

from minionize.beneath import open_plain
from minionize.launch.values import Job, Launch, LogLine, Submitted

_LOOK_EVERY_S = 0.5
ASK_EVERY_S = 5.0
"""The scheduler is asked this seldom whether jobs are alive."""
_PIECE = 1 << 16


def submitted(launch: Launch, scheduler: str, jobs: Sequence[str], log: str) -> Submitted:
    """What to remember of a launch; `log` as the scheduler expands it, with % before each thing
    to fill in."""
    pattern = re.sub(r"%jobid%|%[Aaj]", "\0", glob.escape(log.replace("%%", "\1")))
    patterns = [pattern]
    if "%A" in log:
        patterns = [pattern.replace("\0", job, 1) for job in jobs]
    return Submitted(
        scheduler=scheduler,
        job_ids=tuple(jobs),
        name=launch.name,
        queue=launch.queue,
        minions=launch.minions,
        at=time.time(),
        user=user(),
        host=socket.gethostname(),
        logs=tuple(each.replace("\0", "*").replace("\1", "%") for each in patterns),
    )


def user() -> str:
    """Who we are, by name where there is one."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def lines(
    submitted: Submitted, *, follow: bool, states: Callable[[], Sequence[Job]]
) -> Iterator[LogLine]:
    """The lines of the files, in the order of their names; with `follow` as they come, until all
    jobs are over and all is read. A file that can't be read is told once, by an `unread` line."""
    read_to: dict[str, int] = {}
    rests: dict[str, bytes] = {}
    unread: set[str] = set()
    alive, asked_at = follow, float("-inf")
    while True:
        now = time.monotonic()
        if alive and now - asked_at >= ASK_EVERY_S:
            alive, asked_at = any(not job.over for job in states()), now
        for pattern in submitted.logs:
            folder = _plain(os.path.dirname(pattern))
            for path in sorted(glob.glob(pattern), key=_natural) or [folder]:
                try:
                    if path == folder:
                        _look_into(path)
                    else:
                        yield from _new_lines(path, read_to, rests)
                except FileNotFoundError:
                    continue  # not there yet, or gone again
                except OSError as error:
                    if path not in unread:
                        unread.add(path)
                        yield _unread(path, error)
        if not alive:
            break
        time.sleep(_LOOK_EVERY_S)
    for path, rest in rests.items():
        if rest:
            yield LogLine(job_of(path), rest.decode(errors="replace"))


def job_of(path: str) -> str:
    """The job's id in the name of its file, `NAME.ID.out`."""
    return os.path.basename(path).removesuffix(".out").rpartition(".")[2]


def _plain(pattern: str) -> str:
    """The path that glob.escape was given."""
    return re.sub(r"\[([*?[])\]", r"\1", pattern)


def _look_into(folder: str) -> None:
    """OSError if the files in it can't be found: glob takes that for none."""
    os.listdir(folder)
    os.stat(os.path.join(folder, os.curdir))


def _unread(path: str, error: OSError) -> LogLine:
    why = error.strerror or str(error)
    return LogLine(job_of(path), f"{path} can't be read: {why}; ask its owner for it", unread=True)


def _new_lines(path: str, read_to: dict[str, int], rests: dict[str, bytes]) -> Iterator[LogLine]:
    """What was written since. OSError where it can't be read."""
    with open(open_plain(path, os.O_RDONLY), "rb") as file:
        file.seek(read_to.get(path, 0))
        while piece := file.read(_PIECE):
            read_to[path] = file.tell()
            *complete, rests[path] = (rests.get(path, b"") + piece).split(b"\n")
            for line in complete:
                yield LogLine(job_of(path), line.decode(errors="replace"))


def _natural(path: str) -> list[tuple[int, str]]:
    """So that task 10 comes after task 9."""
    return [
        (int(word), "") if word.isdecimal() else (-1, word) for word in re.split(r"(\d+)", path)
    ]

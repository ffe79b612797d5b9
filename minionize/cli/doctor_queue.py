"""Is the queue in a folder whole, and what did crashed minions leave in it?"""

from __future__ import annotations

import os
from collections.abc import Iterator

from minionize.beneath import Each, NotFollowed
from minionize.cli.doctor_finding import FAIL, OK, WARN, Finding
from minionize.cli.ending import one_line
from minionize.cli.opening import number
from minionize.contracts.engine import EngineOptions
from minionize.engines.file import slot as slots
from minionize.engines.file.batches import NotVisible
from minionize.engines.file.history import history
from minionize.engines.file.people import FileQueue
from minionize.engines.file.room import Room
from minionize.engines.file.texts import Texts
from minionize.errors import MinionizeError

_RESTORE = "restore it from a backup, or feed a new queue"


def check_queue(folder: str, options: EngineOptions, *, full: bool) -> Iterator[Finding]:
    """The queue in `folder`. `full`: each line is read and checked, not only the headers."""
    room = Room(folder, options)
    queue = FileQueue(room)
    try:
        try:
            stats = queue.stats()
        except MinionizeError as error:
            yield _broken("queue", error)
            return
        state = ", paused" if stats.paused else ""
        yield Finding(
            OK, "queue", f"{stats.put or 0:,} put, {stats.waiting or 0:,} waiting, "
            f"{stats.running or 0:,} running, {stats.done or 0:,} done, {stats.dead or 0:,} dead"
            f"{state}",
        )  # fmt: skip
        yield _check_segments(room, full)
        yield from _check_minions(queue, options.lease_s)
        yield _check_leftovers(room)
        yield from _check_links(room.path)
    finally:
        queue.close()


def _check_links(folder: str) -> Iterator[Finding]:
    """What stands in the place of a folder that minions write to, and is not followed."""
    for name, follow in (("report", None), ("checkpoints", False)):
        try:
            Each(os.path.join(folder, name), follow=follow).names()
        except NotFollowed as error:
            said, _, remedy = f"{error.filename}: {error.strerror}".rpartition(": ")
            yield Finding(FAIL, name, said, remedy)
        except OSError:
            continue  # it is not there yet, or is another check's


def _broken(what: str, error: MinionizeError) -> Finding:
    """A finding for an error whose message may end with its remedy."""
    said, _, remedy = str(error).rpartition(": ")
    return Finding(FAIL, what, said or str(error), remedy if said else _RESTORE)


def _check_segments(room: Room, full: bool) -> Finding:
    """Every file of params that the head names is there, and whole."""
    with room.head as head:
        put, segments, low = head.put, head.segments, head.kept_segment
        expected = head.kept_id
    texts = Texts(room)
    try:
        for place in range(low, segments + 1):
            index = texts.segment(place)
            if index.first != expected:
                return Finding(
                    FAIL, "params", f"{index.path} begins with param {index.first}, not {expected}",
                    _RESTORE,
                )  # fmt: skip
            expected = index.first + index.length
        if expected != put + 1:
            return Finding(
                FAIL, "params", f"{expected - 1:,} params in the files, {put:,} in the head",
                _RESTORE,
            )  # fmt: skip
        if full:
            for _ in history(room, texts, 0):
                continue
    except NotVisible as error:
        return Finding(
            FAIL, "params", f"{error.path} is missing, or not visible from here yet",
            "try again in a minute; then " + _RESTORE,
        )  # fmt: skip
    except MinionizeError as error:
        return _broken("params", error)
    how = "every line checked" if full else "lines are checked with --full"
    files = number(segments + 1 - low, "file")
    return Finding(OK, "params", f"{files}, none missing; {how}")


def _check_minions(queue: FileQueue, lease_s: float) -> Iterator[Finding]:
    """Who is at work, and who died there."""
    minions = queue.minions()
    alive = [one for one in minions if not one.feeder]
    silent = [
        one for one in minions if (one.beat_age_s or 0.0) > lease_s or _died_here(one.pid, one.host)
    ]
    feeders = len(minions) - len(alive)
    said = number(len(alive), "minion")
    if feeders:
        said += f", {number(feeders, 'feeder')}"
    if not silent:
        yield Finding(OK, "minions", said)
        return
    held = sum(one.running for one in silent)
    names = ", ".join(one_line(one.id) for one in silent[:3]) + (", …" if len(silent) > 3 else "")
    yield Finding(
        WARN, "minions", f"{said}; {len(silent)} of them silent ({names}), holding "
        f"{number(held, 'param')}",
        "nothing to do: the next minion at work takes them over within its lease",
    )  # fmt: skip


def _died_here(pid: int, host: str) -> bool:
    """Whether it ran on this host and is no more."""
    if host != os.uname().nodename or not pid:
        return False
    return not os.path.exists(f"/proc/{pid}")


def _check_leftovers(room: Room) -> Finding:
    """Drafts and folders of minions that no longer have a slot."""
    with room.head:
        records = [slots.decode(record) for record in room.head.slots()]
    known = {slot.folder for slot in records if slot.state != slots.FREE}
    lives = {
        (place, slot.generation - (slot.state == slots.GONE))
        for place, slot in enumerate(records)
        if slot.state != slots.FREE
    }
    count = size = 0
    for folder, _, names in os.walk(room.path):
        for name in names:
            if name.startswith("draft.") and _life_of(name) not in lives:
                count += 1
                size += _size_of(os.path.join(folder, name))
    folders = [name for name in _listed(room.member_folder("")) if name not in known]
    if not count and not folders:
        return Finding(OK, "leftovers", "none")
    parts = []
    if count:
        parts.append(f"{number(count, 'draft')} ({max(1, size >> 10):,} KiB)")
    if folders:
        parts.append(f"{number(len(folders), 'folder')} of ended minions")
    return Finding(
        WARN, "leftovers", f"{' and '.join(parts)}: nothing names them, and they harm nobody",
        "leave them; or, while nobody works here, remove draft.* below params, returned, dead, "
        "and the folders in minions",
    )  # fmt: skip


def _life_of(draft: str) -> tuple[int, int] | None:
    """Slot and generation in a draft's name."""
    fields = draft.split(".")
    if len(fields) < 4 or not (fields[1].isdigit() and fields[2].isdigit()):
        return None
    return int(fields[1]), int(fields[2])


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _size_of(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0

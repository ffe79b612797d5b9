"""Launches on record: a small file for each in a folder, so that its person finds them again.

For a queue in a folder that is its `launches/`; for others a folder of the person's own. Members of
a group may write into the first, so a record is believed only if it belongs to who asks, or to
root: by another's, `minion cancel` would end what that one names.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import NamedTuple

from minionize.beneath import (
    Beneath,
    NotFollowed,
    can_be_replaced,
    is_only_ours,
    user_name,
)
from minionize.errors import UsageError
from minionize.launch.values import Submitted

FOLDER = "launches"
TOLD_CONFIG = "told_kubeconfig"
"""In `details` of a record: the file of a configuration that its launch was told. It is named, and
never loaded on the word of a record."""
_WRITTEN = "written"
"""In the folder of this person's own: an empty file for each record that was put into a folder of
a queue, called by the record's digest. A record that others may write since (`chmod -R g+w`, or a
volume that a node gave to the group of its pods) is believed as long as it is that one."""
_MOST_BYTES = 1 << 22
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.json")
_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
"""None begins with a dash: commands of schedulers would take it for an option."""
_SCHEDULER = re.compile(r"[a-z]{1,20}")


class Record(NamedTuple):
    """A launch as it is on record."""

    id: str
    """What people call it by: `slurm-1234`."""
    submitted: Submitted


def folder_of(queue_folder: str | None, env: Mapping[str, str]) -> str:
    """Where the launches of a queue are recorded; `queue_folder`: the queue's own, if any."""
    if queue_folder is not None:
        return os.path.join(os.path.abspath(queue_folder), FOLDER)
    state = env.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(state, "minionize", FOLDER)


def remember(folder: str, submitted: Submitted) -> Record:
    """Put it on record. UsageError if that can't be, and names its jobs, which are running."""
    text = json.dumps({**asdict(_plain(submitted)), "version": 1}, indent=1) + "\n"
    base = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{submitted.scheduler}-{submitted.job_ids[0]}")
    draft = f".{base}.{os.getpid()}"
    try:
        with _opened(folder, make=True) as place:
            if submitted.scheduler != "local":  # that one is gone when its launch ends
                _note_written(text.encode())
            # Where a group may write the folder it may not write the record.
            fd = place.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            try:
                with open(fd, "w", encoding="utf-8") as file:
                    file.write(text)
                id = _named(place, draft, base)
            finally:
                place.unlink(draft)
        return Record(id, submitted)
    except OSError as error:
        raise UsageError(
            f"submitted as {' '.join(submitted.job_ids)}, but {folder} can't be written: "
            f"{error.strerror}; minion jobs won't show it: get the right to write there"
        ) from error


def _named(place: _Folder, draft: str, base: str) -> str:
    # Another cluster may have given the same number; the first one keeps its name.
    for count in range(1, 1000):
        id = base if count == 1 else f"{base}-{count}"
        try:
            place.link(draft, f"{id}.json")
        except FileExistsError:
            continue
        return id
    raise FileExistsError(17, "too many launches of that name", base)


def recorded(
    folder: str, queue: str | None = None, *, tell: Callable[[str], object] = lambda line: None
) -> Sequence[Record]:
    """The launches of this user (and of root) on record (on `queue`, where given), oldest first.

    What can't be read is passed over: a newer version's, or another file. What is others'
    or could be changed by others is not believed, and `tell` gets a line that says so. UsageError
    where the folder is hidden from this user, since there may be launches, or is a link.
    """
    found, others = [], set()
    try:
        with _opened(folder) as place:
            for name in filter(_NAME.fullmatch, place.names()):
                try:
                    record = Record(name.removesuffix(".json"), _submitted(_read(place, name)))
                except PermissionError:
                    with contextlib.suppress(FileNotFoundError):  # its owner forgot it just now
                        others.add(user_name(place.stat(name).st_uid))
                except _Writable as error:
                    tell(f"{folder}/{name} is not believed: {error}")
                except NotFollowed as error:
                    tell(f"{folder}/{name} is not believed: {error.strerror}")
                except (OSError, ValueError, TypeError, KeyError, RecursionError):
                    continue
                else:
                    if queue is None or record.submitted.queue == queue:
                        found.append(record)
    except NotFollowed as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from error
    except PermissionError as error:
        raise UsageError(
            f"{folder}: {error.strerror}: you need the right to read it to see its launches"
        ) from error
    except OSError:
        return []
    if others:
        tell(
            f"launches of {', '.join(sorted(others))} are on record too, and are left alone: only "
            "who launched minions is shown them, and ends them"
        )
    return sorted(found, key=lambda record: (record.submitted.at, record.id))


def forget(folder: str, record: Record) -> None:
    """Take it off the record; its jobs and logs stay."""
    with _opened(folder) as place:
        place.unlink(f"{record.id}.json")


class _Writable(Exception):
    """A record of this user's that others could have changed; the text is for people."""


class _Folder(Beneath):
    """`launches/` itself, which is no link."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder, follow=False)

    def __enter__(self) -> _Folder:
        self.enter()
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()


def _opened(folder: str, *, make: bool = False) -> _Folder:
    if make:
        os.makedirs(folder, exist_ok=True)
    return _Folder(folder)


def _read(place: _Folder, name: str) -> Mapping[str, object]:
    """PermissionError for another's, _Writable for one that others could have changed."""
    fd = place.open(name, os.O_RDONLY)
    with open(fd, "rb") as file:
        there = os.fstat(fd)
        if there.st_uid not in (os.geteuid(), 0):
            raise PermissionError(1, "another's", name)
        if there.st_nlink > 1:
            raise _Writable("it has a second name elsewhere: remove it")
        text = file.read(_MOST_BYTES)
        if not (is_only_ours(there) or _is_as_written(text)):
            raise _Writable("others may write it: chmod go-w, if you know what it holds")
        return json.loads(text.decode())  # type: ignore[no-any-return]


def _note_written(text: bytes) -> None:
    # Best effort: without it, the record is believed while none but this person may write it.
    path = _written(text)
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600))


def _is_as_written(text: bytes) -> bool:
    """Whether this person has put this very record there, by a folder that no other can change."""
    path = _written(text)
    return os.path.lexists(path) and not can_be_replaced(path)


def _written(text: bytes) -> str:
    folder = os.path.join(folder_of(None, os.environ), _WRITTEN)
    return os.path.join(folder, hashlib.sha256(text).hexdigest())


def _plain(submitted: Submitted) -> Submitted:
    from dataclasses import replace

    return replace(submitted, details=dict(submitted.details))


def _submitted(content: Mapping[str, object]) -> Submitted:
    if content["version"] != 1:
        raise ValueError(content["version"])

    def texts(key: str) -> tuple[str, ...]:
        value = content[key]
        if not isinstance(value, list):
            raise TypeError(key)
        return tuple(map(str, value))

    job_ids, scheduler = texts("job_ids"), str(content["scheduler"])
    if not job_ids or not all(map(_JOB_ID.fullmatch, job_ids)):
        raise ValueError("job_ids")
    if not _SCHEDULER.fullmatch(scheduler):
        raise ValueError("scheduler")
    details, minions, at = content["details"], content["minions"], content["at"]
    if not (isinstance(details, dict) and isinstance(minions, int)):
        raise TypeError("details, minions")
    if not isinstance(at, (int, float)):
        raise TypeError("at")
    return Submitted(
        scheduler=scheduler,
        job_ids=job_ids,
        name=str(content["name"]),
        queue=str(content["queue"]),
        minions=minions,
        at=float(at),
        user=str(content["user"]),
        host=str(content["host"]),
        logs=texts("logs"),
        details={
            TOLD_CONFIG if key == "kubeconfig" else str(key): str(value)
            for key, value in details.items()
        },
    )

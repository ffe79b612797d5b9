"""Launches on record: a small file for each in a folder, so that others find them again.

For a queue in a folder that is its `launches/`; for others a folder of the person's own.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import NamedTuple

from minionize.errors import UsageError
from minionize.launch.values import Submitted

FOLDER = "launches"


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
    draft = os.path.join(folder, f".{base}.{os.getpid()}")
    try:
        os.makedirs(folder, exist_ok=True)
        with open(draft, "w", encoding="utf-8") as file:
            file.write(text)
        # Another cluster may have given the same number; the first one keeps its name.
        for count in range(1, 1000):
            id = base if count == 1 else f"{base}-{count}"
            try:
                os.link(draft, os.path.join(folder, f"{id}.json"))
            except FileExistsError:
                continue
            return Record(id, submitted)
        raise FileExistsError(17, "too many launches of that name", base)
    except OSError as error:
        raise UsageError(
            f"submitted as {' '.join(submitted.job_ids)}, but {folder} can't be written: "
            f"{error.strerror}; minion jobs won't show it: get the right to write there"
        ) from error
    finally:
        if os.path.exists(draft):
            os.unlink(draft)


def recorded(folder: str, queue: str | None = None) -> Sequence[Record]:
    """The launches on record (on `queue`, where given), oldest first. What can't be read is
    passed over: a newer version's, or somebody's own file. UsageError where the folder is hidden
    from this user: there may be launches."""
    found = []
    try:
        names = [name for name in os.listdir(folder) if name.endswith(".json")]
    except PermissionError as error:
        raise UsageError(
            f"{folder}: {error.strerror}: you need the right to read it to see its launches"
        ) from error
    except OSError:
        return []
    for name in names:
        try:
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                content = json.load(file)
            record = Record(name.removesuffix(".json"), _submitted(content))
        except (OSError, ValueError, TypeError, KeyError):
            continue
        if queue is None or record.submitted.queue == queue:
            found.append(record)
    return sorted(found, key=lambda record: (record.submitted.at, record.id))


def forget(folder: str, record: Record) -> None:
    """Take it off the record; its jobs and logs stay."""
    os.unlink(os.path.join(folder, f"{record.id}.json"))


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

    details, minions, at = content["details"], content["minions"], content["at"]
    if not (isinstance(details, dict) and isinstance(minions, int)):
        raise TypeError("details, minions")
    if not isinstance(at, (int, float)):
        raise TypeError("at")
    return Submitted(
        scheduler=str(content["scheduler"]),
        job_ids=texts("job_ids"),
        name=str(content["name"]),
        queue=str(content["queue"]),
        minions=minions,
        at=float(at),
        user=str(content["user"]),
        host=str(content["host"]),
        logs=texts("logs"),
        details={str(key): str(value) for key, value in details.items()},
    )

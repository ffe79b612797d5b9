"""What was fed before: a line per file in the queue's folder, so that twice is noticed."""

from __future__ import annotations

import contextlib
import json
import os
import time
from hashlib import blake2b
from typing import Any

from minionize.beneath import NotFollowed, open_plain
from minionize.errors import UsageError

NAME = "fed.jsonl"


class Fingerprint:
    """Of the contents of one source, taken while it is read."""

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=16)
        self.size = 0

    def update(self, block: bytes) -> None:
        """Take these bytes in."""
        self._hash.update(block)
        self.size += len(block)

    def __str__(self) -> str:
        return f"{self.size}-{self._hash.hexdigest()}"


def fed_before(folder: str, fingerprint: str) -> dict[str, Any] | None:
    """The newest record of the same contents: `name`, `at_s` (Unix time), `params`; or None."""
    found = None
    try:
        file = open(open_plain(os.path.join(folder, NAME), os.O_RDONLY), "rb")  # noqa: SIM115
    except NotFollowed as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from error
    except OSError:
        return None
    with contextlib.suppress(OSError), file:
        for line in file:
            # A feeder that died may have left half a line: then nothing is known of its feed.
            with contextlib.suppress(ValueError, TypeError, KeyError):
                record = json.loads(line)
                if record["of"] == fingerprint:
                    found = {key: record[key] for key in ("name", "at_s", "params")}
    return found


def remember_fed(folder: str, fingerprint: str, name: str, params: int) -> None:
    """Note that this was fed. What can't be noted is not: the params are in the queue."""
    record = {"of": fingerprint, "name": name, "at_s": round(time.time(), 3), "params": params}
    line = json.dumps(record) + "\n"
    with contextlib.suppress(OSError):
        fd = open_plain(os.path.join(folder, NAME), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            os.write(fd, line.encode())
        finally:
            os.close(fd)

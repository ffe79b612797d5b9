"""What execo's files can't say: who holds what since when, and what befell each param.

`DIR/minionize/ledger` is one JSON file, always written whole (draft, fsync, rename) and always
under `DIR/minionize/lock`. A param stands in it only while there is something to tell about it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from random import random
from typing import Any

from minionize.errors import EngineUnavailable, ForeignVersion, QueueDamaged, no_locks
from minionize.values import Clock, Failure

FORMAT = 1


@dataclass
class Record:
    """What is known of one param beyond execo's todo, in progress, done."""

    attempt: int = 1
    crashes: int = 0
    laters: int = 0
    suspect: bool = False
    holder: str = ""
    """The key of the minion that has it; empty: no minion of ours."""
    serial: int = 0
    """Of the lease; grows with each lease of the queue."""
    marked: bool = False
    due: float = 0.0
    """Unix time, by `Room.time`, before which it is not leased."""
    failure: tuple[str, str] | None = None
    """It is a dead letter, for this reason, with this detail."""

    @property
    def why_dead(self) -> Failure | None:
        return None if self.failure is None else Failure(*self.failure)


@dataclass
class Member:
    """A minion or feeder at work."""

    id: str
    host: str
    pid: int
    slots: int
    lease_s: float
    boot: str
    """Which running kernel it is on: there, its lock shows whether it is alive."""
    feeder: bool = False
    beat: int = 0
    """A counter that moves while it is alive."""


@dataclass
class Ledger:
    """Everything that all minions of one sweep must agree on."""

    format: int = FORMAT
    serial: int = 0
    upheavals: int = 0
    """Grows when params went back to todo, which ParamSweeper sees only by reading all anew."""
    purged: int = 0
    paused: bool = False
    stops: int = 0
    clock: float = 0.0
    """Unix time of the last write, by the clock that was ahead of all others."""
    cancel: list[str] = field(default_factory=list)
    """Params that are going back to todo: a minion that finds some here finishes that first."""
    members: dict[str, Member] = field(default_factory=dict)
    params: dict[str, Record] = field(default_factory=dict)

    def held_by(self, key: str) -> list[str]:
        return [id for id, record in self.params.items() if record.holder == key]

    def dump(self) -> bytes:
        whole = {each.name: getattr(self, each.name) for each in fields(self)}
        whole["members"] = {key: asdict(member) for key, member in self.members.items()}
        whole["params"] = {id: _short(record) for id, record in self.params.items()}
        return json.dumps(whole, separators=(",", ":")).encode()


_DEFAULTS = asdict(Record())


def _short(record: Record) -> dict[str, Any]:
    """`record` without what is as always."""
    return {name: value for name, value in vars(record).items() if value != _DEFAULTS[name]}


def _real(path: str) -> str:
    """For people: the room reaches it by a descriptor."""
    return os.path.realpath(path)


def load(path: str) -> Ledger:
    """The ledger at `path`; an empty one if there is none yet."""
    try:
        with open(path, "rb") as file:
            whole = json.loads(file.read())
        if whole["format"] != FORMAT:
            raise ForeignVersion(
                f"{_real(path)} has format {whole['format']}, and this minionize knows {FORMAT}: "
                "use the version that made it"
            )
        whole["members"] = {key: Member(**member) for key, member in whole["members"].items()}
        whole["params"] = {id: Record(**record) for id, record in whole["params"].items()}
        for record in whole["params"].values():
            record.failure = tuple(record.failure) if record.failure else None
        return Ledger(**whole)
    except FileNotFoundError:
        return Ledger()
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise QueueDamaged(
            f"{_real(path)} can't be read ({error}): move it away, and only attempts, crashes and "
            "dead letters are forgotten"
        ) from error


def write_whole(path: str, content: bytes, *, sync: bool = True) -> None:
    """`path` has either its old or its new content, whatever dies meanwhile."""
    draft = f"{path}.draft"
    with open(draft, "wb") as file:
        file.write(content)
        if sync:
            file.flush()
            os.fsync(file.fileno())
    os.replace(draft, path)
    if sync:
        folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def locked(path: str, clock: Clock, *, patience_s: float = 30.0) -> Iterator[None]:
    """Hold the lock file `path`. EngineUnavailable if others hold it for `patience_s`."""
    import fcntl

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        until_s = clock.monotonic() + patience_s
        wait_s = 0.001
        while not try_lock(descriptor):
            if clock.monotonic() > until_s:
                raise EngineUnavailable(
                    f"{_real(path)} has been locked for {patience_s:.0f} s: "
                    "look for a stopped minion"
                )
            clock.sleep(wait_s * (0.5 + random()))
            wait_s = min(wait_s * 2, 0.05)
        try:
            yield
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Lock it at once, or say that another has it."""
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        absent = no_locks(error, os.path.realpath(f"/proc/self/fd/{descriptor}"))
        if absent is None:
            raise
        raise absent from error
    return True


def boot_id() -> str:
    """Names the running kernel; empty where that can't be known."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""

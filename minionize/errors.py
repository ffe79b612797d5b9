"""The errors that leave minionize: one tree, each with the exit status that it means.

Every message is one line, says what is wrong with which thing, and ends with the remedy.
"""

from __future__ import annotations

import errno


class MinionizeError(Exception):
    """Anything that minionize itself reports. `exit_status` is what a command line ends with."""

    exit_status = 70


class UsageError(MinionizeError):
    """Options, settings, templates or input that can't be used as they stand."""

    exit_status = 2


class BadParam(UsageError):
    """A param that is no JSON, or input that can't be read as params; names file and line."""


class NoSuchQueue(UsageError):
    """The queue does not exist; reading commands and minions never make one."""


class ForeignVersion(UsageError):
    """The queue was made by a version of minionize that this one can't read."""


class MissingDriver(UsageError):
    """The client library of an engine is not installed; names the extra to install."""


class NotSupported(UsageError):
    """This engine can't do what was asked (a broker that can't list its messages, say)."""


class EngineUnavailable(MinionizeError):
    """The queue can't be reached, locked or written just now; worth a retry."""

    exit_status = 69

    renewed = False
    """True where `extend` raised it and all leases are renewed nevertheless."""

    busy = False
    """True where the queue is there and serves others meanwhile: no reason to give it up."""


class QueueDamaged(MinionizeError):
    """A file of the queue is broken beyond recovery; names the file. A retry won't help."""

    exit_status = 69


class NoLocks(MinionizeError):
    """The queue's file system has no locks, so no queue can be kept there. A retry won't help."""

    exit_status = 69


class HostUnfit(MinionizeError):
    """This host lacks what a minion needs: open files, processes, memory, room in a file. Another
    host may have it."""

    exit_status = 70


class LaunchRefused(MinionizeError):
    """The scheduler did not take a launch, or can't be asked; has its own words."""

    exit_status = 69


class QueueRefused(MinionizeError):
    """The queue's server does not let us in, or not do that; names the right or the credentials
    that are missing. A retry won't help."""

    exit_status = 69


class CommandNotFound(MinionizeError):
    """CMD does not exist."""

    exit_status = 127


class CommandNotExecutable(MinionizeError):
    """CMD exists but can't be executed."""

    exit_status = 126


class RetryLater(Exception):
    """Raised by a function: give this param back uncharged, to be run again after `delay_s`
    (None: after the growing delay of a failed attempt)."""

    def __init__(self, delay_s: float | None = None) -> None:
        super().__init__(delay_s)
        self.delay_s = delay_s


class Reject(Exception):
    """Raised by a function or by `to_cmd`: this param is a dead letter, for this reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


_NO_LOCKS = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK})
"""The answers of a file system that has no locks at all: Lustre without -o flock (ENOSYS), NFS
whose lock service is off (ENOLCK), FUSE and others (EOPNOTSUPP)."""

LOCKS_REMEDY = (
    "mount it with them (Lustre with -o flock, NFS without nolock), or use another folder"
)


def no_locks(error: OSError, path: str) -> NoLocks | None:
    """What to raise where `error`, of a lock that was asked for on `path`, says that there are
    none; None where it says something else."""
    if error.errno not in _NO_LOCKS:
        return None
    return NoLocks(
        f"cannot lock {path} ({error.strerror}): this file system has no locks: {LOCKS_REMEDY}"
    )

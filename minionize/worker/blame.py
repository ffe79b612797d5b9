"""Whose fault it is that a run could not begin, or that what it made could not be kept.

One table, for errors of the system: docs/failures.md shows it to people. What is the machine's
fault is never charged to a param.
"""

from __future__ import annotations

import enum
import errno
import os

from minionize.errors import HostUnfit

_CROWDED = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
_MACHINE = frozenset(
    {
        errno.EIO,
        errno.ESTALE,
        errno.ENXIO,
        errno.ENODEV,
        errno.ENOTCONN,
        errno.ECONNREFUSED,
        errno.ETIMEDOUT,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EREMOTEIO,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EROFS,
        errno.ENOLCK,
        errno.ENOSYS,
        errno.ETXTBSY,
        errno.EBUSY,
        errno.ELIBBAD,
        errno.ELIBACC,
    }
)


class Blame(enum.Enum):
    """Who is to blame, and so what becomes of the param and of the minion."""

    COMMAND = "command"
    """The command, or what it makes of this param: a failed attempt."""
    CROWDED = "crowded"
    """The machine has no room for one more process or file now: given back uncharged, and fewer
    run at once for a while."""
    MACHINE = "machine"
    """Something of this machine is broken, full or gone: given back uncharged. Where nothing else
    happens, the minion ends."""


def blame(error: OSError, *, ours: bool = False, worked: bool = False) -> Blame:
    """`ours`: the file or descriptor is the minion's own, so no param has to do with it.
    `worked`: the same program was started here before, so it is not the command that is wrong."""
    if error.errno in _CROWDED:
        return Blame.CROWDED
    if ours or worked or error.errno in _MACHINE:
        return Blame.MACHINE
    return Blame.COMMAND


def unfit(what: str, error: OSError) -> HostUnfit:
    """What to raise where the minion itself can't go on because of `error`."""
    why = os.strerror(error.errno) if error.errno else str(error)
    if isinstance(error.filename, str) and error.errno not in _CROWDED:
        why = f"{error.filename}: {why}"
    return HostUnfit(f"{what}: {why}: {remedy(error)}")


def remedy(error: OSError) -> str:
    """What a person can do about an error that is the machine's fault."""
    return _REMEDIES.get(error.errno or 0, "mend this host, or use another")


_REMEDIES = {
    errno.EAGAIN: "more processes are needed than the limit here (ulimit -u, or the job's)",
    errno.ENOMEM: "more memory is needed (ulimit -v, ulimit -d, or the job's)",
    errno.EMFILE: "more open files are needed than the limit here (ulimit -n)",
    errno.ENFILE: "the host has too many open files",
    errno.EFBIG: "larger files are needed than the limit here (ulimit -f)",
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there",
}

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


def machine_error(error: BaseException) -> OSError | None:
    """The error of the system that led to `error`, if it is the machine's fault: `error` itself,
    or what it was raised because of. None if the code is wrong, as far as can be told."""
    at: BaseException | None = error
    seen: set[int] = set()
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        found = _as_system_error(at)
        if found is not None and blame(found) is not Blame.COMMAND:
            return found
        # A mistake in a handler has not to do with what is handled.
        hidden = at.__suppress_context__ or isinstance(at, _MISTAKES)
        at = at.__cause__ or (None if hidden else at.__context__)
    return None


_MISTAKES = (ModuleNotFoundError, SyntaxError, NameError, AttributeError, TypeError)


def _as_system_error(error: BaseException) -> OSError | None:
    """`error` with its errno, where Python itself knows none but in words."""
    if isinstance(error, OSError):
        return error
    number = 0
    if isinstance(error, MemoryError):
        number = errno.ENOMEM
    elif isinstance(error, RuntimeError) and str(error).startswith("can't start new thread"):
        number = errno.EAGAIN
    elif isinstance(error, ImportError):
        # The loader of shared libraries ends its message with the words of the errno, if any.
        said = str(error)
        if said.endswith("failed to map segment from shared object"):
            number = errno.ENOMEM
        else:
            known = (each for each in _CROWDED | _MACHINE if said.endswith(os.strerror(each)))
            number = next(known, 0)
    return OSError(number, os.strerror(number)) if number else None


def unfit(what: str, error: OSError) -> HostUnfit:
    """What to raise where the minion itself can't go on because of `error`."""
    why = os.strerror(error.errno) if error.errno else str(error)
    if isinstance(error.filename, str) and error.errno not in _CROWDED:
        why = f"{error.filename}: {why}"
    return HostUnfit(f"{what}: {why}: {remedy(error)}")


def unloaded(name: str, why: str, number: int) -> HostUnfit:
    """What to raise where the machine keeps a function from being loaded: `why` in words, and the
    errno."""
    return HostUnfit(f"{name} can't be loaded here ({why}): {remedy(OSError(number, ''))}")


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

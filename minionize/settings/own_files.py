"""Reads the small files of settings in the current folder, whatever stands under their names."""

from __future__ import annotations

import os
import stat

MOST_BYTES = 1024 * 1024
"""A file of settings is never larger; what is was named by mistake."""

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class LeftOut(Exception):
    """The file is not read: what stands there is no file, or it can't be opened. The text is a
    line for a person, with what to do."""


def read_own_file(path: str) -> bytes | None:
    """The first MOST_BYTES + 1 bytes of the file `path`; None where there is none.

    LeftOut for a folder, a pipe, a link to nothing, and what this user can't read. It never
    waits, as a pipe without a writer would have it.
    """
    try:
        # Before it is opened: to open a device may do something.
        kind = stat.S_IFMT(os.stat(path).st_mode)
        if kind != stat.S_IFREG:
            raise LeftOut(_no_file(path, kind))
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        if os.path.islink(path):
            raise LeftOut(f"{path} is left out: it is a link to nothing: remove it") from None
        return None
    except OSError as error:
        raise LeftOut(_unreadable(path, error)) from error
    try:
        kind = stat.S_IFMT(os.fstat(fd).st_mode)
        if kind != stat.S_IFREG:
            raise LeftOut(_no_file(path, kind))
        with open(fd, "rb", closefd=False) as file:
            return file.read(MOST_BYTES + 1)
    except OSError as error:
        raise LeftOut(_unreadable(path, error)) from error
    finally:
        os.close(fd)


def _no_file(path: str, kind: int) -> str:
    what = _KINDS.get(kind, "no regular file")
    return f"{path} is left out: it is {what}, no file of settings"


def _unreadable(path: str, error: OSError) -> str:
    why = os.strerror(error.errno or 0)
    return f"{path} is left out: it can't be read ({why}): mend or remove it"

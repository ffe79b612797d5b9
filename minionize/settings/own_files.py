"""Reads the small files of settings in the current folder, whatever stands under their names.

People run commands in folders of others, and what these files say decides which program runs and
where secrets are sent. So a file is read only if it belongs to who runs the command, or to root,
and only they may write it.
"""

from __future__ import annotations

import os
import stat

from minionize.beneath import is_only_ours, user_name

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

    LeftOut for a folder, a pipe, a link to nothing, what this user can't read, and what is
    another's, or could be changed by another. It never waits, as a pipe without a writer would
    have it.
    """
    try:
        link = os.lstat(path)
        if stat.S_ISLNK(link.st_mode) and link.st_uid not in (os.geteuid(), 0):
            raise LeftOut(_not_ours(path, f"it is a link of {user_name(link.st_uid)}"))
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
        found = os.fstat(fd)
        kind = stat.S_IFMT(found.st_mode)
        if kind != stat.S_IFREG:
            raise LeftOut(_no_file(path, kind))
        _check_ours(path, found)
        with open(fd, "rb", closefd=False) as file:
            return file.read(MOST_BYTES + 1)
    except OSError as error:
        raise LeftOut(_unreadable(path, error)) from error
    finally:
        os.close(fd)


def _check_ours(path: str, found: os.stat_result) -> None:
    if is_only_ours(found):
        # A second name may have been given to a file of ours by another, in a folder of theirs.
        if found.st_nlink == 1 or is_only_ours(os.stat(os.path.dirname(path) or ".")):
            return
        raise LeftOut(_not_ours(path, "it has a second name elsewhere"))
    if found.st_uid not in (os.geteuid(), 0):
        raise LeftOut(_not_ours(path, f"it belongs to {user_name(found.st_uid)}"))
    raise LeftOut(f"{path} is left out: others may write it: chmod go-w {path}")


def _not_ours(path: str, why: str) -> str:
    return f"{path} is left out: {why}: if you trust it, copy it into a folder of your own"


def _no_file(path: str, kind: int) -> str:
    what = _KINDS.get(kind, "no regular file")
    return f"{path} is left out: it is {what}, no file of settings"


def _unreadable(path: str, error: OSError) -> str:
    why = os.strerror(error.errno or 0)
    return f"{path} is left out: it can't be read ({why}): mend or remove it"

"""Files beneath a folder that others may write to: nothing there leads anywhere else.

Names are walked one at a time from the opened folder. A symbolic link is refused wherever it
stands, and so is what is no plain file (a pipe would block its reader) or has a second
name outside its folder (what is written to it would change a file elsewhere).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_ENTER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_PLAIN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CUT_OFF = frozenset({errno.ESTALE, errno.ENOTCONN, errno.EIO, errno.EBADF, errno.EBADFD})
"""What a network file system that was cut off answers to a descriptor from before."""
_DEEPEST = 256
"""Folders in folders that `remove_tree` enters; each costs a descriptor."""


class NotFollowed(OSError):
    """Under this name stands what is not followed; `strerror` says what, and the remedy."""

    def __init__(self, what: str, path: str) -> None:
        super().__init__(errno.ELOOP, what, path)


LINK = "it is a symbolic link, and none is followed there: remove it"
NO_FILE = "it is no plain file: remove it"
SECOND_NAME = (
    "it has a second name (a hard link) elsewhere, so it is not written to: put a copy in its place"
)
REPLACED = "it was replaced by another folder while it was in use: start again"


class Beneath:
    """A folder, held open, and what is done to names beneath it. Paths are relative to it, without
    `..`. Methods raise OSError as the system does, and NotFollowed."""

    def __init__(self, root: str, *, follow: bool | None = True) -> None:
        """`follow`: the folder itself may be named by way of a link, as where a person names it;
        None: by a link of this user's, or root's, only."""
        self.root = root
        self._follow = follow
        self._fd = -1
        self._inode = 0

    # ---- the folder itself
    def enter(self) -> int:
        """Its descriptor, good for `dir_fd`."""
        if self._fd < 0:
            fd = self._open_root()
            inode = os.fstat(fd).st_ino
            if self._inode not in (0, inode):
                os.close(fd)
                raise NotFollowed(REPLACED, self.root)
            self._fd, self._inode = fd, inode
        return self._fd

    def _open_root(self) -> int:
        if self._follow:
            return os.open(self.root, _ENTER)
        try:
            return _enter(self.root, None)
        except NotFollowed:
            if self._follow is None and os.lstat(self.root).st_uid in (os.geteuid(), 0):
                return os.open(self.root, _ENTER)
            raise

    def let_go(self, *, made_anew: bool = False) -> None:
        """Close it; the next use opens the same folder again (`made_anew`: or one that was made in
        its place on purpose)."""
        if made_anew:
            self._inode = 0
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            try:
                os.close(fd)
            except OSError:
                return  # gone, whatever a file system says that was cut off

    def act(self, path: str, do: Callable[[str, int], T]) -> T:
        """What `do` returns for the last name of `path` and the descriptor of its folder."""
        try:
            at = self.enter()
            if "/" not in path:
                return do(path, at)
            *folders, name = path.split("/")
            opened = at
            try:
                for depth, folder in enumerate(folders, 1):
                    shown = "/".join((self.root, *folders[:depth]))
                    inner = _enter(folder, opened, shown=shown)
                    if opened != at:
                        os.close(opened)
                    opened = inner
                return do(name, opened)
            finally:
                if opened != at:
                    os.close(opened)
        except OSError as error:
            if error.errno in _CUT_OFF:
                self.let_go()
            if not isinstance(error, NotFollowed) and error.filename is not None:
                error.filename = os.path.join(self.root, path)
            raise

    # ---- files
    def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        """A descriptor of a plain file."""
        return self.act(
            path, lambda name, at: open_plain(name, flags, mode, at, shown=f"{self.root}/{path}")
        )

    def read(self, path: str, most: int) -> bytes:
        """A small file, at most so many bytes of it."""
        fd = self.open(path, os.O_RDONLY)
        try:
            parts, left = [], most
            while left and (part := os.read(fd, left)):
                parts.append(part)
                left -= len(part)
            return b"".join(parts)
        finally:
            os.close(fd)

    # ---- names
    def stat(self, path: str) -> os.stat_result:
        """Of a link it is the link's own."""
        return self.act(path, lambda name, at: os.stat(name, dir_fd=at, follow_symlinks=False))

    def exists(self, path: str) -> bool:
        """Whether anything stands there, be it a link that leads nowhere."""
        try:
            self.stat(path)
        except NotFollowed:
            raise
        except OSError:
            return False
        return True

    def folder(self, path: str) -> int:
        """A descriptor of a folder whose names can be listed."""
        shown = f"{self.root}/{path}"
        return self.act(path, lambda name, at: _enter(name, at, shown=shown, listed=True))

    def names(self, path: str = "") -> list[str]:
        """The names in a folder; of the folder itself by default."""
        if path:
            fd = self.folder(path)
        else:
            fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.enter())
        try:
            return os.listdir(fd)
        finally:
            os.close(fd)

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        """A folder; FileExistsError if the name is taken."""
        self.act(path, lambda name, at: os.mkdir(name, mode, dir_fd=at))

    def rmdir(self, path: str) -> None:
        """Remove an empty folder."""
        self.act(path, lambda name, at: os.rmdir(name, dir_fd=at))

    def unlink(self, path: str) -> None:
        """Remove a name: of a link it is the link that goes."""
        self.act(path, lambda name, at: os.unlink(name, dir_fd=at))

    def rename(self, source: str, target: str) -> None:
        """Rename, over what is there."""
        self._two(
            source, target, lambda a, at, b, to: os.rename(a, b, src_dir_fd=at, dst_dir_fd=to)
        )

    def link(self, source: str, target: str) -> None:
        """A second name; FileExistsError when the target is taken."""
        self._two(
            source,
            target,
            lambda a, at, b, to: os.link(a, b, src_dir_fd=at, dst_dir_fd=to, follow_symlinks=False),
        )

    def _two(self, source: str, target: str, do: Callable[[str, int, str, int], None]) -> None:
        self.act(source, lambda a, at: self.act(target, lambda b, to: do(a, at, b, to)))

    def remove_tree(self, path: str) -> None:
        """Remove a folder and all in it, as far as it can be. A link is removed itself."""
        try:
            self.act(path, lambda name, at: _remove(name, at, _DEEPEST))
        except OSError:
            return


class Each(Beneath):
    """The same where the folder may be moved away and made again meanwhile: it is entered anew
    each time."""

    def act(self, path: str, do: Callable[[str, int], T]) -> T:
        """See Beneath."""
        try:
            return super().act(path, do)
        finally:
            self.let_go(made_anew=True)

    def names(self, path: str = "") -> list[str]:
        """See Beneath."""
        try:
            return super().names(path)
        finally:
            self.let_go(made_anew=True)


class Anywhere:
    """The same for paths that a person named, or the system: taken as they are."""

    exists = staticmethod(os.path.exists)
    link = staticmethod(os.link)
    mkdir = staticmethod(os.mkdir)
    names = staticmethod(os.listdir)
    open = staticmethod(os.open)
    rename = staticmethod(os.rename)
    rmdir = staticmethod(os.rmdir)
    stat = staticmethod(os.stat)
    unlink = staticmethod(os.unlink)

    @staticmethod
    def folder(path: str) -> int:
        """A descriptor of a folder whose names can be listed."""
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    @staticmethod
    def remove_tree(path: str) -> None:
        """As Beneath does."""
        place = Beneath(os.path.dirname(path) or ".")
        try:
            place.remove_tree(os.path.basename(path))
        finally:
            place.let_go()


def open_plain(
    path: str, flags: int, mode: int = 0o666, dir_fd: int | None = None, *, shown: str = ""
) -> int:
    """A descriptor of a plain file; no link is followed in the last name of `path`. `shown`: how an
    error calls it."""
    shown = shown or path
    try:
        # What is cut off is cut off when it is known what it is.
        fd = os.open(path, (flags & ~os.O_TRUNC) | _PLAIN, mode, dir_fd=dir_fd)
    except OSError as error:
        if error.errno == errno.ELOOP and is_link(path, dir_fd):
            raise NotFollowed(LINK, shown) from None
        if error.errno == errno.ENXIO:
            raise NotFollowed(NO_FILE, shown) from None  # a pipe that nothing reads, a socket
        raise
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            if stat.S_ISDIR(found.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), shown)
            raise NotFollowed(NO_FILE, shown)
        if found.st_nlink > 1 and flags & (os.O_WRONLY | os.O_RDWR):
            _refuse_second_names(path, found, dir_fd, shown)
        if flags & os.O_TRUNC:
            os.ftruncate(fd, 0)
    except BaseException:
        os.close(fd)
        raise
    return fd


def is_link(path: str, dir_fd: int | None = None) -> bool:
    """Whether a symbolic link stands there."""
    try:
        return stat.S_ISLNK(os.stat(path, dir_fd=dir_fd, follow_symlinks=False).st_mode)
    except OSError:
        return False


def _refuse_second_names(path: str, found: os.stat_result, dir_fd: int | None, shown: str) -> None:
    """All its names stand in its own folder, or NotFollowed: drafts have two for a moment."""
    folder = os.path.dirname(path) or "."
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        with os.scandir(fd) as entries:
            here = sum(entry.inode() == found.st_ino for entry in entries)
        if here < found.st_nlink:
            left = os.stat(os.path.basename(path), dir_fd=fd, follow_symlinks=False).st_nlink
            if left > 1:  # else it was a draft that has gone meanwhile
                raise NotFollowed(SECOND_NAME, shown)
    finally:
        os.close(fd)


def _enter(name: str, at: int | None, *, shown: str = "", listed: bool = False) -> int:
    """A descriptor of the folder `name`, which is no link."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC if listed else _ENTER
    try:
        return os.open(name, flags | os.O_NOFOLLOW, dir_fd=at)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP) and is_link(name, at):
            raise NotFollowed(LINK, shown or name) from None
        raise


def _remove(name: str, at: int, depth: int) -> None:
    """`name` in the folder `at`, and all in it that may go. OSError if it stays."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            os.unlink(name, dir_fd=at)
            return
        raise
    try:
        if depth:
            with os.scandir(fd) as entries:
                inner = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
            for each, is_folder in inner:
                try:
                    if is_folder:
                        _remove(each, fd, depth - 1)
                    else:
                        os.unlink(each, dir_fd=fd)
                except OSError:
                    continue  # the others may go all the same
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=at)


def is_only_ours(found: os.stat_result, uid: int | None = None) -> bool:
    """Whether what was looked at belongs to this user (or root), and none but the two may write
    it. A group of this user alone is no other."""
    uid = os.geteuid() if uid is None else uid
    if found.st_uid not in (uid, 0) or found.st_mode & stat.S_IWOTH:
        return False
    return not found.st_mode & stat.S_IWGRP or _is_private(found.st_gid, uid)


def _is_private(gid: int, uid: int) -> bool:
    """Whether the group `gid` has this user alone: its own group by name, as many systems make."""
    import grp  # only where a group may write
    import pwd

    try:
        user, group = pwd.getpwuid(uid), grp.getgrgid(gid)
    except KeyError:
        return False
    own = gid == 0 or (user.pw_gid == gid and group.gr_name == user.pw_name)
    return own and set(group.gr_mem) <= {user.pw_name, "root"}


def user_name(uid: int) -> str:
    """The name of a user, for people."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def can_be_replaced(path: str) -> bool:
    """Whether a user other than this one (and root) could put something else in the place of the
    folder `path`, or into it: what is run or written there by its name would be theirs. So it is
    where a link stands in its place."""
    uid = os.geteuid()
    path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    if is_link(path):
        return True
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    last = True
    while True:
        found = os.stat(path)
        # In a folder with the sticky bit each may rename only its own.
        sticky = not last and found.st_uid in (uid, 0) and bool(found.st_mode & stat.S_ISVTX)
        if not sticky and not is_only_ours(found, uid):
            return True
        if path == os.sep:
            return False
        path, last = os.path.dirname(path), False

"""What makes a folder fit for a queue, each tried out from here."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator

from minionize.cli.doctor_finding import FAIL, OK, WARN, Finding
from minionize.cli.doctor_space import check_space
from minionize.engines.file.calls import Calls
from minionize.engines.file.room import LOCAL, UNSHARED, file_system
from minionize.errors import LOCKS_REMEDY, no_locks

_SLOW_SYNC_S = 1.0
_CLOCK_OFF_S = 2.0
_RECOVER_LOST_LOCKS = "/sys/module/nfs/parameters/recover_lost_locks"


def check_folder(calls: Calls, folder: str, *, shared: bool) -> Iterator[Finding]:
    """Everything about `folder`, which exists, but the queue in it. `shared`: several hosts are
    to work on it."""
    yield check_file_system(*mounted(calls, folder), shared=shared)
    yield check_rights(folder, umask_now(), os.geteuid())
    place = os.path.join(folder, f".doctor-{os.uname().nodename}-{os.getpid()}")
    try:
        calls.mkdir(place)
    except OSError as error:
        yield Finding(
            FAIL, "writing", f"no file can be made in {folder}: {error.strerror}",
            "ask its owner for rights, or use another folder",
        )  # fmt: skip
        return
    try:
        for what, check in (
            ("lock", check_lock),
            ("fresh reads", check_reads),
            ("link", check_link),
            ("sync", check_sync),
            ("clock", check_clock),
        ):
            yield _tried(what, check, calls, place)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    yield from check_space(os.statvfs(folder))


def _tried(what: str, check: Callable[[Calls, str], Finding], calls: Calls, place: str) -> Finding:
    try:
        return check(calls, place)
    except OSError as error:
        if what == "lock" and no_locks(error, place):
            return Finding(
                FAIL, what, f"this file system has no locks ({error.strerror})", LOCKS_REMEDY
            )
        remedy = "use a folder on NFS, Lustre, GlusterFS or a local disk"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "free some space, or look at your quota"
        return Finding(FAIL, what, f"{error.strerror or error} ({place})", remedy)


# ---- file system
def mounted(calls: Calls, folder: str) -> tuple[str, str]:
    """Type and options of the file system of `folder`; empty where unknown."""
    kind, options = file_system(calls, folder)
    if kind:
        return kind, options
    best = ("", "", "")
    try:
        lines = calls.read_whole("/proc/mounts").decode(errors="replace").splitlines()
    except OSError:
        return "", ""
    for line in lines:
        fields = line.split(" ")
        if len(fields) > 3:
            point = fields[1].replace("\\040", " ")
            inside = folder == point or folder.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best[0]):
                best = (point, fields[2], fields[3])
    return best[1], best[2]


def check_file_system(kind: str, options: str, *, shared: bool) -> Finding:
    """What is known of this type of file system and how it is mounted."""
    what, words = "file system", set(options.split(","))
    if kind in UNSHARED:
        return Finding(
            FAIL, what, f"{kind}: its locks are not shared between hosts",
            "use a folder on NFS, Lustre, GlusterFS or a local disk",
        )  # fmt: skip
    if kind == "lustre":
        if "localflock" in words:
            return Finding(
                WARN, what, "lustre with localflock: locks bind one host only",
                "have it mounted with flock, or keep all minions on one host",
            )  # fmt: skip
        return Finding(OK, what, "lustre")
    if kind in ("nfs", "nfs4"):
        if "nolock" in words or words & {"local_lock=all", "local_lock=posix"}:
            return Finding(
                WARN, what, f"{kind} with local locks: they bind one host only",
                "have it mounted without nolock and local_lock, or keep all minions on one host",
            )  # fmt: skip
        if _reads_yes(_RECOVER_LOST_LOCKS):
            return Finding(
                WARN, what, f"{kind} with nfs.recover_lost_locks=1: after an outage a lock that "
                "another host took meanwhile is taken back",
                "set the module's parameter to 0: a lost lock is then noticed",
            )  # fmt: skip
        return Finding(OK, what, kind)
    if kind in LOCAL:
        if shared:
            return Finding(
                WARN, what, f"{kind}: a disk of this host alone",
                "other hosts need a folder that all of them mount",
            )  # fmt: skip
        return Finding(OK, what, f"{kind}: for minions of this host")
    if kind == "fuse.glusterfs":
        return Finding(OK, what, "glusterfs")
    return Finding(
        WARN, what, f"{kind or 'unknown'}: nobody tried this type",
        "try it with --hosts 2, on two hosts at once",
    )  # fmt: skip


def _reads_yes(path: str) -> bool:
    try:
        with open(path) as file:
            return file.read().strip() in ("Y", "1")
    except OSError:
        return False


# ---- rights
def umask_now() -> int:
    """The umask of this process."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def check_rights(folder: str, umask: int, user: int) -> Finding:
    """Who can work here, and whether a group that may can."""
    what = "rights"
    status = os.stat(folder)
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return Finding(
            FAIL, what, f"you may not read and write in {folder}",
            "ask its owner for it: chgrp GROUP, chmod g+rwxs",
        )  # fmt: skip
    head = os.path.join(folder, "head")
    if os.path.exists(head) and not os.access(head, os.R_OK | os.W_OK):
        return Finding(
            FAIL, what, f"you may not write {head}",
            "whoever made it: chmod -R g+rwX on the folder, and umask 002 from now on",
        )  # fmt: skip
    if not status.st_mode & stat.S_IWGRP:
        alone = "yours alone" if status.st_uid == user else "its owner's"
        return Finding(OK, what, f"{alone} (for a group: chmod g+ws on the folder, umask 002)")
    if not status.st_mode & stat.S_ISGID:
        return Finding(
            WARN, what, "the group may write, but new files go to the group of who makes them",
            f"chmod g+s {folder}, and on the folders in it",
        )  # fmt: skip
    if umask & stat.S_IWGRP:
        return Finding(
            WARN, what, f"umask {umask:03o}: your group can't change what you write here",
            "umask 002 before each command, in .profile say",
        )  # fmt: skip
    return Finding(OK, what, "setgid folder, and umask lets the group write")


# ---- what is tried out
def check_lock(calls: Calls, place: str) -> Finding:
    """One process holds the lock: another is refused, and gets it once the first is dead."""
    path = os.path.join(place, "lock")
    fd = calls.open(path, write=True, create=True)
    try:
        calls.lock(fd)  # where there are no locks, the other process could not tell why
        calls.unlock(fd)
        with _Other(lambda: calls.lock(calls.open(path, write=True))) as took:
            if not took:
                return Finding(FAIL, "lock", "a free lock was refused", "look for stale locks")
            if calls.lock(fd):
                return Finding(
                    FAIL, "lock", "two processes held the same lock at once",
                    "use a folder on NFS, Lustre, GlusterFS or a local disk",
                )  # fmt: skip
        end = calls.monotonic() + 10
        while not calls.lock(fd):
            if calls.monotonic() > end:
                return Finding(
                    FAIL, "lock", "the lock of a dead process was held on for 10 s",
                    "use a file system that ends locks with their process",
                )  # fmt: skip
            calls.sleep(0.05)
        begin = calls.monotonic()
        for _ in range(20):
            calls.unlock(fd)
            calls.lock(fd)
        each_s = (calls.monotonic() - begin) / 20
    finally:
        calls.close(fd)
    return Finding(OK, "lock", f"exclusive between processes, {_time(each_s)} each")


def check_reads(calls: Calls, place: str) -> Finding:
    """What another process wrote under the lock is read under the lock."""
    path = os.path.join(place, "counter")
    fd = calls.open(path, write=True, create=True)

    def write(turn: int) -> bool:
        theirs = calls.open(path, write=True)
        calls.pwrite(theirs, b"%08d" % turn, 0)
        calls.close(theirs)
        return True

    try:
        for turn in range(5):
            calls.pread(fd, 8, 0)
            with _Other(lambda turn=turn: write(turn)):  # type: ignore[misc]
                pass
            calls.lock(fd)
            calls.forget(fd)
            found = calls.pread(fd, 8, 0)
            calls.unlock(fd)
            if found != b"%08d" % turn:
                return Finding(
                    FAIL, "fresh reads", "what another process wrote was not read",
                    "use another file system",
                )  # fmt: skip
    finally:
        calls.close(fd)
    return Finding(OK, "fresh reads", "another process's writes are seen under the lock")


def check_link(calls: Calls, place: str) -> Finding:
    """A second name can be made, and never replaces what is there."""
    names = [os.path.join(place, name) for name in ("draft", "whole")]
    for name in (names[0], os.path.join(place, "other")):
        calls.close(calls.open_new(name))
    calls.link(*names)
    try:
        calls.link(os.path.join(place, "other"), names[1])
    except FileExistsError:
        if calls.same_file(*names):
            return Finding(OK, "link", "works, and never replaces a file")
    return Finding(
        FAIL, "link", "link() replaced a file that was there", "use another file system"
    )  # fmt: skip


def check_sync(calls: Calls, place: str) -> Finding:
    """What is written can be made safe, and how long that takes."""
    fd = calls.open_new(os.path.join(place, "synced"))
    slowest_s = 0.0
    try:
        for turn in range(5):
            begin = calls.monotonic()
            calls.pwrite(fd, b"x" * 4096, turn * 4096)
            calls.sync(fd)
            slowest_s = max(slowest_s, calls.monotonic() - begin)
    finally:
        calls.close(fd)
    calls.sync_folder(place)
    if slowest_s > _SLOW_SYNC_S:
        return Finding(
            WARN, "sync", f"took {_time(slowest_s)}: minions will wait for it",
            "a busy server or disk: try again later, or another folder",
        )  # fmt: skip
    return Finding(OK, "sync", f"{_time(slowest_s)} at most")


def check_clock(calls: Calls, place: str) -> Finding:
    """This host's clock against that of the file server."""
    path = os.path.join(place, "clock")
    fd = calls.open_new(path)
    before = calls.time()
    calls.pwrite(fd, b"x", 0)
    calls.sync(fd)
    calls.close(fd)
    after = calls.time()
    written = calls.changed_at(path)
    off_s = max(before - written, written - after, 0.0)
    if off_s > _CLOCK_OFF_S:
        return Finding(
            WARN, "clock", f"{_time(off_s)} off the file server's: delays may be that much longer",
            "set it by NTP (chronyc tracking); nothing is lost by it",
        )  # fmt: skip
    return Finding(OK, "clock", "agrees with the file system's")


class _Other:
    """Another process that does something, and is dead when the block is left."""

    def __init__(self, act: Callable[[], bool]) -> None:
        self._act = act
        self._pid = 0
        self._hold = -1

    def __enter__(self) -> bool:
        told, tell = os.pipe()
        held, hold = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            try:
                os.close(hold)
                os.write(tell, b"1" if self._act() else b"0")
                os.read(held, 1)
            finally:
                os._exit(0)
        os.close(tell)
        os.close(held)
        self._hold = hold
        answer = os.read(told, 1)
        os.close(told)
        return answer == b"1"

    def __exit__(self, *_: object) -> None:
        os.close(self._hold)
        os.waitpid(self._pid, 0)


def _time(seconds: float) -> str:
    if seconds < 0.001:
        return f"{seconds * 1e6:.3g} µs"
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    return f"{seconds:.1f} s" if seconds < 120 else time.strftime("%H:%M:%S", time.gmtime(seconds))

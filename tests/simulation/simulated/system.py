"""The system calls of one process, answered by the world instead of the kernel."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, TypeVar

from minionize.engines.file import calls as real
from simulated.disk import Folder, Inode, Opened, failed
from simulated.world import STALE_S, Actor, Crashed, Host, Violation, World

T = TypeVar("T")

_FLOCK = "hhqqi0q"


class HostClock:
    """A host's clocks."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor

    def monotonic(self) -> float:
        """Seconds since the host's own beginning."""
        actor = self._actor
        found = actor.world.now + actor.host.monotonic_off_s
        actor.told(found)
        return found

    def time(self) -> float:
        """Unix time as this host believes it."""
        actor = self._actor
        found = 1.7e9 + actor.world.now + actor.host.wall_off_s
        actor.told(found)
        return found

    def sleep(self, seconds: float) -> None:
        """Others step."""
        self._actor.world.sleep(self._actor, seconds)


class SimulatedCalls(real.Calls):
    """`Calls` of one process in the world."""

    def __init__(self, actor: Actor) -> None:
        super().__init__(HostClock(actor))
        self.actor = actor
        self.world: World = actor.world
        self._made = 0
        self._next_fd = 3

    def jitter(self) -> float:
        return 0.5

    def kernel(self) -> str:
        host: Host = self.actor.host
        return f"kernel {host.number}.{host.boots}"

    def is_running(self, pid: int) -> bool:
        return any(
            one.pid == pid and one.alive for one in self.world.actors if one.host is self.actor.host
        )

    # ---- every call
    def _call(self, name: str, act: Callable[..., T], *given: Any) -> T:
        actor, world = self.actor, self.world
        if actor.dead or world.stopped:
            raise Crashed
        self.counts[name] = self.counts.get(name, 0) + 1
        world.steps += 1
        actor.last = f"{self._made} {name}"
        self._made += 1
        world.before(self, name, given)
        answer = getattr(self, f"_{name}")
        fault = world.fault(self, name, given)
        if world.lines is not None:
            what = [one if isinstance(one, (str, int)) else "…" for one in given]
            world.note(f"{actor.name} {name} {what} {fault or ''}")
        if fault:
            return self._fail(name, answer, given, fault)  # type: ignore[no-any-return]
        try:
            found = answer(act, *given) if name == "stat" else answer(*given)
        except OSError as error:
            actor.told(name, error.errno)
            raise
        world.after(self, name, given)
        return found  # type: ignore[no-any-return]

    def _fail(self, name: str, answer: Any, given: tuple[Any, ...], fault: str) -> Any:
        """The call says that it failed. What became of it only the world knows."""
        actor, world = self.actor, self.world
        number = errno.ENOSPC if "full" in fault else errno.EIO
        actor.told(name, fault)
        if name in ("pwrite", "append") and "torn" in fault:
            fd, piece, *rest = given
            answer(fd, piece[: len(piece) // 2], *rest)
        elif name == "fdatasync" and "lost" in fault:
            opened = self._opened(given[0])
            node = opened.node
            assert isinstance(node, Inode)
            node.dirty.pop(opened.host, None)
            node.forget(opened.host)
            world.lost_writes = True
        elif name == "close" or "after" in fault:
            try:
                found = answer(*given)
            except OSError:
                found = None
            if name.startswith("open") and found is not None:
                self._close(found)
            if name == "lock" and found is not False:
                # The server gave it, and the client does not know: gone with the descriptor.
                actor.told("lock")
        world.after(self, name, given)
        raise failed(number)

    def is_head(self, fd: int) -> bool:
        """Whether a descriptor is of the queue's head."""
        opened = self.actor.fds.get(fd)
        return opened is not None and opened.path.endswith("/head")

    def _opened(self, fd: int) -> Opened:
        opened = self.actor.fds.get(fd)
        if opened is None:
            raise Violation(f"{self.actor.name} uses descriptor {fd}, which is not open")
        if opened.lost:
            raise failed(errno.EIO, opened.path)
        return opened

    def _file(self, fd: int) -> tuple[Inode, int]:
        opened = self._opened(fd)
        node = opened.node
        if isinstance(node, Folder):
            raise failed(errno.EISDIR, opened.path)
        return node, opened.host

    # ---- paths
    def _walk(self, path: str, *, fresh: bool) -> tuple[Folder, str]:
        """The folder that holds the last name of a path."""
        parts = path.strip("/").split("/")
        at: Inode | Folder | None = self.world.root
        for part in parts[:-1]:
            if not isinstance(at, Folder):
                break
            at = self._seen(at, part, fresh=fresh)
        if not isinstance(at, Folder):
            raise failed(errno.ENOENT, path)
        return at, parts[-1]

    def _seen(self, folder: Folder, name: str, *, fresh: bool) -> Inode | Folder | None:
        """What this host sees under a name."""
        world, host = self.world, self.actor.host.number
        versions = folder.names.get(name)
        if versions is None:
            return None
        last = len(versions) - 1
        chosen = last
        if not fresh and len(world.hosts) > 1 and versions[last].host != host:
            oldest = folder.oldest_seen(name, host, world.now - STALE_S)
            if oldest < last and (world.stale_names or world.chooser.pick("stale", 2)):
                chosen = oldest
        if chosen >= 0:
            folder.known[host, name] = max(chosen, folder.known.get((host, name), -1))
        return versions[chosen].node if chosen >= 0 else None

    def _new_fd(self, node: Inode | Folder, path: str) -> int:
        fd = self._next_fd
        self._next_fd += 1
        self.actor.fds[fd] = Opened(node, self.actor, self.actor.host.number, path)
        return fd

    def _create(self, folder: Folder, name: str) -> Inode:
        node = Inode((self.actor.name, self._made))
        self.world.nodes.append(node)
        folder.set(name, node, self.actor.host.number, self.world.now)
        return node

    # ---- files
    def _open(self, path: str, flags: int, mode: int = 0) -> int:
        if path.startswith("/proc/"):
            node = Inode(path)
            kind = "nfs" if self.world.shared else "ext4"
            node.content += f"1 1 0:7 / / rw - {kind} disk rw\n".encode()
            return self._new_fd(node, path)
        create = bool(flags & os.O_CREAT)
        folder, name = self._walk(path, fresh=create)
        found = self._seen(folder, name, fresh=create)
        if found is None:
            self.actor.told("open", None)
            if not create:
                raise failed(errno.ENOENT, path)
            found = self._create(folder, name)
        self.actor.told("open", found.key)
        host = self.actor.host.number
        if self.world.shared and isinstance(found, Inode) and not found.dirty.get(host):
            found.forget(host)  # what is closed is on the server, what is opened comes from it
        return self._new_fd(found, path)

    _open_append = _open

    def _open_new(self, path: str, flags: int, mode: int) -> int:
        folder, name = self._walk(path, fresh=True)
        if self._seen(folder, name, fresh=True) is not None:
            raise failed(errno.EEXIST, path)
        return self._new_fd(self._create(folder, name), path)

    def _close(self, fd: int) -> None:
        opened = self.actor.fds.pop(fd)
        node = opened.node
        if isinstance(node, Inode) and node.holder is opened:
            if self.world.shared and not opened.lost:
                node.flush(opened.host)
            node.holder = None

    def _pread(self, fd: int, size: int, offset: int) -> bytes:
        node, host = self._file(fd)
        found = bytes(memoryview(node.view(host))[offset : offset + size])
        self.actor.told("pread", node.view_marks.get(host, 0), len(found), offset)
        return found

    def _pwrite(self, fd: int, piece: bytes, offset: int) -> int:
        node, host = self._file(fd)
        node.write(host, offset, piece)
        node.changed_at = self.world.now
        return len(piece)

    def _append(self, fd: int, piece: bytes) -> int:
        node, host = self._file(fd)
        node.write(host, len(node.view(host)), piece)
        return len(piece)

    def _fdatasync(self, fd: int) -> None:
        node, host = self._file(fd)
        node.flush(host)

    def _fadvise(self, fd: int, *_: int) -> None:
        node, host = self._file(fd)
        if len(self.world.hosts) > 1 or not node.dirty.get(host):
            node.forget(host)

    def _fstat(self, fd: int) -> Any:
        node, host = self._file(fd)
        return SimpleNamespace(st_size=len(node.view(host)), st_nlink=1)

    def _stat(self, act: Any, path: str, other: str | None = None) -> Any:
        folder, name = self._walk(path, fresh=False)
        found = self._seen(folder, name, fresh=False)
        if found is None:
            raise failed(errno.ENOENT, path)
        if other is not None:
            same = self._stat(act, other).node is found
            self.actor.told("stat", same)
            return same
        changed = found.changed_at if isinstance(found, Inode) else 0.0
        return SimpleNamespace(st_dev=7, st_mtime=changed, node=found)

    # ---- names
    def _access(self, path: str, mode: int) -> bool:
        try:
            folder, name = self._walk(path, fresh=False)
        except OSError:
            return False
        found = self._seen(folder, name, fresh=False) is not None
        self.actor.told("access", found)
        return found

    def _mkdir(self, path: str) -> None:
        folder, name = self._walk(path, fresh=True)
        if self._seen(folder, name, fresh=True) is not None:
            raise failed(errno.EEXIST, path)
        node = Folder((self.actor.name, self._made))
        self.world.folders.append(node)
        folder.set(name, node, self.actor.host.number, self.world.now)

    def _rmdir(self, path: str) -> None:
        folder, name = self._walk(path, fresh=True)
        found = self._seen(folder, name, fresh=True)
        if not isinstance(found, Folder):
            raise failed(errno.ENOENT, path)
        if found.current():
            raise failed(errno.ENOTEMPTY, path)
        folder.set(name, None, self.actor.host.number, self.world.now)

    def _link(self, source: str, target: str) -> None:
        folder, name = self._walk(source, fresh=True)
        found = self._seen(folder, name, fresh=True)
        if found is None:
            raise failed(errno.ENOENT, source)
        folder, name = self._walk(target, fresh=True)
        if self._seen(folder, name, fresh=True) is not None:
            self.actor.told("link", "exists")
            raise failed(errno.EEXIST, target)
        folder.set(name, found, self.actor.host.number, self.world.now)
        if self.world.chooser.pick("repeated link", 2):
            # The answer was lost on the way, and the client asked again.
            self.actor.told("link", "repeated")
            raise failed(errno.EEXIST, target)

    def _rename(self, source: str, target: str) -> None:
        folder, name = self._walk(source, fresh=True)
        found = self._seen(folder, name, fresh=True)
        if found is None:
            raise failed(errno.ENOENT, source)
        folder.set(name, None, self.actor.host.number, self.world.now)
        folder, name = self._walk(target, fresh=True)
        folder.set(name, found, self.actor.host.number, self.world.now)

    def _unlink(self, path: str) -> None:
        folder, name = self._walk(path, fresh=True)
        found = self._seen(folder, name, fresh=True)
        self.actor.told("unlink", found is None)
        if found is None:
            raise failed(errno.ENOENT, path)
        folder.set(name, None, self.actor.host.number, self.world.now)

    def _listdir(self, path: str) -> list[str]:
        folder, _ = self._walk(f"{path}/x", fresh=False)
        found = sorted(
            name for name in folder.names if self._seen(folder, name, fresh=False) is not None
        )
        self.actor.told("listdir", tuple(found))
        return found

    def _fsync_folder(self, fd: int) -> None:
        node = self._opened(fd).node
        assert isinstance(node, Folder)
        node.stable = node.current()

    def _remove_tree(self, path: str) -> None:
        return None

    # ---- locks
    def _lock(self, fd: int, kind: int) -> None:
        opened = self._opened(fd)
        node = opened.node
        assert isinstance(node, Inode)
        if node.holder is not None and node.holder is not opened:
            self.actor.waits_for = node
            self.actor.told("lock", False)
            raise failed(errno.EAGAIN, opened.path)
        self.actor.told("lock", True)
        node.holder = opened

    def _unlock(self, fd: int, kind: int) -> None:
        opened = self._opened(fd)
        node = opened.node
        assert isinstance(node, Inode)
        if self.world.shared:
            node.flush(opened.host)
        if node.holder is opened:
            node.holder = None

    def _getlock(self, fd: int, asked: bytes) -> bytes:
        opened = self._opened(fd)
        node = opened.node
        assert isinstance(node, Inode)
        taken = node.holder is not None and node.holder is not opened
        self.actor.told("getlock", taken)
        kind = fcntl.F_WRLCK if taken else fcntl.F_UNLCK
        return struct.pack(_FLOCK, kind, os.SEEK_SET, 0, 1, 0)

"""What programs leave behind: processes whose parent ended, and that became children of ours.

The minion asks Linux to become the parent of its programs' orphans (a child subreaper). So one look
at its own children, a single system call, tells whether an ended program has left anything: also
what made a session of its own. It is the minion's duty then to reap them.

This is for a process that is a minion and nothing else. In another one, children that nothing is
known of may be those of its other code.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Collection

_SET_CHILD_SUBREAPER = 36
_PAGE = 4096
"""A read of /proc gives no more than this at once."""
_CERTAIN = _PAGE - 32
"""A read of less than this was not cut."""


_EXEC_LOOKS = 50
_WITHOUT_LOOKS = 5
_EXEC_S = 0.001
"""So often, and this far apart, a process is looked at that shows neither words nor environment."""


class Orphans:
    """The minion's children that are none of its programs."""

    def __init__(self, minion_id: str, spared: Callable[[], int] = lambda: 0) -> None:
        """`spared()`: the pid of a child that is reaped elsewhere (the guard), or 0."""
        self._mark = f"MINION_ID={minion_id}".encode()
        self._spared = spared
        self._fd = -1
        self._known: set[bytes] = set()
        """Programs that run, and others:"""
        self._others: set[bytes] = set()
        """children that no run is waited for: our own helpers, and daemons that may go on."""
        self._left: dict[bytes, tuple[int, bytes | None]] = {}
        """What was left and is alive: its process group, and the id of its param; None where that
        can't be told yet."""

    def adopt(self) -> bool:
        """Become the parent of orphans, from now on. Whether that can be."""
        try:
            # First: where this can't be read, orphans had better be another's.
            fd = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        if _become_subreaper():
            self._fd = fd
        else:
            os.close(fd)
        return self.adopting

    @property
    def adopting(self) -> bool:
        """Whether orphans become children of ours."""
        return self._fd >= 0

    def started(self, pid: int) -> None:
        """This program is a child of ours."""
        self._known.add(b"%d" % pid)

    def reaped(self, pid: int) -> None:
        """This program is none any more."""
        self._known.discard(b"%d" % pid)

    def any(self) -> bool:
        """Whether there may be an orphan: one system call where there is none."""
        return not self._known.issuperset(self._children())

    def sort(self, groups: Collection[int]) -> None:
        """Reap the orphans that ended, and learn whose the others are. `groups`: the process
        groups of ended programs that are waited for."""
        while self._sort_once(groups):
            # One that ended after the look may have left a child, which is ours by now.
            continue

    def _sort_once(self, groups: Collection[int]) -> bool:
        """Whether one was reaped."""
        reaped = False
        children = set(self._children())
        self._forget(self._others - children)
        left = {}
        for name in children - self._known:
            pid = int(name)
            group = _group_of(pid)
            if pid == self._spared() or group == os.getpgrp():
                # A helper of the minion itself: the code that started it waits for it.
                self._spare(name)
                continue
            known = self._left.get(name)
            # It may clear its environment later.
            param = known[1] if known and known[1] else self._param_of(pid)
            # Only now: one that has ended has no environment, and is taken for another's.
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG)[0]:
                    reaped = True
                    continue
            if param is None or param or group in groups or b"%d" % group in self._known:
                left[name] = group, param
            else:
                self._spare(name)
        self._left = left
        return reaped

    def _spare(self, name: bytes) -> None:
        self._others.add(name)
        self._known.add(name)

    def _forget(self, names: set[bytes]) -> None:
        self._others -= names
        self._known -= names

    def of(self, group: int, param_id: str) -> list[int]:
        """What is alive of a run: members of its process group, and what left that with the
        run's MINION_ variables, or may have them. As of the last `sort`."""
        wanted = param_id.encode()
        return [
            int(name)
            for name, (pgid, param) in self._left.items()
            if pgid == group or param is None or (param == wanted and wanted)
        ]

    def away(self, group: int, param_id: str) -> list[tuple[int, int]]:
        """Pid and process group of what left the run's group, as of the last `sort`. None of these
        numbers can be another process's: nothing but `sort` and `reap` reaps them."""
        found = [(pid, *self._left[b"%d" % pid]) for pid in self.of(group, param_id)]
        return [(pid, pgid) for pid, pgid, param in found if pgid != group and param is not None]

    def none(self) -> bool:
        """Whether nothing is left of any run, as of the last `sort`."""
        return not self._left and all(int(name) == self._spared() for name in self._others)

    def let_be(self, pids: list[int]) -> None:
        """Wait for these no more."""
        for pid in pids:
            self._spare(b"%d" % pid)
            self._left.pop(b"%d" % pid, None)

    def reap(self, groups: Collection[int]) -> None:
        """Reap whatever ended, also of runs that go on. `groups` as in `sort`."""
        if not self.adopting:
            return
        for name in list(self._others):
            pid = int(name)
            if pid != self._spared() and _group_of(pid) != os.getpgrp():
                with contextlib.suppress(ChildProcessError):
                    if os.waitpid(pid, os.WNOHANG)[0]:
                        self._forget({name})
        if self.any():
            self.sort(groups)

    def _param_of(self, pid: int) -> bytes | None:
        """The id of the param that it is run for; empty where its environment does not say. None:
        that can't be told yet."""
        held = _environment_of(pid)
        if held is None:
            return None
        if self._mark not in held:
            return b""
        name = b"MINION_PARAM_ID="
        return next((each[len(name) :] for each in held if each.startswith(name)), b"")

    def _children(self) -> list[bytes]:
        if self._fd < 0:
            return []
        data = os.pread(self._fd, _PAGE, 0)
        if len(data) < _CERTAIN:
            return data.split()
        whole = b""
        while data:
            whole += data
            data = os.pread(self._fd, _PAGE, len(whole))
        return whole.split()

    def close(self) -> None:
        """Let go of the file; what is left stays ours."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _environment_of(pid: int) -> list[bytes] | None:
    """The environment of a child; empty if it is another user's, or has none. None: the child is
    ending, or is just becoming another program, and shows nothing of itself."""
    without = 0
    try:
        for _ in range(_EXEC_LOOKS):
            if held := _read(f"/proc/{pid}/environ"):
                return held.split(b"\0")
            # A process that is just becoming another program shows neither words nor environment.
            if _read(f"/proc/{pid}/cmdline"):
                # It may have become one between the two looks, but not so many times.
                without += 1
                if without == _WITHOUT_LOOKS:
                    return []
                continue
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return None
            time.sleep(_EXEC_S)
    except PermissionError:
        return []
    except OSError:
        return None
    return None


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read()


def _become_subreaper() -> bool:
    arguments = (_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        # ctypes takes eight times as long to import as what is needed of it here.
        import _ctypes

        prctl = _ctypes.dlsym(_ctypes.dlopen(None, 0), "prctl")  # type: ignore[arg-type]
        return not _ctypes.call_function(prctl, arguments)
    except Exception:  # it is private, and another Python may have it otherwise
        try:
            import ctypes

            return not ctypes.CDLL(None).prctl(*arguments)
        except (ImportError, AttributeError, OSError):
            return False


def _group_of(pid: int) -> int:
    """Its process group; 0 if it is gone."""
    try:
        return os.getpgid(pid)
    except OSError:
        return 0

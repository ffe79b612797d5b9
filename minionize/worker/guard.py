"""The guard: a small process, forked first, that ends what a minion started when the minion dies.

Minion and guard share a page of memory with the process groups that run. To hold and to release
one is a memory write, so a run costs no system call for it. When the minion is gone (kill -9
included) the guard kills the groups, then whatever still carries the minion's id in its
environment: children that made a session of their own, and one that was being started just
then; but no job that a run has given to a scheduler (see `kin`). What belongs to another process,
as a container to its runtime, is ended by a command that the guard was told of. It does all that,
too, when the minion's beat stands still for the lease time, since then the leases are lost and
others run these params. Such a round takes a while: what the minion started before its end, and
died of KILL, is taken for killed by it.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import signal
import time
from collections.abc import Sequence

from minionize.worker.kin import Kin
from minionize.worker.strays import GUARD_NAME, kill_marked, pidfd_of

_ID_BYTES = 256
_PATH_BYTES = 1024
_GROUPS = 8192
CAPACITY = _GROUPS
"""Process groups that a guard can hold: one for each slot, and one more."""
_BEAT, _LEASE_MS, _STARTED, _STARTING, _ROUNDS, _ROUNDS_OVER = range(6)
_HEAD_INTS = 16
_ID = _HEAD_INTS * 4
_SCRATCH = _ID + _ID_BYTES
_SWEEPER = _SCRATCH + _PATH_BYTES
_TABLE = _SWEEPER + _PATH_BYTES
_SIZE = _TABLE + 4 * _GROUPS
_SWEEP_S = 60.0
_LOOKS = 4
"""The beat is looked at so many times per lease, and must stand still at all of them: a guard
that slept together with the minion (a frozen machine) must not take that for a hung minion."""


class Guard:
    """The minion's side. `start` and `watch` fork; the others but `close` are memory accesses."""

    def __init__(self) -> None:
        self._shared = shared = mmap.mmap(-1, _SIZE)
        self._view = memoryview(shared)
        self._head = self._view[: _HEAD_INTS * 4].cast("I")
        self._groups = self._view[_TABLE:].cast("I")
        self._pid = 0
        self._pipe = -1
        self._owner = os.getpid()
        self._closed = False
        self._how = ""
        self._told = False

    @classmethod
    def start(cls) -> Guard:
        """Fork the guard. Call it before threads, and before anything heavy is imported."""
        guard = cls()
        guard._post()
        return guard

    def _post(self) -> None:
        """Fork a process that stands guard. OSError if there can't be one."""
        # The one before may have been killed in the middle of a round.
        self._head[_ROUNDS_OVER] = self._head[_ROUNDS]
        read_end, write_end = os.pipe()
        minion = os.getpid()
        me = pidfd_of(minion)
        try:
            pid = _fork()
            if pid == 0:
                try:
                    os.close(write_end)
                    _stand_guard(self._shared, read_end, me, Kin(minion))
                finally:
                    os._exit(0)
        except OSError:
            os.close(write_end)
            raise
        finally:
            os.close(read_end)
            if me is not None:
                os.close(me)
        self._pid, self._pipe = pid, write_end

    def watch(self) -> str | None:
        """Post another guard if ours was killed: a line that says so, or None. One system call
        while it lives."""
        if self._closed or os.getpid() != self._owner:
            return None
        if self._pid:
            try:
                ended, status = os.waitpid(self._pid, os.WNOHANG)
            except ChildProcessError:
                ended, status = self._pid, 0  # other code reaped it
            if not ended:
                return None
            self._pid = 0
            self._let_go()
            number = os.waitstatus_to_exitcode(status)
            self._how = f" (signal {-number})" if number < 0 else ""
        try:
            self._post()
        except OSError as error:
            if self._told:
                return None
            self._told = True
            return (
                f"the guard process was killed{self._how}, and no other can be started "
                f"({os.strerror(error.errno or 0)}): until there is one, kill -9 of this minion "
                "leaves its programs running"
            )
        self._told = False
        return f"the guard process was killed{self._how}: started another"

    @property
    def pid(self) -> int:
        """The guard's own; 0 while there is none."""
        return self._pid

    def arm(
        self,
        minion_id: str,
        lease_s: float | None = None,
        scratch: str = "",
        sweeper: Sequence[str] = (),
    ) -> None:
        """Tell it who we are: what has `MINION_ID=minion_id` in its environment is ours.

        `lease_s` (None: no limit) is how long the beat may stand still; `scratch` a folder whose
        files it removes in the end; `sweeper` a command that ends what a KILL of groups does not.
        """
        if minion_id:
            _put_text(self._view, _ID, _ID_BYTES, minion_id)
        if scratch and len(os.fsencode(scratch)) < _PATH_BYTES:  # cut, it would be another folder
            _put_text(self._view, _SCRATCH, _PATH_BYTES, scratch)
        if sweeper:
            words = "\0".join(sweeper)
            if len(words) >= _PATH_BYTES:
                raise ValueError(f"a command of {len(words)} bytes is too long for the guard")
            _put_text(self._view, _SWEEPER, _PATH_BYTES, words)
        if lease_s is not None:
            self._head[_LEASE_MS] = min(2**31, max(1, int(lease_s * 1000)))

    def beat(self) -> None:
        """The minion is well."""
        self._head[_BEAT] = (self._head[_BEAT] + 1) & 0xFFFFFFFF

    def starting(self) -> int:
        """A program is about to start; returns the `rounds`. It runs before `hold` can tell the
        guard: a minion may be stopped or killed in between."""
        self._head[_STARTING] = self._head[_STARTED] = 1
        return self._head[_ROUNDS_OVER]

    def hold(self, index: int, pgid: int) -> None:
        """Process group `pgid` runs in slot `index` (below `CAPACITY`); 0: none was started."""
        self._groups[index] = pgid
        self._head[_STARTED] = 1
        self._head[_STARTING] = 0

    def release(self, index: int) -> None:
        """Nothing of that group is alive, or it is held anew at once; call it before its leader
        is reaped."""
        self._groups[index] = 0

    def rounds(self) -> int:
        """How often the guard took the minion for hung, killed what it had started, and was
        done with that: for `killed_since`, before something is started."""
        return self._head[_ROUNDS_OVER]

    def killed_since(self, rounds: int) -> bool:
        """Whether what was started when there were so many `rounds`, and died of KILL, died of
        one."""
        return self._head[_ROUNDS] != rounds

    def close_in_child(self) -> None:
        """Let go of the pipe in a forked child, which would keep the guard waiting."""
        self._closed = True
        self._let_go()

    def _let_go(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1

    def leave(self) -> None:
        """Send the guard on its last round: nothing is started any more."""
        if not self._closed and os.getpid() == self._owner:
            self._closed = True
            self._let_go()

    def close(self) -> None:
        """`leave`, and wait until the guard has done that (a second at most)."""
        self.leave()
        if os.getpid() != self._owner:
            return
        until = time.monotonic() + 1.0
        with contextlib.suppress(ChildProcessError):
            while (
                self._pid and os.waitpid(self._pid, os.WNOHANG)[0] == 0 and time.monotonic() < until
            ):
                time.sleep(0.001)
        self._pid = 0


def _fork() -> int:
    """`os.fork`, without Python's warning about threads: the child touches nothing of theirs."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _put_text(view: memoryview, start: int, size: int, text: str) -> None:
    data = os.fsencode(text)[: size - 1]
    view[start : start + size] = data.ljust(size, b"\0")


def _text(view: memoryview, start: int, size: int) -> bytes:
    return bytes(view[start : start + size]).rstrip(b"\0")


def _stand_guard(shared: mmap.mmap, pipe: int, minion: int | None, kin: Kin) -> None:
    """The guard's whole life."""
    for number in (*range(1, 16), signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_IGN)
    signal.set_wakeup_fd(-1)
    with contextlib.suppress(OSError):
        os.setsid()
    pipe, minion = _keep_only(pipe, minion)
    with contextlib.suppress(OSError), open("/proc/self/comm", "w") as name:
        name.write(GUARD_NAME)
    view = memoryview(shared)
    head = view[: _HEAD_INTS * 4].cast("I")
    groups = view[_TABLE:].cast("I")
    ends = select.poll()
    ends.register(pipe, select.POLLIN)
    if minion is not None:
        ends.register(minion, select.POLLIN)
    beat, still = head[_BEAT], 0
    while True:
        lease_ms = head[_LEASE_MS]
        # Not armed yet: look again soon, a beat can't be missed.
        if ends.poll(lease_ms // _LOOKS if lease_ms else 1000):
            break
        still = still + 1 if lease_ms and head[_BEAT] == beat else 0
        beat = head[_BEAT]
        if still > _LOOKS and (head[_STARTING] or any(pgid > 1 for pgid in groups)):
            # First, or the minion might see its runs die and not know why.
            head[_ROUNDS] = (head[_ROUNDS] + 1) & 0xFFFFFFFF
            _kill_groups(groups)
            # One look: a minion that goes on now starts others. If it does not, we come again.
            _kill_marked_as(view, kin)
            _sweep(view)
            head[_ROUNDS_OVER] = head[_ROUNDS]
    held = _kill_groups(groups)
    if head[_STARTED]:
        # One that ended in good order was not just about to start something.
        orderly = minion is not None and not _ended(minion)
        _kill_strays(view, kin, looks=1 if orderly else 2)
        if held or not orderly:
            _sweep(view)
    scratch = _text(view, _SCRATCH, _PATH_BYTES)
    if scratch:
        _remove(os.fsdecode(scratch))


def _keep_only(pipe: int, minion: int | None) -> tuple[int, int | None]:
    """Close every descriptor but these two, which become 3 and 4, and 0 to 2, which become
    /dev/null: a pipeline must not wait for the guard."""
    null = os.open(os.devnull, os.O_RDWR)
    # High first, so that nothing is overwritten before it is moved.
    kept = [os.dup(pipe)] + ([os.dup(minion)] if minion is not None else [])
    high = max(kept) + 8
    moved = [os.dup2(fd, high + i, inheritable=False) for i, fd in enumerate(kept)]
    for fd in range(3):
        os.dup2(null, fd)
    placed = [os.dup2(fd, 3 + i, inheritable=False) for i, fd in enumerate(moved)]
    os.closerange(3 + len(placed), os.sysconf("SC_OPEN_MAX"))
    return placed[0], placed[1] if len(placed) > 1 else None


def _kill_groups(groups: memoryview) -> bool:
    """KILL to every group that is held; whether there was one."""
    some = False
    for pgid in groups:
        # 1 and 0 would be all processes.
        if pgid > 1:
            some = True
            with contextlib.suppress(OSError):
                os.killpg(pgid, signal.SIGKILL)
    return some


def _sweep(view: memoryview) -> None:
    """Run the sweeper, if there is one, for a minute at most."""
    words = _text(view, _SWEEPER, _PATH_BYTES)
    if not words:
        return
    # Not with our signals, which are ignored; the shell of it would pass that on.
    numbers = [*range(1, 16), signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU]
    catchable = [one for one in numbers if one not in (signal.SIGKILL, signal.SIGSTOP)]
    argv = words.split(b"\0")
    env = {name: value for name, value in os.environb.items() if name}  # posix_spawn takes no other
    with contextlib.suppress(OSError):
        pid = os.posix_spawn(argv[0], argv, env, setsigdef=catchable, setpgroup=0)
        until = time.monotonic() + _SWEEP_S
        while not os.waitpid(pid, os.WNOHANG)[0]:
            if time.monotonic() > until:
                os.killpg(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                break
            time.sleep(0.02)


def _ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _kill_strays(view: memoryview, kin: Kin, looks: int, patience_s: float = 5.0) -> None:
    """KILL whatever carries the minion's id in its environment, until `looks` in a row found
    nothing.

    A process that is between vfork and exec still shows its parent's environment, and one that
    forks may be ahead of us: so one look is not enough.
    """
    until = time.monotonic() + patience_s
    clean = 0
    while clean < looks and time.monotonic() < until:
        clean = 0 if _kill_marked_as(view, kin) else clean + 1
        if clean < looks:
            time.sleep(0.05)


def _kill_marked_as(view: memoryview, kin: Kin) -> int:
    """KILL every process of our kin that carries the minion's id; how many."""
    minion_id = _text(view, _ID, _ID_BYTES)
    return kill_marked((b"MINION_ID=" + minion_id,), kin) if minion_id else 0


def _remove(folder: str) -> None:
    """A folder of the minion's own, in one where others may write: not through a link of theirs."""
    with contextlib.suppress(OSError):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        for name in os.listdir(fd):
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=fd)
        os.rmdir(folder)

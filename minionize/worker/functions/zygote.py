"""The clean interpreter: forks a child per slot as it is told, and each loads the function.

It is started anew (no threads, nothing inherited but its two descriptors), so that forking it
is safe and cheap whatever the minion's own process holds. It imports nothing of the function's
itself: a fork would share the state of its module, the random numbers to come for one, and has
none of the threads that a library started. It tells the minion of births and deaths, and sends
signals for it, since it alone knows which pids are still its own. When the minion hangs up, it
kills every process group that it made.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from typing import Any, BinaryIO, NoReturn

from minionize.callbacks import current
from minionize.errors import UsageError
from minionize.worker.functions import child as children
from minionize.worker.functions import loading, results
from minionize.worker.functions.streams import Streams

CONTROL = 3
SETUP = 4
"""The two descriptors that the minion leaves us."""
MOST_MESSAGE = 64 * 1024
ENDS = 5
"""Descriptors that a child is given."""
LAST_WORDS_S = 0.2
"""How long children may take to see that the minion is gone, before they are killed."""
_IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Zygote:
    """Births and deaths of the children."""

    def __init__(self, control: socket.socket, told: dict[str, Any], pickled: bytes) -> None:
        self.control = control
        self.told = told
        self.pickled = pickled
        self.alive: dict[int, tuple[int, int]] = {}
        """(slot, birth) by pid."""
        self.awake, wake = os.pipe()
        for fd in (self.awake, wake):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self.wake = wake
        self.pid = os.getpid()

    def run(self) -> None:
        """Serve the minion until it hangs up."""
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(self.awake, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if self.awake in ready:
                os.read(self.awake, 4096)
                self.bury()
            if self.control.fileno() in ready:
                try:
                    message, fds, _, _ = socket.recv_fds(self.control, MOST_MESSAGE, ENDS)
                except OSError:  # it left without reading our last words
                    return
                if not message:
                    return
                order = json.loads(message)
                if "fork" in order:
                    self.fork(order["fork"], order["birth"], fds)
                elif "signal" in order:
                    self.signal(order["signal"], order["birth"], order["signo"])

    def fork(self, slot: int, birth: int, fds: list[int]) -> None:
        """A child with these ends: link, board, records, stdout, stderr."""
        pid, why = -1, "too many open files"
        if len(fds) == ENDS:
            try:
                pid = os.fork()
            except OSError as error:
                why = str(error.strerror)
        if pid == 0:
            self.become_child(slot, birth, fds)
        for fd in fds:
            os.close(fd)
        if pid < 0:
            self.tell({"unborn": slot, "birth": birth, "why": why})
        else:
            with contextlib.suppress(OSError):  # it was faster, or is dead already
                os.setpgid(pid, pid)
            self.alive[pid] = (slot, birth)
            self.tell({"born": slot, "birth": birth, "pid": pid})

    def become_child(self, slot: int, birth: int, fds: list[int]) -> NoReturn:
        """In the child: shed what is the zygote's, load the function, then serve."""
        status = 70
        loaded = False
        try:
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for fd in (self.awake, self.wake):
                os.close(fd)
            for fd in fds:
                os.set_inheritable(fd, False)
            if slot or birth > 1:
                # What a module prints when it is imported is shown once.
                with open(os.devnull, "wb") as null:
                    os.dup2(null.fileno(), 1)
                    os.dup2(null.fileno(), 2)
            streams = Streams()
            sys.stdout = sys.__stdout__ = streams.out  # type: ignore[misc]
            sys.stderr = sys.__stderr__ = streams.err  # type: ignore[misc]
            import faulthandler

            faulthandler.enable(2, all_threads=False)
            os.environ["MINION_SLOT"] = str(slot)
            current.slot = slot
            _die_when_forked()
            func, whole = loading.load(self.told, self.pickled)
            streams.flush(lambda: None)
            os.dup2(fds[3], 1)
            os.dup2(fds[4], 2)
            for signum in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
                signal.signal(signum, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, _unwind)
            loaded = True
            self.tell({"loaded": slot, "birth": birth})
            self.control.close()
            ends = children.Ends(*fds)
            keeper = results.Keeper(self.told["results"])
            call = children.Call(func, whole, keeper.keep)
            children.serve(ends, call, streams, self.told["capture"])
            status = 0
        except results.Terminated:
            status = 143
        except BaseException as error:  # nothing of it may get back into the zygote's own loop
            if loaded or not self.cannot_load(slot, birth, error):
                sys.excepthook(*sys.exc_info())
        finally:
            children.leave(status)

    def cannot_load(self, slot: int, birth: int, error: BaseException) -> bool:
        """In the child: tell why it has no function, if `error` says that."""
        kept = loading.by_machine(error)
        if kept is not None:
            why, number = kept
            self.tell({"unloaded": slot, "birth": birth, "why": why, "errno": number})
        elif isinstance(error, UsageError):
            self.tell({"unusable": slot, "birth": birth, "why": str(error)})
        return kept is not None or isinstance(error, UsageError)

    def bury(self) -> None:
        """Tell the minion of the children that died, and end what they left running."""
        for pid, (slot, birth) in list(self.alive.items()):
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                continue
            _kill_group(pid, signal.SIGKILL)  # before its pid can be another's
            _, status, usage = os.wait4(pid, 0)
            del self.alive[pid]
            self.tell(
                {
                    "died": slot,
                    "birth": birth,
                    "status": os.waitstatus_to_exitcode(status),
                    "cpu_s": round(usage.ru_utime + usage.ru_stime, 6),
                    "peak_kib": usage.ru_maxrss,
                }
            )

    def signal(self, slot: int, birth: int, signo: int) -> None:
        """Signal the process group of this child, if it is still that child."""
        for pid, child in self.alive.items():
            if child == (slot, birth):
                _kill_group(pid, signo)

    def tell(self, message: dict[str, Any]) -> None:
        """One message to the minion, which may be gone."""
        try:
            self.control.send(json.dumps(message).encode())
        except OSError:
            if self.pid == os.getpid():
                self.end()
            children.leave(0)

    def end(self) -> NoReturn:
        """The minion is gone: so are the children, and we."""
        deadline = time.monotonic() + LAST_WORDS_S
        left = set(self.alive)
        while left and time.monotonic() < deadline:
            ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
            left = {pid for pid in left if os.waitid(os.P_PID, pid, ended) is None}
            time.sleep(0.005 if left else 0.0)
        for pid in self.alive:
            _kill_group(pid, signal.SIGKILL)
        os._exit(0)


def _unwind(signum: int, frame: object) -> NoReturn:
    raise results.Terminated(128 + signum)


def _die_when_forked() -> None:
    """A process that the function forks ends by TERM at once, as it would without us: Python may
    run a handler late or never, and a pool of multiprocessing waits for its workers to end."""
    mine = [signal.SIGTERM]

    def in_child() -> None:
        if signal.getsignal(signal.SIGTERM) is _unwind:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, mine)

    os.register_at_fork(
        before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, mine),
        after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, mine),
        after_in_child=in_child,
    )


def _kill_group(pgid: int, signo: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # no process left in it
        os.killpg(pgid, signo)


def main(told: dict[str, Any], rest: BinaryIO) -> None:
    """`told`: what the minion says of the function and of itself; `rest`: the pickled function,
    where it can't be imported."""
    control = socket.socket(fileno=CONTROL)
    os.set_inheritable(CONTROL, False)
    sys.argv[:] = told["argv"]
    current.minion_id = told["minion_id"]
    current.deadline = told["deadline"]
    current.checkpoints = told["checkpoints"]
    pickled = rest.read()
    rest.close()
    # A scheduler may signal every process of the job: what happens then is the minion's decision.
    for signum in (*_IGNORED, signal.SIGCHLD):
        signal.signal(signum, _ignore)
    zygote = Zygote(control, told, pickled)
    if pickled:
        with contextlib.suppress(ImportError):  # each child says so
            import cloudpickle  # noqa: F401
    import gc

    gc.freeze()  # what is shared stays shared
    zygote.tell({"up": True})
    zygote.run()
    zygote.end()


def _ignore(signum: int, frame: object) -> None:
    """Not SIG_IGN, which programs started by the function would inherit."""

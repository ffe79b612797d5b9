"""The clean interpreter: imports the function once, then forks a child per slot as it is told.

It is started anew (no threads, nothing inherited but its two descriptors), so that forking it
is safe and cheap whatever the minion's own process holds. It tells the minion of births and
deaths, and sends signals for it, since it alone knows which pids are still its own. When the
minion hangs up, it kills every process group that it made.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any, BinaryIO, NoReturn

from minionize.callbacks import calling, current
from minionize.errors import UsageError
from minionize.worker.functions import child as children
from minionize.worker.functions import results
from minionize.worker.functions.streams import Streams

CONTROL = 3
SETUP = 4
"""The two descriptors that the minion leaves us."""
MOST_MESSAGE = 64 * 1024
ENDS = 5
"""Descriptors that a child is given."""
LAST_WORDS_S = 0.2
"""How long children may take to see that the minion is gone, before they are killed."""


class Zygote:
    """Births and deaths of the children."""

    def __init__(
        self, control: socket.socket, func: Callable[..., Any], whole: bool, exact: bool
    ) -> None:
        self.control = control
        self.func = func
        self.whole = whole
        self.exact = exact
        self.alive: dict[int, tuple[int, int]] = {}
        """(slot, birth) by pid."""
        self.awake, wake = os.pipe()
        for fd in (self.awake, wake):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self.wake = wake

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
                with warnings.catch_warnings():
                    # The function's module may have started threads; that is its own affair.
                    warnings.simplefilter("ignore", DeprecationWarning)
                    pid = os.fork()
            except OSError as error:
                why = str(error.strerror)
        if pid == 0:
            self.become_child(slot, fds)
        for fd in fds:
            os.close(fd)
        if pid < 0:
            self.tell({"unborn": slot, "birth": birth, "why": why})
        else:
            with contextlib.suppress(OSError):  # it was faster, or is dead already
                os.setpgid(pid, pid)
            self.alive[pid] = (slot, birth)
            self.tell({"born": slot, "birth": birth, "pid": pid})

    def become_child(self, slot: int, fds: list[int]) -> NoReturn:
        """In the child: shed what is the zygote's, then serve."""
        status = 70
        try:
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            for signum in (signal.SIGCHLD, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
                signal.signal(signum, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, _unwind)
            for fd in (self.awake, self.wake):
                os.close(fd)
            self.control.close()
            for fd in fds:
                os.set_inheritable(fd, False)
            os.dup2(fds[3], 1)
            os.dup2(fds[4], 2)
            streams = Streams()
            sys.stdout = sys.__stdout__ = streams.out  # type: ignore[misc]
            sys.stderr = sys.__stderr__ = streams.err  # type: ignore[misc]
            import faulthandler

            faulthandler.enable(2, all_threads=False)
            os.environ["MINION_SLOT"] = str(slot)
            current.slot = slot
            if "numpy.random" in sys.modules:
                sys.modules["numpy.random"].seed()  # or all children draw the same numbers
            children.serve(children.Ends(*fds), self.func, self.whole, streams, self.exact)
            status = 0
        except results.Terminated:
            status = 143
        except BaseException:  # nothing of it may get back into the zygote's own loop
            sys.excepthook(*sys.exc_info())
        finally:
            children.leave(status)

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
            self.end()

    def end(self) -> NoReturn:
        """The minion is gone: so are the children, and we."""
        for pid in list(self.alive):
            deadline = time.monotonic() + LAST_WORDS_S
            while time.monotonic() < deadline:
                if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                    break
                time.sleep(0.005)
            _kill_group(pid, signal.SIGKILL)
        os._exit(0)


def _unwind(signum: int, frame: object) -> NoReturn:
    raise results.Terminated(128 + signum)


def _kill_group(pgid: int, signo: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody left in it
        os.killpg(pgid, signo)


def main(told: dict[str, Any], rest: BinaryIO) -> None:
    """`told`: what the minion says of the function and of itself; `rest`: the pickled function,
    where it can't be imported."""
    control = socket.socket(fileno=CONTROL)
    os.set_inheritable(CONTROL, False)
    # Should the minion die while the function's module is imported, SIGIO ends us.
    fcntl.fcntl(control, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(control, fcntl.F_GETFL)
    fcntl.fcntl(control, fcntl.F_SETFL, flags | os.O_ASYNC)
    sys.argv[:] = told["argv"]
    current.minion_id = told["minion_id"]
    current.deadline = told["deadline"]
    current.checkpoints = told["checkpoints"]
    answer: dict[str, Any]
    try:
        func = _load(told["module"], told["name"], rest)
        answer = {"ready": calling.takes_whole(func)}
    except UsageError as error:
        answer = {"unusable": str(error)}
    except BaseException as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        answer = {"unusable": f"the function can't be loaded in its own process ({what})"}
    rest.close()
    fcntl.fcntl(control, fcntl.F_SETFL, flags)
    # A scheduler may signal every process of the job: what happens then is the minion's decision.
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(signum, _ignore)
    signal.signal(signal.SIGCHLD, _ignore)
    try:
        control.send(json.dumps(answer).encode())
    except OSError:  # the minion did not wait for us
        return
    if "ready" not in answer:
        return
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    zygote = Zygote(control, func, answer["ready"], told["capture"])
    import gc

    gc.freeze()  # what is shared stays shared
    zygote.run()
    zygote.end()


def _ignore(signum: int, frame: object) -> None:
    """Not SIG_IGN, which programs started by the function would inherit."""


def _load(module: str, name: str, rest: BinaryIO) -> Callable[..., Any]:
    if module:
        return calling.find(module, name)
    import cloudpickle

    return cloudpickle.load(rest)  # type: ignore[no-any-return]

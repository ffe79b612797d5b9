"""The first process of a container: what the kernel expects of it, and a program doesn't do.

Process 1 is sent no signal that it has no handler for, and inherits all orphans. So as process 1
a command of ours becomes two: this one, which passes signals on and reaps, and the command itself.
"""

from __future__ import annotations

import os
import signal

_PASSED_ON = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
    signal.SIGCONT,
)


def stand_before() -> None:
    """Returns in the process that does the work: this one, unless it is process 1."""
    if os.getpid() != 1:
        return
    # Blocked, so that they wait for us, also those that process 1 would not be sent.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*_PASSED_ON, signal.SIGCHLD})
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    status = _stand(child)
    number = os.waitstatus_to_exitcode(status)
    # Process 1 can't die of a signal: a shell says it like this.
    os._exit(number if number >= 0 else 128 - number)


def _stand(child: int) -> int:
    """Pass signals on and reap, until `child` has ended; returns its wait status."""
    while True:
        told = signal.sigwaitinfo({*_PASSED_ON, signal.SIGCHLD})
        if told.si_signo == signal.SIGCHLD:
            status = _reap(child)
            if status is not None:
                return status
        elif told.si_code <= 0:
            # What a terminal sends goes to its whole group, the child included.
            try:
                os.kill(child, told.si_signo)
            except ProcessLookupError:
                continue


def _reap(child: int) -> int | None:
    """Reap whatever has ended; the wait status of `child` if that has. Others are orphans."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if pid == 0:
            return None
        if pid == child:
            return status

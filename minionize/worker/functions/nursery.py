"""The minion's side of the zygote: starting it, and the messages to and fro."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from typing import Any

from minionize.callbacks.func import FuncCallback
from minionize.errors import UsageError
from minionize.settings.machine import run_in_job
from minionize.values import RUN_VARIABLES
from minionize.worker.blame import Blame, blame, unfit
from minionize.worker.limits import limits
from minionize.worker.output import open_unlinked

_CODE = (
    "import sys,json;s=open(4,'rb');t=json.loads(s.readline());sys.path[:]=t['path'];"
    "from minionize.worker.functions.zygote import main;main(t,s)"
)
_MOST_MESSAGE = 64 * 1024
_HIGH = 5
"""Descriptors are moved to this or higher first, so that placing one never overwrites another."""


class Nursery:
    """One zygote. `control` is readable when it has something to tell, or died."""

    def __init__(
        self,
        callback: FuncCallback,
        env: Mapping[str, str],
        scratch: str,
        told: Mapping[str, Any],
    ) -> None:
        """Starts it; does not wait until it is up. UsageError if that can't be, HostUnfit or
        OSError where the machine has no room for it.

        `told`: minion_id, deadline and checkpoints, for callbacks/current; and capture.
        """
        if not sys.executable:
            raise UsageError("functions need a Python interpreter to run in: use --inline")
        self.name = callback.name
        """Of the function, for people."""
        origin = callback.origin()
        told = {
            **told,
            "path": sys.path,
            "argv": sys.argv,
            "module": origin.module,
            "name": origin.name,
            "main": _main(),
        }
        with contextlib.ExitStack() as ours:
            setup = open_unlinked(scratch)
            ours.callback(os.close, setup)
            with open(setup, "wb", closefd=False) as file:
                file.write(json.dumps(told).encode() + b"\n" + origin.pickled)
            os.lseek(setup, 0, os.SEEK_SET)
            self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.callback(theirs.close)
            undo = ours.enter_context(contextlib.ExitStack())
            undo.callback(self.control.close)
            moved: list[int] = []
            for fd in (theirs.fileno(), setup):
                moved.append(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _HIGH))
                ours.callback(os.close, moved[-1])
            self.pid = self._spawn(_environment(env, told), moved)
            undo.pop_all()
        self.control.setblocking(False)

    def _spawn(self, env: dict[str, str], fds: list[int]) -> int:
        """Start the interpreter with these two: the socket, and what it is told."""
        try:
            return limits.as_given(os.posix_spawn)(
                sys.executable,
                [sys.executable, *["-O"] * sys.flags.optimize, "-c", _CODE],
                env,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, fds[0], 3),
                    (os.POSIX_SPAWN_DUP2, fds[1], 4),
                ],
                setpgroup=0,
                setsigmask=(),
                setsigdef=[signal.SIGTERM, signal.SIGINT, signal.SIGCHLD],
            )
        except OSError as error:
            if blame(error) is not Blame.COMMAND:
                raise unfit("no process can be started for the function", error) from error
            raise UsageError(
                f"{sys.executable} can't be started ({error.strerror}): use --inline"
            ) from error

    def fork(self, slot: int, birth: int, ends: list[int]) -> bool:
        """Ask for a child; False if the zygote is gone."""
        message = json.dumps({"fork": slot, "birth": birth}).encode()
        return self._send(message, ends)

    def signal(self, slot: int, birth: int, signo: int) -> bool:
        """Signal the process group of a child, if it still is."""
        return self._send(
            json.dumps({"signal": slot, "birth": birth, "signo": int(signo)}).encode(), []
        )

    def _send(self, message: bytes, fds: list[int]) -> bool:
        until = time.monotonic() + 5.0
        while True:
            try:
                socket.send_fds(self.control, [message], fds)
                return True
            except BlockingIOError:  # its queue is full of orders
                if time.monotonic() > until:
                    return False
                time.sleep(0.001)
            except OSError:
                return False

    def messages(self) -> tuple[list[dict[str, Any]], bool]:
        """What it told since the last time, and whether it is still there."""
        told: list[dict[str, Any]] = []
        while True:
            try:
                message = self.control.recv(_MOST_MESSAGE)
            except BlockingIOError:
                return told, True
            except OSError:
                return told, False
            if not message:
                return told, False
            told.append(json.loads(message))

    def end(self, patience_s: float) -> int:
        """Hang up, which ends it and all its children; its status (as of `ended_by`)."""
        self.control.close()
        until = time.monotonic() + patience_s
        pause_s = 0.0005
        while True:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                return 0  # other code in this process waits for all children
            if pid:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > until:
                until = float("inf")
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)
            time.sleep(pause_s)
            pause_s = min(0.02, pause_s * 2)


def _environment(env: Mapping[str, str], told: Mapping[str, Any]) -> dict[str, str]:
    """The environment of the functions; without what an outer minion says of its own run."""
    mine = {name: value for name, value in env.items() if name not in RUN_VARIABLES}
    mine.update(run_in_job(env), MINION_ID=told["minion_id"])
    if told["deadline"] is not None:
        mine["MINION_DEADLINE"] = f"{told['deadline']:.0f}"
    return mine


def _main() -> dict[str, Any]:
    """What multiprocessing asks of the `__main__` of this process."""
    module = sys.modules.get("__main__")
    spec = getattr(module, "__spec__", None)
    return {"file": getattr(module, "__file__", None), "spec": getattr(spec, "name", None)}

"""Starting one program: its environment, where it is found, and what can be wrong with it."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from minionize.callbacks.template import LacksName
from minionize.contracts.callback import Invocation
from minionize.contracts.crew import Verdict
from minionize.settings.machine import job
from minionize.values import RUN_VARIABLES, Lease

PARAM_FILE_BYTES = 100 * 1024
"""From here on a param goes into a file: Linux refuses a single string of 128 KiB."""
_RESTORED = [
    signal.SIGPIPE,
    signal.SIGXFSZ,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGCHLD,
    signal.SIGALRM,
]


class NotStarted(Exception):
    """The program could not be started; `verdict` says whose fault that is."""

    def __init__(self, verdict: Verdict, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.verdict = verdict
        self.reason = reason
        self.detail = detail


class Launcher:
    """Starts programs for leases. Nothing here waits."""

    def __init__(
        self,
        env: Mapping[str, str],
        *,
        minion_id: str,
        scratch: str,
        checkpoints: str | None = None,
        deadline: float | None = None,
    ) -> None:
        """`scratch`: a folder that may be made for files with large params. `deadline`: Unix
        time at which the minion will end its runs."""
        self._path = env.get("PATH", os.defpath)
        ours = {"MINION_ID": minion_id, "MINION_JOB": job(env)}
        if deadline is not None:
            ours["MINION_DEADLINE"] = f"{deadline:.0f}"
        kept = {name: value for name, value in env.items() if name not in RUN_VARIABLES}
        self._env = _encoded({**kept, **ours})
        """As bytes: what is the same for all runs is not encoded for each."""
        self._checkpoints = None
        if checkpoints is not None:
            self._checkpoints = os.fsencode(os.path.abspath(checkpoints) + os.sep)
        self._scratch = scratch
        self._found: dict[str, str] = {}
        self._home_fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._home = ""
        with contextlib.suppress(OSError):
            self._home = os.getcwd()
        # Under nohup HUP stays ignored, as it does for anything else that nohup starts.
        hup = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]
        self._exec = partial(os.posix_spawn, setpgroup=0, setsigmask=(), setsigdef=_RESTORED + hup)

    def spawn(
        self, lease: Lease, slot: int, invocation: Invocation, actions: Sequence[Any] | None
    ) -> int:
        """Start it in a process group of its own; returns its pid. NotStarted if that can't be."""
        argv = invocation.argv
        env = self._env
        text = lease.text
        env[b"MINION_PARAM_ID"] = lease.id.encode()
        env[b"MINION_ATTEMPT"] = b"%d" % lease.attempt
        env[b"MINION_SLOT"] = b"%d" % slot
        if self._checkpoints is not None:
            env[b"MINION_CHECKPOINT_DIR"] = self._checkpoints + lease.id.encode()
        try:
            data = text.encode()
            if len(data) >= PARAM_FILE_BYTES:
                env[b"MINION_PARAM_FILE"] = os.fsencode(self._param_file(slot, data))
                env.pop(b"MINION_PARAM", None)
            else:
                env[b"MINION_PARAM"] = data
                env.pop(b"MINION_PARAM_FILE", None)
            if invocation.env:
                env = {**env, **_encoded(invocation.env)}
            if invocation.chdir is None:
                return self._start(self._program(argv[0]), argv, env, actions)
            return self._start_elsewhere(invocation.chdir, argv, env, actions)
        except ValueError as error:
            # UnicodeEncodeError is one (but U+DC80 to U+DCFF are bytes that are no UTF-8); the
            # other is "embedded null byte".
            raise _unfit(error) from error
        except OSError as error:
            raise _not_started(error, argv[0]) from error

    def _start(
        self, path: str, argv: list[str], env: Mapping[bytes, bytes], actions: Sequence[Any] | None
    ) -> int:
        try:
            return self._exec(path, argv, env, file_actions=actions)
        except FileNotFoundError:
            if argv[0] not in self._found:
                raise
            # It was there before: look along PATH again.
            del self._found[argv[0]]
            return self._exec(self._program(argv[0]), argv, env, file_actions=actions)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            # A script without #!: every shell runs it, and so do xargs and parallel.
            return self._exec("/bin/sh", ["/bin/sh", path, *argv[1:]], env, file_actions=actions)

    def _start_elsewhere(
        self,
        folder: str,
        argv: list[str],
        env: Mapping[bytes, bytes],
        actions: Sequence[Any] | None,
    ) -> int:
        """Start it in `folder`, which is made. The minion has one thread, so it may go there
        itself for a moment."""
        path = self._program(argv[0])
        try:
            os.makedirs(folder, exist_ok=True)
            os.chdir(folder)
        except OSError as error:
            why = os.strerror(error.errno or 0)
            raise NotStarted(
                Verdict.FAILED, f"cannot enter its folder: {why}", f"{folder}: {why}: see --chdir"
            ) from error
        try:
            return self._start(path, argv, env, actions)
        finally:
            os.fchdir(self._home_fd)

    def _program(self, name: str) -> str:
        """The path of a program; relative ones count from where the minion was started."""
        found = self._found.get(name)
        if found is None:
            if "/" in name:
                found = os.path.join(self._home, name) if self._home else name
            else:
                found = self._search(name)
            self._found[name] = found
        return found

    def _search(self, name: str) -> str:
        refused = False
        for folder in self._path.split(os.pathsep):
            path = os.path.join(self._home, folder, name)
            if os.path.isfile(path):
                if os.access(path, os.X_OK):
                    return path
                refused = True
        if refused:
            raise PermissionError(errno.EACCES, "no permission", name)
        raise FileNotFoundError(errno.ENOENT, "not found", name)

    def _param_file(self, slot: int, data: bytes) -> str:
        os.makedirs(self._scratch, mode=0o700, exist_ok=True)
        path = os.path.join(self._scratch, f"{slot}.json")
        with open(path, "wb") as file:
            file.write(data)
        return path

    def close(self) -> None:
        """Remove the files with large params."""
        with contextlib.suppress(OSError):
            for name in os.listdir(self._scratch):
                os.unlink(os.path.join(self._scratch, name))
            os.rmdir(self._scratch)
        os.close(self._home_fd)


def _encoded(env: Mapping[str, str]) -> dict[bytes, bytes]:
    return {os.fsencode(name): os.fsencode(value) for name, value in env.items()}


def _unfit(error: ValueError) -> NotStarted:
    if isinstance(error, UnicodeError):
        what = "a lone surrogate (half of a character)"
    else:
        what = "a NUL character"
    return NotStarted(
        Verdict.REJECTED,
        "no argument can hold it",
        f"the param holds {what}, which no argument of a program can: "
        "let the program read MINION_PARAM, or use --stdin",
    )


def _not_started(error: OSError, name: str) -> NotStarted:
    if error.errno == errno.E2BIG:
        return NotStarted(
            Verdict.REJECTED,
            "too long for an argument",
            "the system takes no such long arguments (Linux: 128 KiB each): "
            "let the program read MINION_PARAM_FILE, or use --stdin",
        )
    what = os.strerror(error.errno or 0)
    if error.errno in (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE):
        return NotStarted(Verdict.ABORTED, f"no process can be started: {what}")
    where = error.filename if isinstance(error.filename, str) and error.filename else name
    return NotStarted(Verdict.FAILED, f"cannot start {where}: {what}")


def by_callback(error: Exception) -> NotStarted:
    """A failed attempt: `to_cmd` or a hook raised."""
    import traceback

    if isinstance(error, LacksName):
        return NotStarted(Verdict.FAILED, str(error))
    detail = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return NotStarted(Verdict.FAILED, type(error).__name__, detail[-4096:])


def spool_folder(env: Mapping[str, str]) -> str:
    """Where files without a name can be made."""
    for folder in (env.get("TMPDIR", ""), "/tmp", "/var/tmp", "."):
        if folder and os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK):
            return os.path.abspath(folder)
    return "."

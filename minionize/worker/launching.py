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
from minionize.settings.machine import run_in_job
from minionize.values import RUN_VARIABLES, Lease
from minionize.worker.blame import Blame, blame
from minionize.worker.limits import limits

PARAM_FILE_BYTES = 100 * 1024
"""From here on a param goes into a file: Linux refuses a single string of 128 KiB."""
_ONE_BYTES = 128 * 1024
"""Of one argument, or one variable, at most."""
VERDICTS = {
    Blame.COMMAND: Verdict.FAILED,
    Blame.CROWDED: Verdict.CROWDED,
    Blame.MACHINE: Verdict.UNABLE,
}
"""What becomes of a run that could not begin."""
_RESTORED = [
    signal.SIGPIPE,
    signal.SIGXFSZ,
    signal.SIGXCPU,
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
        ours = {"MINION_ID": minion_id, **run_in_job(env)}
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
        self._worked: set[str] = set()
        """Programs that were started here: what is wrong with one later is no param's fault."""
        self._home_fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._home = ""
        with contextlib.suppress(OSError):
            self._home = os.getcwd()
        # Under nohup HUP stays ignored, as it does for anything else that nohup starts.
        hup = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]
        self._exec = limits.as_given(
            partial(os.posix_spawn, setpgroup=0, setsigmask=(), setsigdef=_RESTORED + hup)
        )

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
                pid = self._start(self._program(argv[0]), argv, env, actions)
            else:
                pid = self._start_elsewhere(invocation.chdir, argv, env, actions)
            self._worked.add(argv[0])
            return pid
        except ValueError as error:
            # UnicodeEncodeError is one (but U+DC80 to U+DCFF are bytes that are no UTF-8); the
            # other is "embedded null byte".
            raise _unfit(error, invocation.env) from error
        except OSError as error:
            worked = argv[0] in self._worked
            raise _not_started(error, argv, env, worked) from error

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
                VERDICTS[blame(error)],
                f"cannot enter its folder: {why}",
                f"{folder}: {why}: see --chdir",
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
        path = os.path.join(self._scratch, f"{slot}.json")
        try:
            os.makedirs(self._scratch, mode=0o700, exist_ok=True)
            with open(path, "wb") as file:
                file.write(data)
        except OSError as error:
            raise no_room("param", path, error) from error
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


def _unfit(error: ValueError, env: Mapping[str, str] | None = None) -> NotStarted:
    for name in env or {}:
        if not name or "=" in name or "\0" in name + (env or {})[name]:
            return NotStarted(
                Verdict.FAILED,
                "its environment can't be set",
                f"the variable {name!r} of its environment, or its value, can't be one: mend `env`",
            )
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


def no_room(what: str, path: str, error: OSError) -> NotStarted:
    """The minion itself could not write `what` of a run to `path` in TMPDIR."""
    why = os.strerror(error.errno or 0)
    return NotStarted(
        VERDICTS[blame(error, ours=True)],
        f"no room for its {what} in TMPDIR: {why}",
        f"{path}: {why}: set TMPDIR to another folder",
    )


def _not_started(
    error: OSError, argv: list[str], env: Mapping[bytes, bytes], worked: bool
) -> NotStarted:
    if error.errno == errno.E2BIG:
        return _too_big(argv, env)
    what = os.strerror(error.errno or 0)
    whose = blame(error, worked=worked)
    if whose is Blame.CROWDED:
        return NotStarted(Verdict.CROWDED, f"no process can be started: {what}")
    where = error.filename if isinstance(error.filename, str) and error.filename else argv[0]
    detail = f"{where} was started here before: what became of it?" if worked else ""
    return NotStarted(VERDICTS[whose], f"cannot start {where}: {what}", detail)


def _too_big(argv: list[str], env: Mapping[bytes, bytes]) -> NotStarted:
    """Arguments and environment share one room (a quarter of `ulimit -s`, at most 6 MiB): it is
    the param's fault if its arguments are most of what is in it."""
    words = [len(os.fsencode(word)) + 1 for word in argv]
    others = [
        len(name) + len(value) + 2
        for name, value in env.items()
        if name not in (b"MINION_PARAM", b"MINION_PARAM_FILE")
    ]
    if max(words) < _ONE_BYTES and (sum(words) < sum(others) or max(others) >= _ONE_BYTES):
        return NotStarted(
            Verdict.UNABLE,
            "the environment is too large",
            f"it has {sum(others) >> 10:,} KiB, and leaves no room for arguments: unset what is "
            "large in it, or raise ulimit -s",
        )
    return NotStarted(
        Verdict.REJECTED,
        "too long for an argument",
        "the system takes no such long arguments (Linux: 128 KiB each): "
        "let the program read MINION_PARAM_FILE, or use --stdin",
    )


def by_callback(error: Exception) -> NotStarted:
    """A failed attempt: `to_cmd` or a hook raised."""
    import traceback

    if isinstance(error, LacksName):
        return NotStarted(Verdict.FAILED, str(error))
    detail = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return NotStarted(Verdict.FAILED, type(error).__name__, detail[-4096:])

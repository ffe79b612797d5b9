"""A scheduler's commands: run, waited for, and what they say against it put into one line."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import termios
from collections.abc import Callable, Mapping, Sequence

from minionize.errors import LaunchRefused, UsageError
from minionize.launch.environment import asking

PATIENCE_S = 120.0
"""A busy scheduler's commands hang; this long is too long."""
SILENT_S = 5.0
"""A person who has waited for so long is told for what."""
_ENDING_S = 5.0
_LONGEST = 500


def _silent(_line: str) -> None:
    """For commands that tell nothing."""


tell: Callable[[str], None] = _silent
"""Told, in a line, which command is long in answering, and which variables are not heeded. For a
caller that has a person to tell it to."""


class Unanswered(LaunchRefused):
    """A command did not answer in time: whether it did what it was to do is not known."""


class Refused(LaunchRefused):
    """A command ended with an error status; `said` is what it wrote to stderr."""

    def __init__(self, message: str, said: str) -> None:
        super().__init__(message)
        self.said = said


def run(
    argv: Sequence[str],
    scheduler: str,
    remedies: Sequence[tuple[str, str]] = (),
    env: Mapping[str, str] | None = None,
) -> str:
    """The output of one of the commands of `scheduler` (its name for people), which gets the
    environment `env`, or that for commands that ask.

    UsageError if there is no such command here, Refused with its own words if it fails: those of
    all its lines, or, where one has the first text of one of the `remedies`, those of this line
    and the remedy. Unanswered if it does not answer within PATIENCE_S.
    """
    program = argv[0]
    try:
        status, out, err = _outcome(argv, scheduler, asking(os.environ) if env is None else env)
    except FileNotFoundError:
        raise UsageError(
            f"{program} is not found: launch where the commands of {scheduler} are (its front end "
            "or login node); --dry-run prints the script without them"
        ) from None
    except subprocess.TimeoutExpired:
        raise Unanswered(
            f"{program} did not answer within {PATIENCE_S:.0f} s: see whether {scheduler} is up, "
            "then try again"
        ) from None
    except OSError as error:
        raise LaunchRefused(f"{program} can't be run: {error.strerror}; mend it") from error
    if status:
        said = err if err.strip() else out
        raise Refused(_message(program, said, status, remedies), said)
    return out


def _outcome(argv: Sequence[str], scheduler: str, env: Mapping[str, str]) -> tuple[int, str, str]:
    """Status, output and errors. TimeoutExpired, OSError; it does not run on after either."""
    with _Terminal() as terminal:
        process = subprocess.Popen(
            argv,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
            preexec_fn=terminal.take,  # noqa: PLW1509 - it asks the kernel alone
        )
        try:
            try:
                out, err = process.communicate(timeout=SILENT_S)
            except subprocess.TimeoutExpired:
                tell(
                    f"waiting for {scheduler}: {argv[0]} has not answered for {SILENT_S:.0f} s; it "
                    f"is given {PATIENCE_S:.0f} s"
                )
                out, err = process.communicate(timeout=PATIENCE_S - SILENT_S)
        except BaseException:  # Ctrl-C as well
            try:
                process.kill()
            except PermissionError:
                terminal.quit()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_ENDING_S)
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
            raise
    return process.returncode, out, err


class _Terminal:
    """A terminal for one command, by which it can be ended as any user.

    OAR's commands become another user, whom ours may not send a signal: but the kernel may, for
    the key that quits. Else one that is not waited for would try on for hours, and submit.
    """

    def __enter__(self) -> _Terminal:
        try:
            self._ours, self._its = os.openpty()
        except OSError:  # none here: then it is as without
            self._ours = self._its = -1
        return self

    def __exit__(self, *_: object) -> None:
        for fd in (self._ours, self._its):
            if fd >= 0:
                os.close(fd)

    def take(self) -> None:
        """What the child calls to make it its own, and to heed it: a job in the background of a
        script ignores the key."""
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)
        if self._its >= 0:
            with contextlib.suppress(OSError):
                fcntl.ioctl(self._its, termios.TIOCSCTTY, 0)

    def quit(self) -> None:
        """Press the key."""
        if self._ours >= 0:
            os.write(self._ours, termios.tcgetattr(self._its)[6][termios.VQUIT])


def _message(program: str, said: str, status: int, remedies: Sequence[tuple[str, str]]) -> str:
    beginnings = tuple(f"{program}: {word}: " for word in ("error", "fatal"))
    lines = []
    for line in filter(None, map(str.strip, said.splitlines())):
        for beginning in beginnings:
            line = line.removeprefix(beginning)
        lines.append(line)
    for text, remedy in remedies:
        for line in lines:
            if text in line:
                return f"{program}: {line:.{_LONGEST}}: {remedy}"
    line = "; ".join(lines) or f"exit {status}"
    return f"{program}: {line if len(line) <= _LONGEST else line[:_LONGEST] + '…'}"

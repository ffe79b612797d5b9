"""The script that a scheduler starts once for each minion: what OAR's and Slurm's share.

The scheduler's directives stand at its top, then what prepares the minion, and the last line is
`exec minionize`, so that the scheduler's signals reach it and not a shell.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Sequence

from minionize.errors import UsageError
from minionize.launch.contract import Key
from minionize.launch.values import Launch

SETUP = Key("A line of bash before minionize: module load python", many=True)

_LONGEST_NAME = 100
"""Of a file at most 255 bytes; a digest, a mark and a job's id come behind it."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def script(launch: Launch, directives: Sequence[str], first: Sequence[str] = ()) -> str:
    """The text of the script; `first`: lines of bash before all others. UsageError for what
    can't stand in it."""
    lines = ["#!/usr/bin/env bash", *directives, "", *first]
    if launch.workdir is not None:
        lines.append(f"cd -- {quoted(launch.workdir)} || exit 2")
    lines += launch.options.get("setup", ())
    for name, value in launch.env.items():
        lines.append(f"export {_variable(name)}={quoted(value)}")
    for name, path in launch.secret_env.items():
        # The script names the file alone: those who read the script, or the scheduler's records
        # of it, don't see what is in it.
        path = os.path.expanduser(path)
        if not os.path.isabs(path):
            path = os.path.join(launch.workdir or os.sep, path)
        lines.append(f"{_variable(name)}=$(cat -- {quoted(path)}) || exit 2; export {name}")
    words = " ".join(map(quoted, launch.minionize_argv))
    return "\n".join([*lines, f"exec {words}", ""])


def quoted(word: str) -> str:
    """`word` for bash, on one line: a line break in it could begin a directive."""
    if word.isprintable():
        return shlex.quote(word)
    pieces = []
    for char in word:
        if char in "\\'":
            pieces.append("\\" + char)
        elif char < " " or char == "\x7f":
            pieces.append(f"\\x{ord(char):02x}")
        else:
            pieces.append(char)
    # After \xHH another hex digit would belong to it in some shells, in bash it doesn't.
    return "$'" + "".join(pieces) + "'"


def on_one_line(what: str, text: str) -> str:
    """`text`, which can stand in a directive. UsageError where it can't."""
    try:
        return printable(text)
    except ValueError as error:
        raise UsageError(f"{what} {error}") from None


def printable(text: str) -> str:
    """`text`, which can stand in a directive. ValueError where it can't."""
    if not text.isprintable():
        raise ValueError(f"{text!r} can't stand in a script's directive: choose another")
    return text


def script_path(folder: str, name: str, text: str) -> str:
    """Where the script of a launch is kept: the same text in the same place."""
    digest = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:10]
    return os.path.join(folder, f"{file_name(name)}-{digest}.sh")


def file_name(name: str) -> str:
    """A launch's name as it can stand in names of files and patterns of schedulers."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip(".-")[:_LONGEST_NAME] or "minions"


def clock(seconds: float) -> str:
    """A wall time as H:MM:SS, rounded up."""
    whole = max(1, int(-(-seconds // 1)))
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def last(launch: Launch, key: str) -> str | None:
    """The value of `-O key=`, the last one if there are several."""
    values = launch.options.get(key)
    return values[-1] if values else None


def yes(launch: Launch, key: str, *, default: bool) -> bool:
    """What `-O key=yes|no` says."""
    word = last(launch, key)
    if word is None:
        return default
    if word.lower() in ("yes", "1", "true", "on"):
        return True
    if word.lower() in ("no", "0", "false", "off"):
        return False
    raise UsageError(f"-O {key}={word} is neither yes nor no: write one of them")


def whole(launch: Launch, key: str) -> int | None:
    """The number from 1 on that `-O key=` gives."""
    word = last(launch, key)
    if word is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", word) or int(word) < 1:
        raise UsageError(f"-O {key}={word} is not a whole number from 1 on: write one")
    return int(word)


def write_script(folder: str, name: str, text: str) -> str:
    """Write it where `script_path` says, for others to read and execute; returns the path."""
    path = script_path(folder, name, text)
    try:
        os.makedirs(os.path.join(folder, "logs"), exist_ok=True)
        draft = f"{path}.{os.getpid()}"
        with open(draft, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
        # Its owner at least may execute it: a scheduler would find out later.
        os.chmod(draft, (0o755 & ~_umask()) | 0o700)
        os.replace(draft, path)
    except OSError as error:
        raise UsageError(
            f"the script can't be written into {folder}: {error.strerror}; get the right to write "
            "there"
        ) from error
    return path


def _variable(name: str) -> str:
    if not _VARIABLE.fullmatch(name):
        raise UsageError(f"{name!r} is no name of a variable: letters, digits and _ make one")
    return name


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask

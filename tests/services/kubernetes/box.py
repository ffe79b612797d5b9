"""One container, as processes of this machine in namespaces of their own.

Its root is a private overlay of this machine's, so a container can write anywhere and changes
nothing; the Python environment of the tests is in it at the same place. It sees only its own
processes, and all of them die with the first. Not done: images, seccomp, network.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

QUEUE_HOST = "queue.minionize.test"
"""What pods call the machine that all of this runs on."""

_CLONE = Path(__file__).parents[3]


@dataclass(frozen=True)
class Mount:
    """A folder or file of this machine, as seen in the container."""

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True)
class Spec:
    """What runs in the box, and as whom."""

    argv: Sequence[str]
    env: Mapping[str, str]
    folder: str
    """An empty one of this machine, for the box itself."""
    hostname: str
    workdir: str = "/"
    mounts: Sequence[Mount] = ()
    entrance: str = ""
    """Of the cgroup that it joins."""
    user: int = 0
    group: int = 0
    groups: Sequence[int] = field(default=())
    read_only: bool = False
    no_new_privileges: bool = False
    no_capabilities: bool = False


class Box:
    """A started container. `output` is what it writes, both streams."""

    def __init__(self, spec: Spec) -> None:
        """Returns when the box is made and the program is about to start."""
        read_end, write_end = os.pipe()
        with os.fdopen(read_end) as told:
            self._unshare = subprocess.Popen(
                ["unshare", "--mount", "--propagation", "private", "--uts", "--pid", "--fork",
                 "--kill-child", "sh", "-c", script(spec)],
                stdin=write_end, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            os.close(write_end)
            said = told.readline().strip()
        self.pid = int(said or 0)
        """Of its first process, here; 0 if the box could not be made: `output` says why."""
        assert self._unshare.stdout is not None
        self.output: IO[bytes] = self._unshare.stdout

    def signal(self, number: int) -> None:
        """To its first process. KILL ends all of it."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
        elif number == signal.SIGKILL:
            self._unshare.kill()

    def wait(self) -> int:
        """Its exit status, 128 + the signal's number if it was killed."""
        status = self._unshare.wait()
        return status if status >= 0 else 128 - status


def script(spec: Spec) -> str:
    """What makes the box, as the first process in it, and becomes the program. It says its pid
    on its standard input, which is a pipe until then."""
    box = shlex.quote(spec.folder)
    lines = [
        "set -e",
        # Of this machine: /proc is not yet the box's own.
        "read -r pid _ </proc/self/stat",
        f"echo {shlex.quote(spec.hostname)} >/proc/sys/kernel/hostname",
        f"mount -t tmpfs -o mode=755 box {box}",
        f"mkdir {box}/upper {box}/work {box}/root",
        f"cd {box}",
        "mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay root",
        "cd root",
        "mount --rbind /dev dev",
        "mount --rbind /sys sys",
    ]
    # As a name of the cluster's DNS would: what listens on this machine, by another name.
    lines.append(f"echo '127.0.0.1 localhost {QUEUE_HOST}' >etc/hosts")
    for mount in spec.mounts:
        lines += _mount(mount)
    lines += [line for path in _python() for line in _visible(path)]
    if spec.read_only:
        lines.append("mount -o remount,bind,ro .")
    if spec.entrance:
        lines.append(f"echo 0 >{shlex.quote(spec.entrance)}")
    environment = [f"{name}={value}" for name, value in spec.env.items()]
    become = [
        "chroot", ".", *_user(spec),
        "env", "-i", f"--chdir={spec.workdir}", *environment, *spec.argv,
    ]  # fmt: skip
    lines += [
        "mount -t proc proc proc",
        "echo $pid >&0",
        f"exec {shlex.join(become)} </dev/null",
    ]
    return "\n".join(lines)


def _user(spec: Spec) -> list[str]:
    words = ["setpriv", f"--reuid={spec.user}", f"--regid={spec.group}"]
    groups = ",".join(str(group) for group in spec.groups)
    words.append(f"--groups={groups}" if groups else "--clear-groups")
    if spec.no_new_privileges:
        words.append("--no-new-privs")
    if spec.no_capabilities:
        words += ["--bounding-set=-all", "--inh-caps=-all"]
    return words


def _mount(mount: Mount) -> list[str]:
    # A link such as /var/run must be followed inside the box.
    lines = [f"t=.$(chroot . realpath -m {shlex.quote(mount.target)})"]
    if os.path.isdir(mount.source):
        lines.append('mkdir -p "$t"')
    else:
        lines.append('mkdir -p "${t%/*}"; touch "$t"')
    lines.append(f'mount --bind {shlex.quote(mount.source)} "$t"')
    if mount.read_only:
        lines.append('mount -o remount,bind,ro "$t"')
    return lines


def _python() -> list[str]:
    """Where Python, the packages and this clone are."""
    paths = {sys.prefix, sys.base_prefix, str(_CLONE)}
    paths |= {path for path in sys.path if path.startswith("/")}
    return sorted({os.path.realpath(path) for path in paths if os.path.isdir(path)})


def _visible(path: str) -> list[str]:
    """So that any user of the box can read it: a home may be closed, a clone a mount."""
    above = [str(folder) for folder in reversed(Path(path).parents)][1:]
    closed = [folder for folder in above if not os.stat(folder).st_mode & 0o001]
    lines = [f"[ ! -e .{one} ] || chmod a+x .{one}" for one in map(shlex.quote, closed)]
    # Not there where a volume (on /tmp, say) hides it, or where it is another file system.
    lines.append(f'if [ -z "$(ls -A .{shlex.quote(path)} 2>&-)" ]; then')
    lines += [*_mount(Mount(path, path, read_only=True)), "fi"]
    return lines

"""What there is on this host: the runtime, the image, and containers of minions that died."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from minionize.callbacks.container_runtime import KINDS, OWNER, Runtime, remove_words
from minionize.callbacks.quoting import pasteable
from minionize.errors import CommandNotFound, MinionizeError, UsageError

_ASK_S = 60.0
"""A runtime that says nothing for so long is out of order."""
_INITS = ("/usr/libexec/podman/catatonit", "/usr/lib/podman/catatonit", "/usr/bin/catatonit")


def find_runtime(name: str | None, path: str) -> Runtime:
    """The runtime of that name or path, or else the first that is on `path`. UsageError if
    there is none."""
    if name is not None and os.path.basename(name) not in KINDS:
        raise UsageError(f"--runtime {pasteable(name)} is none of podman, docker, apptainer")
    for word in KINDS if name is None else (name,):
        found = shutil.which(word, path=path)
        if found is not None:
            return _runtime(os.path.basename(word), os.path.abspath(found))
    if name is None:
        raise UsageError(
            "an image needs podman, docker or apptainer, and none of them is on PATH: install one"
        )
    where = "is not there" if "/" in name else "is not on PATH"
    raise UsageError(f"--runtime {pasteable(name)} {where}: install it, or name another one")


def _runtime(kind: str, path: str) -> Runtime:
    if kind == "docker" and "podman" in ask([path, "--version"]).out:
        kind = "podman"  # of the package podman-docker
    if kind == "docker":
        return Runtime(kind, path, init=True, as_root=_docker_is_rootless(path))
    if kind == "podman":
        init = any(map(os.path.exists, _INITS)) or shutil.which("catatonit") is not None
        return Runtime(kind, path, init=init, keep_id=os.geteuid() != 0)
    return Runtime("apptainer", path)


def _docker_is_rootless(path: str) -> bool:
    if os.geteuid() == 0:
        return False
    said = ask([path, "info", "--format", "{{json .SecurityOptions}}"])
    return "name=rootless" in said.out


class Said(NamedTuple):
    """What a command printed."""

    status: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """Its last line on stderr."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        last = lines[-1].strip() if lines else f"exit {self.status}"
        return last.removeprefix("Error: ")


def ask(argv: Sequence[str], timeout_s: float | None = _ASK_S) -> Said:
    """Run a command of the runtime to its end, apart from our terminal's signals. Its status is
    -1 if it could not be started, or took longer."""
    try:
        ran = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Said(-1, "", f"it did not answer within {timeout_s:.0f} s")
    except OSError as error:
        return Said(-1, "", os.strerror(error.errno or 0))
    return Said(ran.returncode, ran.stdout, ran.stderr)


def need_image(runtime: Runtime, image: str, say: Callable[[str], None]) -> None:
    """Make sure that the image is here, so that no run has to fetch it. CommandNotFound if it
    can't be had; UsageError if nothing can be called so; MinionizeError if the runtime doesn't
    work."""
    if not runtime.apart:
        # A file, or a folder; what has a scheme is fetched by the first run, and kept.
        if "://" not in image and not os.path.exists(image):
            raise CommandNotFound(
                f"image {pasteable(image)} is not there: build it, or mend --image"
            )
        return
    here = ask([runtime.path, "image", "inspect", "--format", "{{.Id}}", image])
    if here.status == 0:
        return
    _need_name(image, here)
    missing = here.err.lower()
    if "no such image" not in missing and "not known" not in missing:
        raise MinionizeError(
            f"{runtime.kind} does not work here ({here.last}): mend or start it, or name another "
            "one with --runtime"
        )
    say(f"image {image} is not here yet: {runtime.kind} pulls it")
    pulled = ask([runtime.path, "pull", "--quiet", image], timeout_s=None)
    if pulled.status:
        _need_name(image, pulled)
        raise CommandNotFound(
            f"image {pasteable(image)} is not here, and {runtime.kind} can't pull it "
            f"({pulled.last}): build or load it, or mend --image"
        )


def _need_name(image: str, said: Said) -> None:
    """UsageError if the runtime says that no image is called so."""
    for words in ("invalid reference format", "repository name must"):
        if words in said.err:
            raise UsageError(f"--image {pasteable(image)}: {said.last}: name an image")


def never_ran(runtime: Runtime, name: str, conmon: str) -> bool:
    """Whether a container whose command ended with 0 never started: podman says 0 also when it
    gets TERM before that (for the sake of systemd). `conmon`: the file with the pid of the
    process that watches the container, from before its start to its end."""
    if runtime.kind != "podman":
        return False
    pid = _first_line(conmon)
    if not pid:
        return True
    stat = _first_line(f"/proc/{pid}/stat")
    if " (conmon) " not in stat or stat.rpartition(") ")[2][:1] in ("Z", "X"):
        return False
    # It still watches, or is about to leave: to ask takes a tenth of a run.
    return ask([runtime.path, "container", "exists", name]).status == 0


class OomKills:
    """The kernel's count of processes that it killed for lack of memory on this machine: a
    container's own count is gone with it."""

    def __init__(self, vmstat: str = "/proc/vmstat") -> None:
        self._vmstat = vmstat
        self._seen = self._count()
        self._grew_at = float("-inf")

    def one_more(self) -> bool:
        """Whether a run that was just killed may be of those; asked about each that was."""
        count = self._count()
        if count is None:
            return True  # an old kernel
        if count != self._seen:
            self._seen, self._grew_at = count, time.monotonic()
        # Several may have been killed before the first of them was seen to end.
        return time.monotonic() - self._grew_at < 1.0

    def _count(self) -> int | None:
        with contextlib.suppress(OSError), open(self._vmstat) as file:
            for line in file:
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
        return None


def owner() -> str:
    """This process, as no other is called: user, host, boot, space of pids, pid, its start."""
    return f"{os.geteuid()}:{os.uname().nodename}:{_boot()}:{_pid_space()}:" + _process(os.getpid())


def is_left(label: str, here: str) -> bool:
    """Whether the minion that a container's label names is surely dead. `here`: our own label."""
    theirs, ours = label.split(":"), here.split(":")
    if len(theirs) != len(ours) or theirs[:2] != ours[:2]:
        return False
    if theirs[2] != ours[2]:
        return True  # before this host was last booted
    if theirs[3] != ours[3] or not theirs[4].isdigit():
        return False
    return _process(int(theirs[4])) != f"{theirs[4]}:{theirs[5]}"


def left_overs(runtime: Runtime, here: str) -> list[str]:
    """Ids of containers of this user's dead minions of this host."""
    if not runtime.apart:
        return []
    label = f'index .Labels "{OWNER}"' if runtime.kind == "podman" else f'.Label "{OWNER}"'
    form = "{{.ID}} {{" + label + "}}"
    # What is left by a dead minion is no reason for a live one to fail.
    said = ask(
        [runtime.path, "ps", "--all", "--no-trunc", f"--filter=label={OWNER}", "--format", form]
    )
    pairs = [line.partition(" ")[::2] for line in said.out.splitlines()]
    return [id_ for id_, label in pairs if is_left(label.strip(), here)]


def remove_left_overs(runtime: Runtime, here: str, say: Callable[[str], None]) -> None:
    """End and remove what dead minions left on this host (and their guards, which is rarer)."""
    ids = left_overs(runtime, here)
    if ids and ask(remove_words(runtime, ids)).status == 0:
        what = "a container" if len(ids) == 1 else f"{len(ids)} containers"
        say(f"removed {what} that a killed minion had left on this host")


def _boot() -> str:
    return _first_line("/proc/sys/kernel/random/boot_id")


def _pid_space() -> str:
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return ""


def _process(pid: int) -> str:
    """Pid and start of a process; the pid alone if there is none of that number."""
    line = _first_line(f"/proc/{pid}/stat")
    fields = line.rpartition(")")[2].split()
    return f"{pid}:{fields[19]}" if len(fields) > 19 else f"{pid}"


def _first_line(path: str) -> str:
    try:
        with open(path) as file:
            return file.readline().strip()
    except OSError:
        return ""

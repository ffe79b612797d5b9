"""Container runtimes as values: how each is told to run a program, and what its exit means.

Nothing here starts anything.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from minionize.callbacks.quoting import pasteable
from minionize.contracts.callback import Invocation
from minionize.errors import UsageError
from minionize.values import RUN_VARIABLES

KINDS = ("podman", "docker", "apptainer", "singularity")
"""In the order in which they are looked for."""
MINION = "minionize.minion"
OWNER = "minionize.owner"
PARAM = "minionize.param"
"""Labels of a container: id of the minion, its process (see container_host.py), id of the param."""
_OURS = frozenset(
    {"attach", "cidfile", "d", "detach", "i", "interactive", "name", "restart", "rm", "t", "tty"}
)
"""Options of `run` that a minion decides itself."""


class Runtime(NamedTuple):
    """What runs containers here."""

    kind: str
    """podman, docker, or apptainer (which includes singularity)."""
    path: str
    init: bool = False
    """It can put a small init before the program, which then gets TERM as anywhere."""
    as_root: bool = False
    """Root in the container is the caller outside: docker without root."""
    keep_id: bool = False
    """Ids in the container are others unless it is told to keep them: podman without root."""

    @property
    def apart(self) -> bool:
        """Whether containers are no children of the process that was asked for them."""
        return self.kind != "apptainer"


class Place(NamedTuple):
    """Where and for whom a minion's containers run; the same for all of them."""

    folder: str
    """The working folder, mounted at its own path."""
    mounts: tuple[str, ...] = ()
    """Other folders, mounted at their own paths."""
    uid: int = 0
    gid: int = 0
    labels: Mapping[str, str] = {}  # a NamedTuple's default, never changed


def fixed_words(
    runtime: Runtime, place: Place, options: Sequence[str] = (), names: Sequence[str] = ()
) -> list[str]:
    """The beginning of every run's command. `options`: of the person, so they come last and
    win; `names`: of variables that are passed on, beside those of a run."""
    if not runtime.apart:
        # What is in its environment is passed on by itself, and its user is the caller.
        words = [runtime.path, "exec", *mounted(runtime, (place.folder, *place.mounts))]
        return [*words, *option_words(options)]
    words = [runtime.path, "run", "--pull=never", "--log-driver=none"]
    if runtime.init:
        words.append("--init")
    if runtime.keep_id:
        words.append("--userns=keep-id")
    user = "0:0" if runtime.as_root else f"{place.uid}:{place.gid}"
    words.append(f"--user={user}")
    words += mounted(runtime, (place.folder, *place.mounts))
    for label, value in place.labels.items():
        words.append(f"--label={label}={value}")
    # Without a value it is taken from the environment of the command, whatever is in it.
    words += [f"--env={name}" for name in (*RUN_VARIABLES, *names)]
    return [*words, *option_words(options)]


def run_words(
    runtime: Runtime,
    fixed: Sequence[str],
    image: str,
    run: Invocation,
    *,
    folder: str,
    mounts: Sequence[str] = (),
    name: str = "",
    param_id: str = "",
    conmon: str = "",
) -> list[str]:
    """The command that does `run` in a container. `folder`: the working folder; `mounts`: what
    only this run needs; `conmon`: where podman shall write the pid of what watches it."""
    words = [*fixed, *mounted(runtime, mounts)]
    words += ["--pwd" if not runtime.apart else "--workdir", folder]
    stays = runtime.keep_id and conmon != ""
    if runtime.apart:
        if name and not stays:
            words.append(f"--name={name}")
        if param_id:
            words.append(f"--label={PARAM}={param_id}")
        if conmon and runtime.kind == "podman":
            words.append(f"--conmon-pidfile={conmon}")
        if run.stdin is not None:
            words.append("--interactive")
        words += [f"--env={variable}" for variable in run.env]
        if stays:
            return ["/bin/sh", "-c", _STAY, "stay", name, conmon, *words, image, *run.argv]
        words.append("--rm")
    return [*words, image, *run.argv]


_STAY = """\
trap : HUP INT QUIT USR1 USR2 TERM
name=$1 conmon=$2 podman=$3 said= tries=0
shift 4
"$podman" run --name="$name" "$@"
status=$?
if test $status = 0; then
    while :; do
        grep -qs -e "[-]-name=$name" /proc/[0-9]*/cmdline
        case $? in [12] | 12?) break ;; esac
        sleep 0.1
    done
    while test -z "$said" && test $tries -lt 5; do
        tries=$((tries + 1))
        said=$("$podman" container inspect --format \\
            '{{.State.Status}} {{.State.ExitCode}} {{.State.StartedAt}}' "$name" 2>/dev/null)
    done
    case $said in
    *" 0001-"*) rm -f "$conmon" ;;
    "exited "[0-9]* | "stopped "[0-9]*) status=${said#* } status=${status%% *} ;;
    *) rm -f "$conmon" ;;
    esac
fi
tries=0
until test $tries = 5 || test -n "$("$podman" rm --force --time=0 "$name" 2>/dev/null)"; do
    tries=$((tries + 1))
done
exit "$status"
"""
"""Podman without root has two processes, and the first ends with 0 when it gets TERM or INT,
whatever becomes of the container. So a shell stays with them: where the first says 0 it waits for
the second (the name is in its command, and in nobody else's), then asks how the container ended,
which is not removed before. Whatever it starts may get TERM as well, and then says nothing.
A container that still runs has lost who reads its output, and so has one whose start was not
written down (it is in the year 1 then). This is as bad as if it was never started, or nobody
knows: the file of conmon is removed, see `never_ran`."""


def mounted(runtime: Runtime, folders: Sequence[str]) -> list[str]:
    """Options that mount folders at their own paths. UsageError for one that can't be named."""
    option = "--volume" if runtime.apart else "--bind"
    for folder in folders:
        if ":" in folder or (not runtime.apart and "," in folder):
            raise UsageError(
                f"{folder}: {runtime.kind} can't mount a folder with : or , in its name: "
                "work in another one"
            )
        if folder == "/":
            raise UsageError(
                "the working folder is /, which would take the place of the image: "
                "start in another one"
            )
    return [f"{option}={folder}:{folder}" for folder in folders]


def option_words(options: Sequence[str]) -> list[str]:
    """`memory=2g` as `--memory=2g`, `privileged` as `--privileged`, `v=/a:/b` as `-v /a:/b`."""
    words: list[str] = []
    for option in options:
        name, equals, value = option.partition("=")
        if len(name) > 1:
            words.append("--" + option)
        else:
            words += ["-" + name, *([value] if equals else [])]
    return words


def check_options(options: Sequence[str]) -> None:
    """UsageError for an option that is the minion's own."""
    for option in options:
        name = option.partition("=")[0]
        if name in _OURS:
            raise UsageError(
                f"--container-option {option}: how a container is started and removed is the "
                "minion's own: leave it out"
            )


def check_image(runtime: Runtime, image: str) -> None:
    """UsageError for what no image is called, as far as that can be told without asking."""
    why = ""
    if not image:
        why = "no image has an empty name"
    elif image.startswith("-"):
        why = "it would be an option"
    elif any(not letter.isprintable() for letter in image):
        why = "no image has such letters in its name"
    elif runtime.apart and " " in image:
        why = "no image has blanks in its name"
    if why:
        raise UsageError(f"--image {pasteable(image)}: {why}: name an image")


def below(folder: str, parents: Sequence[str]) -> bool:
    """Whether `folder` is in one of these."""
    return any(folder == parent or folder.startswith(parent + os.sep) for parent in parents)


def remove_words(runtime: Runtime, names: Sequence[str]) -> list[str]:
    """Kill and remove these containers. One that is gone already is passed over."""
    if not runtime.apart or not names:
        return []
    # Podman would send TERM first and wait for 10 s.
    at_once = ["--time=0"] if runtime.kind == "podman" else []
    return [runtime.path, "rm", "--force", *at_once, *names]


_SWEEP = """\
filter="label=$2" program=$1
shift 2
for pause in 0.3 0; do
    ids=$("$program" ps --all --quiet --no-trunc --filter "$filter") || exit
    test -z "$ids" || "$program" rm --force "$@" $ids >/dev/null
    sleep $pause
done
"""
"""Twice: what a killed client had asked docker for may be made a little later."""


def sweep_words(runtime: Runtime, minion_id: str) -> list[str]:
    """Kill and remove every container of this minion."""
    if not runtime.apart:
        return []
    at_once = remove_words(runtime, ["x"])[3:-1]
    label = f"{MINION}={minion_id}"
    return ["/bin/sh", "-c", _SWEEP, "sweep", runtime.path, label, *at_once]


class Ailment(NamedTuple):
    """What a runtime says of a run that never was."""

    kind: str
    """`runtime` (it can't run containers so), `missing` or `refused` (the program)."""
    words: str


def ailment(runtime: Runtime, exit_status: int, stderr: str) -> Ailment | None:
    """Why the program was never started, if that is what this exit means; else None, as for a
    program that ends with 125, 126 or 127 itself."""
    if exit_status not in (1, 125, 126, 127, 255):
        return None
    for line in stderr.splitlines()[-6:]:
        for start in _STARTS[runtime.kind]:
            if not line.startswith(start):
                continue
            words = line.removeprefix("docker: ").removeprefix("Error: ").strip()
            by_init = start not in _SPEAKS
            if by_init or (exit_status != 125 and "exec" in words):
                refused = "ermission denied" in words or "s a directory" in words
                return Ailment("refused" if refused else "missing", words)
            if exit_status in (125, 126, 127, 255):
                return Ailment("runtime", words)
    return None


_INITS = ("ERROR (catatonit:", "[FATAL tini (")
_SPEAKS = ("Error: ", "docker: ", "FATAL:")
_STARTS = {
    "podman": ("Error: ", *_INITS),
    "docker": ("docker: ", *_INITS),
    "apptainer": ("FATAL:",),
}

"""This machine as a scheduler: minions are its processes."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence

from minionize.errors import LaunchRefused, UsageError
from minionize.launch import files
from minionize.launch.contract import Key
from minionize.launch.script import SETUP, file_name, script, write_script
from minionize.launch.values import Job, JobState, Launch, LogLine, Submitted
from minionize.settings import environment, parsing

SHARES_FILES = True

MOST = 1000
"""Minions at a time: far more than any machine has CPUs, and some GB of memory."""

_BOOT = "boot"
"""In `details`, beside the process ids: process ids and their times begin anew at each boot."""
OUTPUTS = ("prefix", "plain", "files")

KEYS = {
    "output": Key(
        "prefix: each line behind its minion's number; plain: lines alone; files: as minion logs "
        "shows them (prefix)",
        parse=parsing.one_of(*OUTPUTS),
    ),
    "setup": SETUP,
}


def render(launch: Launch) -> str:
    """The script that each minion would be; it is started so many times."""
    check(launch)
    each = [f"# {launch.minions} times on this machine"]
    return script(launch, each)


def check(launch: Launch) -> None:
    """UsageError for what this machine can't promise."""
    if launch.minions > MOST:
        raise UsageError(
            f"-n {launch.minions}: at most {MOST:,} minions are launched on one machine: launch "
            "fewer, each with more params at once (-j)"
        )
    if launch.memory_mib is not None:
        raise UsageError("--memory: nothing here would hold minions to it: leave it out")


def submit(launch: Launch) -> Submitted:
    """Start them in the background, each in a session of its own, output in files."""
    assert launch.folder is not None
    path = write_script(launch.folder, launch.name, render(launch))
    started: dict[str, str] = {}
    for index in range(launch.minions):
        draft = os.path.join(launch.folder, "logs", f".{os.getpid()}-{index}")
        env = {**environment(), **share_of(launch, index)}
        try:
            with open(draft, "wb") as out:
                process = subprocess.Popen(
                    [path], env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                    start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            for pid in started:
                os.kill(int(pid), signal.SIGTERM)
            raise LaunchRefused(f"{path}: {error.strerror}; mend it") from error
        os.rename(draft, _log(launch).replace("%jobid%", str(process.pid)))
        started[str(process.pid)] = began(process.pid)
    return remembered(launch, started)


def remembered(launch: Launch, started: Mapping[str, str]) -> Submitted:
    """What to put on record: `started` is process ids, and when each began."""
    submitted = files.submitted(launch, "local", list(started), _log(launch))
    logs = tuple(_log(launch).replace("%jobid%", pid) for pid in started)
    details = {**started, _BOOT: boot_id()}
    return Submitted(**{**vars(submitted), "logs": logs, "details": details})


def states(submitted: Sequence[Submitted]) -> Sequence[Job]:
    """Whether the processes live. How they ended only who started them knows."""
    found = []
    for each in submitted:
        here = _is_here(each)
        for pid in each.job_ids:
            alive = here and _began(pid) == each.details.get(pid, "?")
            state = JobState.RUNNING if alive else JobState.UNKNOWN
            detail = "" if alive else "ended" if here else ""
            found.append(Job(pid, state, each.host, detail, gone=here and not alive))
    return found


def states_of_each(submitted: Sequence[Submitted]) -> Sequence[Sequence[Job]]:
    """Each launch asked for by itself."""
    return [states([each]) for each in submitted]


def logs(submitted: Submitted, *, follow: bool) -> Iterator[LogLine]:
    """The lines of their files; none where they wrote to a terminal."""
    return files.lines(submitted, follow=follow, states=lambda: states([submitted]))


def cancel(submitted: Submitted) -> int:
    """TERM: they give back what they hold. Only processes that began when the record says so are
    told; what has their numbers since is another's."""
    if submitted.host != os.uname().nodename:
        raise UsageError(f"its minions are processes of {submitted.host}: cancel them there")
    return sum(_tell_to_end(pid, submitted) for pid in submitted.job_ids)


def _tell_to_end(pid: str, submitted: Submitted) -> bool:
    """Whether it was there to be told."""
    if not _is_here(submitted) or not pid.isdecimal():
        return False
    fd = _pidfd(int(pid))
    try:
        if _began(pid) != submitted.details.get(pid, "?"):
            return False
        if fd is None:
            os.kill(int(pid), signal.SIGTERM)
        else:
            signal.pidfd_send_signal(fd, signal.SIGTERM)
        return True
    except ProcessLookupError:
        return False
    except PermissionError:
        raise UsageError(f"its minions are {submitted.user}'s: ask them to") from None
    finally:
        if fd is not None:
            os.close(fd)


def _pidfd(pid: int) -> int | None:
    """A descriptor of the process: while it is held, a signal sent through it reaches no other
    process that got the number since. None where the kernel, or this Python, has none."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def _is_here(submitted: Submitted) -> bool:
    """Whether its processes were of this boot of this host."""
    boot = submitted.details.get(_BOOT)
    return submitted.host == os.uname().nodename and boot in (None, boot_id())


def _began(pid: str) -> str:
    return began(int(pid)) if pid.isdecimal() else ""


def boot_id() -> str:
    """Another one after each start of this machine; empty where it can't be told."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def share_of(launch: Launch, index: int) -> dict[str, str]:
    """Variables by which minion `index` (from 0) keeps to its share of the machine."""
    if launch.gpus is None:
        return {}
    first = index * launch.gpus
    return {"CUDA_VISIBLE_DEVICES": ",".join(map(str, range(first, first + launch.gpus)))}


def cpus_of(launch: Launch, index: int, all_cpus: Sequence[int]) -> Sequence[int] | None:
    """The CPUs that minion `index` (from 0) gets to itself, out of these; None: all of them,
    as when there aren't enough to share out."""
    if launch.cpus is None or launch.cpus * launch.minions > len(all_cpus):
        return None
    return all_cpus[index * launch.cpus : (index + 1) * launch.cpus]


def began(pid: int) -> str:
    """When the process began, in ticks since boot; empty if there is none. Ids come again."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            words = file.read().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if words[0] in "ZX" else words[19]


def die_with(parent: int) -> None:
    """Let TERM come when the parent dies, however that is; nothing else would stop us then."""
    import ctypes

    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def secret(path: str) -> str:
    """What the file holds, without the line break at its end."""
    try:
        with open(os.path.expanduser(path), encoding="utf-8") as file:
            return file.read().rstrip("\n")
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise UsageError(f"--secret-env: {path} can't be read: {why}; mend it") from error


def log_name(launch: Launch, job: int | str) -> str:
    """Of the file of one minion."""
    return f"{file_name(launch.name)}.{job}.out"


def _log(launch: Launch) -> str:
    folder = launch.folder or launch.workdir or "."
    return os.path.join(folder, "logs", log_name(launch, "%jobid%"))

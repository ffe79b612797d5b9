"""Processes that carry a minion's id in their environment, and that no process group leads to."""

from __future__ import annotations

import os
import signal

from minionize.worker.kin import Kin, holds

GUARD_NAME = "minion-guard"
"""What the kernel calls the process of a guard."""


def pidfd_of(pid: int) -> int | None:
    """A descriptor that becomes readable when `pid` ends; None where the kernel has none."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def kill_marked(marks: tuple[bytes, ...], kin: Kin) -> int:
    """KILL every process of `kin` whose environment holds all of `marks` (`NAME=value`, the
    minion's id first); how many. But no guard: that of a minion which one of ours had started ends
    by itself, and its programs first."""
    me = os.getpid()
    killed = 0
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == me:
            continue
        pidfd = pidfd_of(int(name))
        try:
            with open(f"/proc/{name}/environ", "rb", buffering=0) as environ:
                held = environ.read()
            if not all(holds(held, mark) for mark in marks) or _is_guard(name):
                continue
            if not kin.includes(int(name), held, marks[0]):
                continue
            if pidfd is None:
                os.kill(int(name), signal.SIGKILL)
            else:
                # Through the descriptor: the number may be another process' by now.
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            killed += 1
        except OSError:
            # Another user's, or gone meanwhile: neither is ours.
            continue
        finally:
            if pidfd is not None:
                os.close(pidfd)
    return killed


def _is_guard(pid: str) -> bool:
    with open(f"/proc/{pid}/comm") as comm:
        return comm.read() == f"{GUARD_NAME}\n"

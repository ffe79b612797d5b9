"""Minions of this machine are told to end, also where the kernel knows no pidfd."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from minionize.launch import local
from minionize.launch.values import Submitted


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen(["sleep", "60"])
    yield started
    started.kill()
    started.wait()


def _submitted(pid: int, began: str) -> Submitted:
    host = os.uname().nodename
    return Submitted("local", (str(pid),), "minions", "file:q", 1, host=host,
                     details={str(pid): began})  # fmt: skip


def _old_kernel(pid: int, flags: int = 0) -> int:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


@pytest.fixture(params=["pidfd", "old kernel", "old Python"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "old kernel":
        monkeypatch.setattr(os, "pidfd_open", _old_kernel)
    elif request.param == "old Python":  # built where the C library's headers lack it
        monkeypatch.delattr(os, "pidfd_open")


@pytest.mark.usefixtures("kernel")
def test_a_minion_is_told_once_and_is_gone_then(process: subprocess.Popen[bytes]) -> None:
    submitted = _submitted(process.pid, local.began(process.pid))
    assert local.cancel(submitted) == 1
    assert process.wait(10) == -signal.SIGTERM
    assert local.cancel(submitted) == 0


@pytest.mark.usefixtures("kernel")
def test_what_has_its_number_since_is_left_alone(process: subprocess.Popen[bytes]) -> None:
    assert local.cancel(_submitted(process.pid, "12345")) == 0
    assert process.poll() is None

"""What a minion waits by for signals."""

from __future__ import annotations

import fcntl
import os
import resource

import pytest

from minionize.worker.signals import Stopping, is_readable


@pytest.mark.parametrize("least", [3, 2000])
def test_a_descriptor_of_any_number_is_waited_for(least: int) -> None:
    """A Python process that has many files open may be a minion, too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft <= least:
        if hard <= least:
            pytest.skip("so many files can't be open here")
        resource.setrlimit(resource.RLIMIT_NOFILE, (least + 1, hard))
    read_end, write_end = os.pipe()
    fd = fcntl.fcntl(read_end, fcntl.F_DUPFD_CLOEXEC, least)
    try:
        assert not is_readable(fd, 0.01)
        os.write(write_end, b"!")
        assert is_readable(fd, 30.0)
    finally:
        for each in (read_end, write_end, fd):
            os.close(each)


def test_a_request_ends_the_pause() -> None:
    stopping = Stopping()
    try:
        stopping.request("told to")
        stopping.wait(600.0)
        assert is_readable(stopping.wake_fd, 0.0)
        stopping.drain()
        assert not is_readable(stopping.wake_fd, 0.0)
    finally:
        stopping.close()

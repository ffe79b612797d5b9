"""System calls that fail as they do on a machine that lacks something: the kernel itself answers.

A seccomp filter gives one errno to the calls that it names, in this process and in all that it
starts. No right is needed for it.
"""

from __future__ import annotations

import ctypes
import platform
import struct
from collections.abc import Callable
from typing import NamedTuple

_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2
_LOAD, _EQUAL, _MASKED, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBERS = {
    "x86_64": {"fcntl": 72, "flock": 73, "clone": 56, "fork": 57, "vfork": 58, "clone3": 435},
    "aarch64": {"fcntl": 25, "flock": 32, "clone": 220, "clone3": 435},
}
LOCKING = (5, 6, 7, 36, 37, 38)
"""The orders of fcntl that concern locks."""


class Call(NamedTuple):
    """A system call; with `orders`, only where its second argument is one of them."""

    name: str
    orders: tuple[int, ...] = ()


LOCKS = (Call("flock"), Call("fcntl", LOCKING))
"""Every way to lock a file."""


def lacking() -> str:
    """Why there is no such filter here; empty if there is."""
    if platform.machine() not in _NUMBERS:
        return f"no filter for system calls of {platform.machine()} is known here"
    return ""


def forbid(calls: tuple[Call, ...], errno: int) -> Callable[[], None]:
    """For `preexec_fn`: from then on these calls fail with `errno`."""
    program = _program(calls, errno)
    libc = ctypes.CDLL(None, use_errno=True)

    def apply() -> None:
        rules = ctypes.create_string_buffer(program, len(program))
        header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(rules))
        for given in ((_NO_NEW_PRIVILEGES, 1, 0), (_SET_SECCOMP, _FILTER, header)):
            if libc.prctl(*given, 0, 0):
                raise OSError(ctypes.get_errno(), "seccomp")

    return apply


def _program(calls: tuple[Call, ...], errno: int) -> bytes:
    """In the kernel's filter language: each rule skips what follows it until the next call."""
    numbers = _NUMBERS[platform.machine()]
    refuse = _rule(_RETURN, _ERRNO | errno)
    code = b""
    for call in calls:
        if call.name not in numbers:
            continue  # this kind of machine has none
        body = b""
        if call.orders:
            body += _rule(_LOAD, 24)  # the low half of the second argument
            for order in call.orders:
                body += _rule(_EQUAL, order, 0, 1) + refuse
            body += _rule(_RETURN, _ALLOW)
        else:
            body += refuse
        code += _rule(_LOAD, 0) + _rule(_EQUAL, numbers[call.name], 0, len(body) // 8) + body
    return code + _rule(_RETURN, _ALLOW)


def _rule(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("HBBI", code, then, otherwise, value)

"""What a function crew waits for: children, the zygote, and whatever wakes the minion."""

from __future__ import annotations

import contextlib
import os
import select
import socket
from typing import NamedTuple

from minionize.worker.functions.slot import Slot


class Heard(NamedTuple):
    """What a wait ended with."""

    woken: bool
    """A signal arrived."""
    nursery: bool
    """The zygote has something to tell, or is gone."""


class Links:
    """One poll over all of them."""

    def __init__(self, wake_fd: int) -> None:
        self._poll = select.poll()
        self._wake_fd = wake_fd
        self._poll.register(wake_fd, select.POLLIN)
        self._slots: dict[int, Slot] = {}

    def add_nursery(self, control: socket.socket) -> None:
        """Listen to this zygote from now on."""
        self._poll.register(control, select.POLLIN)

    def forget_nursery(self, control: socket.socket) -> None:
        """It is gone."""
        self._poll.unregister(control)

    def add(self, slot: Slot) -> None:
        """Listen to the new child of this slot."""
        assert slot.link is not None
        self._slots[slot.link.fileno()] = slot
        self._poll.register(slot.link, select.POLLIN)

    def send_on(self, slot: Slot) -> None:
        """Send what the child did not take at once, as soon as it does."""
        if slot.link is not None and slot.link.fileno() in self._slots:
            self._poll.modify(slot.link, select.POLLIN | select.POLLOUT)

    def forget(self, slot: Slot) -> None:
        """The child of this slot says nothing more."""
        if slot.link is not None and self._slots.pop(slot.link.fileno(), None) is not None:
            self._poll.unregister(slot.link)

    def hear(self, pause_s: float) -> Heard:
        """Wait, `pause_s` at most, and do what the children ask for."""
        woken = nursery = False
        for fd, happened in self._poll.poll(max(0.0, pause_s) * 1000):
            slot = self._slots.get(fd)
            if fd == self._wake_fd:
                woken = True
                with contextlib.suppress(BlockingIOError):
                    os.read(fd, 512)
            elif slot is None:
                nursery = True
            else:
                self._serve(fd, slot, happened)
        return Heard(woken, nursery)

    def _serve(self, fd: int, slot: Slot, happened: int) -> None:
        if happened & select.POLLOUT:
            slot.flush()
            if not slot.unsent:
                self._poll.modify(fd, select.POLLIN)
        if happened & (select.POLLHUP | select.POLLERR):
            self.forget(slot)  # or poll would tell it for ever; the zygote tells how it ended
        elif happened & select.POLLIN:
            slot.answered()

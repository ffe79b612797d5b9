"""What a minion holds, and what stands for each param in the broker meanwhile."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from typing import Any

from minionize.values import Lease


class Held:
    """A lease, and the message that stands for it."""

    __slots__ = ("consumer", "kind", "lease", "marked", "message_id", "replaced", "until_s")

    def __init__(self, lease: Lease, kind: str, consumer: Any, message_id: Any) -> None:
        self.lease = lease
        self.kind = kind
        """Which topic that message is in."""
        self.consumer = consumer
        self.message_id = message_id
        """Ack this one, with `consumer`."""
        self.until_s: float | None = None
        """When the lease ends, in monotonic seconds, if it is not extended. None: it is the
        message as it was received, and comes back when our connection ends."""
        self.marked = False
        """A crash is charged."""
        self.replaced = False
        """A new message is in its place already; what is left is to ack this one."""

    @property
    def claimed(self) -> bool:
        """A copy that comes back by itself stands for it."""
        return self.until_s is not None

    def lasts_until(self, then_s: float) -> bool:
        """Whether the lease goes on until then, in monotonic seconds, if it is not extended."""
        return self.until_s is not None and self.until_s > then_s


class Holding:
    """All leases of one minion, by token."""

    def __init__(self) -> None:
        self._held: dict[int, Held] = {}
        self._by_id: dict[str, Held] = {}
        self._serial = 0

    def __iter__(self) -> Iterator[Held]:
        return iter(list(self._held.values()))

    def __contains__(self, id_: object) -> bool:
        """Whether the param of this id is held."""
        return id_ in self._by_id

    def serial(self) -> int:
        """A new token."""
        self._serial += 1
        return self._serial

    def add(self, held: Held) -> None:
        self._held[held.lease.token] = held
        self._by_id[held.lease.id] = held

    def keeps(self, id_: str, kind: str, consumer: Any, message_id: Any) -> bool:
        """Whether a message that came is to be acked, since its param is held, and another message
        stands for it: an ack or a lease that was thought lost left two of them.

        If the very message came again after a break, what is held is held by that from now on.
        """
        held = self._by_id.get(id_)
        if held is None:
            return False
        if held.until_s is not None and time.monotonic() > held.until_s:
            self.drop(held)
            return False
        if held.kind == kind and str(held.message_id) == str(message_id):
            held.consumer = consumer
            return False
        return True

    def mine(self, leases: Collection[Lease]) -> list[Held]:
        """Those of `leases` that are held still, each once."""
        now = time.monotonic()
        found: dict[int, Held] = {}
        for lease in leases:
            held = self._held.get(lease.token)
            if held is not None:
                if held.until_s is not None and now > held.until_s:
                    self.drop(held)
                else:
                    found[lease.token] = held
        return list(found.values())

    def drop(self, held: Held) -> None:
        self._held.pop(held.lease.token, None)
        if self._by_id.get(held.lease.id) is held:
            del self._by_id[held.lease.id]


def by_kind(some: Collection[Held]) -> dict[str, list[Any]]:
    """The messages that stand for these, by the topic they are in."""
    found: dict[str, list[Any]] = {}
    for held in some:
        found.setdefault(held.kind, []).append(held.message_id)
    return found

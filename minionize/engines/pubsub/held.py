"""What a minion holds: messages whose lease it renews, until it settles or loses them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from operator import attrgetter

from minionize.engines.envelope import Envelope
from minionize.values import Lease


class Held:
    """One message that was leased; also the token of its Lease.

    Without exactly-once delivery the service does not say that a lease was lost, and takes an
    ack for it all the same. So it is known by our own clock, and nothing is said for a lease that
    is over: it would be said about the new holder's.
    """

    __slots__ = (
        "ack_id",
        "claim",
        "counted",
        "envelope",
        "expires_s",
        "marked",
        "message_id",
        "open",
        "replaced",
        "subscription",
    )

    def __init__(
        self,
        envelope: Envelope,
        subscription: str,
        message_id: str,
        ack_id: str,
        expires_s: float,
        counted: bool,
    ) -> None:
        self.envelope = envelope
        self.subscription = subscription
        self.message_id = message_id
        self.ack_id = ack_id
        self.expires_s = expires_s
        """When the lease is over, by the minion's monotonic clock."""
        self.counted = counted
        """The service counts how often it delivers this message: once more makes a suspect."""
        self.open = True
        """Neither settled nor lost."""
        self.marked = False
        """Its run is claimed: a crash is charged."""
        self.claim = ""
        """The claim that was published for it, and was not leased yet."""
        self.replaced = False
        """A new message is in its place already; what is left is to ack this one."""

    def lease(self) -> Lease:
        """It as the worker takes it."""
        envelope = self.envelope
        return Lease(
            envelope.id,
            envelope.text,
            envelope.attempt,
            envelope.crashes,
            envelope.laters,
            envelope.suspect,
            self,
        )


class Holdings:
    """All that one minion holds, by param."""

    def __init__(self) -> None:
        self._by_id: dict[str, Held] = {}

    def add(self, held: Held, now_s: float) -> Held | None:
        """`held` is leased from now on. Returns None for a second copy of a message that is held
        already: the service delivered it twice, and the newer ack id is the one to use."""
        there = self._by_id.get(held.envelope.id)
        if there is not None and there.open and there.expires_s > now_s:
            if there.message_id == held.message_id and there.subscription == held.subscription:
                there.ack_id, there.expires_s = held.ack_id, held.expires_s
                return None
        elif there is not None:
            there.open = False
        self._by_id[held.envelope.id] = held
        return held

    def twin(self, envelope: Envelope, message_id: str, now_s: float) -> bool:
        """Whether this param is held by another message: then the one at hand is a double, left
        by a minion that died between putting the new one and acking the old."""
        there = self._by_id.get(envelope.id)
        return (
            there is not None
            and there.open
            and there.expires_s > now_s
            and there.message_id != message_id
        )

    def mine(self, leases: Iterable[Lease], now_s: float) -> list[Held]:
        """What those leases still hold, each once; what ran out is lost from now on."""
        found: dict[int, Held] = {}
        for lease in leases:
            held = lease.token
            if isinstance(held, Held) and held.open:
                if held.expires_s <= now_s:
                    self.drop(held)
                else:
                    found[id(held)] = held
        return list(found.values())

    def drop(self, held: Held) -> None:
        """It is settled or lost."""
        held.open = False
        if self._by_id.get(held.envelope.id) is held:
            del self._by_id[held.envelope.id]

    def everything(self) -> list[Held]:
        """All that is held."""
        return list(self._by_id.values())


def by_subscription(held: Collection[Held]) -> dict[str, list[Held]]:
    """Grouped by where they were leased."""
    groups: dict[str, list[Held]] = {}
    for each in held:
        groups.setdefault(each.subscription, []).append(each)
    return groups


ack_id_of = attrgetter("ack_id")

"""Where a queue is: its URL as topics, a subscription and a broker's address."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote

from minionize.contracts.engine import Traits
from minionize.engines import address
from minionize.engines.envelope import checked_decoder
from minionize.errors import UsageError

_PARAMETERS = ("subscription", "admin", "decoder")

TRAITS = Traits(counts=False, delays=True, counts_crashes=True, scans=False, ack_lag_s=0.15)
"""Acks travel in the background, gathered for 0.1 s; the client offers no other way."""


def lease_margin_s(lease_s: float) -> float:
    """For how much longer than the lease what stands for a running param is delayed: a broker may
    deliver a second early, and another clock may be a little ahead."""
    return min(2.0, lease_s / 5)


class Place(NamedTuple):
    """A queue's place."""

    url: str
    """For messages: without credentials."""
    service: str
    """The brokers: `pulsar://host:6650,other:6650`."""
    topic: str
    """`persistent://tenant/namespace/topic`: what waits, put by us or by others."""
    subscription: str
    admin: str
    """Of the admin API, which counts: `http://host:8080`; empty: nothing is counted."""
    decoder: str

    def beside(self, kind: str) -> str:
        """The topic beside it for `kind`: held, back, dead or orders."""
        return f"{self.topic}-{quote(self.subscription, safe='')}-{kind}"

    def path(self, topic: str) -> str:
        """`topic` as the admin API writes it."""
        return quote(topic.replace("://", "/", 1), safe="/")


def place_of(url: str) -> Place:
    """The place that `url` names. UsageError, without credentials, if it names none."""
    parts = address.parse(url, _PARAMETERS)
    shown = address.without_credentials(url)
    if parts.user or parts.password:
        raise UsageError(
            f"queue {shown!r} has a user or a token in it: put the token into PULSAR_TOKEN, or a "
            "file with it into PULSAR_TOKEN_FILE"
        )
    names = parts.path.strip("/").split("/")
    if len(names) == 1:
        names = ["public", "default", *names]
    if len(names) != 3 or not all(names) or not parts.host:
        raise UsageError(
            f"queue {shown!r} names no topic: use pulsar://host:6650/tenant/namespace/topic"
        )
    subscription = parts.parameters.get("subscription") or "minions"
    admin = parts.parameters.get("admin", "").rstrip("/")
    if admin and not admin.startswith(("http://", "https://")):
        raise UsageError(
            f"queue {shown!r}: admin must be the URL of the admin API, as http://host:8080"
        )
    return Place(
        url=shown,
        service=f"{parts.scheme}://{parts.hosts}",
        topic=f"persistent://{'/'.join(names)}",
        subscription=subscription,
        admin=admin,
        decoder=checked_decoder(parts.parameters.get("decoder", ""), f"queue {shown!r}"),
    )

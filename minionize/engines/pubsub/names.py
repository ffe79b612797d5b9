"""The names that a queue has on Google Pub/Sub, all from its one URL."""

from __future__ import annotations

import re
from typing import NamedTuple

from minionize.engines.address import parse, without_credentials
from minionize.engines.envelope import checked_decoder
from minionize.errors import UsageError

PARAMETERS = ("subscription", "decoder", "exactly_once", "endpoint")
ENDPOINT = "pubsub.googleapis.com"
DEAD = "-dead"
"""What the topic and the subscription of the dead letters add to the subscription's name."""
ASIDE = "-aside"
"""The same for what is delayed, and for what a minion is known to run."""
_MOST = 255 - max(len(DEAD), len(ASIDE))
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._~+%-]{2,}")


class Names(NamedTuple):
    """Full names, `projects/P/topics/T`, as the service takes them."""

    url: str
    """For messages; there are no credentials in it."""
    topic: str
    subscription: str
    dead_topic: str
    dead: str
    aside_topic: str
    aside: str
    decoder: str = "identity"
    exactly_once: bool = False
    """Whether a subscription that we make has exactly-once delivery."""
    endpoint: str = ENDPOINT


def names_of(url: str) -> Names:
    """The names in `pubsub://PROJECT/TOPIC?subscription=NAME`; without a NAME it is the topic's.

    UsageError for what the service would not take as a name.
    """
    address = parse(url, PARAMETERS)
    shown = without_credentials(url)
    project, topic = address.hosts, address.path
    if not project or not topic or "/" in topic:
        raise UsageError(
            f"queue {shown!r} does not name project and topic: "
            "write pubsub://PROJECT/TOPIC?subscription=NAME"
        )
    said = address.parameters
    subscription = said.get("subscription") or topic
    for kind, name, most in (("topic", topic, 255), ("subscription", subscription, _MOST)):
        if _NAME.fullmatch(name) is None or len(name) > most or name.startswith("goog"):
            raise UsageError(
                f"queue {shown!r}: {name!r} can't be the name of a {kind}: take 3 to {most} "
                "letters, digits and -._~+%, with a letter first, and not goog"
            )
    once = said.get("exactly_once", "0")
    if once not in ("0", "1"):
        raise UsageError(f"queue {shown!r}: exactly_once={once} is neither 0 nor 1")

    def full(kind: str, name: str) -> str:
        return f"projects/{project}/{kind}/{name}"

    return Names(
        shown,
        full("topics", topic),
        full("subscriptions", subscription),
        full("topics", subscription + DEAD),
        full("subscriptions", subscription + DEAD),
        full("topics", subscription + ASIDE),
        full("subscriptions", subscription + ASIDE),
        checked_decoder(said.get("decoder", ""), f"queue {shown!r}"),
        once == "1",
        said.get("endpoint") or ENDPOINT,
    )


def short(name: str) -> str:
    """`topic T`, `subscription S`: a full name as people say it."""
    _, _, kind, last = name.split("/", 3)
    return f"{kind.removesuffix('s')} {last}"

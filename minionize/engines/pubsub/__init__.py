"""The engine for Google Cloud Pub/Sub: `pubsub://PROJECT/TOPIC?subscription=NAME`.

More parameters: `decoder=json` for messages that others published, `exactly_once=1` for a
subscription that is made with it, `endpoint=REGION-pubsub.googleapis.com` for a regional one.
Credentials are the application's default ones; PUBSUB_EMULATOR_HOST names an emulator.
`docs/pubsub.md` says what Pub/Sub can't do, and which rights are needed.
"""

from __future__ import annotations

from minionize.contracts.engine import EngineOptions
from minionize.engines.pubsub.minion import PubsubEngine
from minionize.engines.pubsub.names import names_of
from minionize.engines.pubsub.queue import PubsubQueue

__all__ = ["PubsubEngine", "PubsubQueue", "open_engine", "open_queue"]


def open_engine(address: str, options: EngineOptions) -> PubsubEngine:
    """Join the queue as a minion. NoSuchQueue if it is missing."""
    return PubsubEngine(names_of(f"pubsub:{address}"), options)


def open_queue(address: str, options: EngineOptions) -> PubsubQueue:
    """A person's face of the queue; `put` makes it if it is missing."""
    return PubsubQueue(names_of(f"pubsub:{address}"), options)

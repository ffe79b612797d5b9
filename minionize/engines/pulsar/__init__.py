"""Queues in Apache Pulsar: `pulsar://host:6650/tenant/namespace/topic?subscription=minions`.

What waits is in the topic, under a Shared subscription. Beside it are topics of our own:

    TOPIC-SUBSCRIPTION-held     what minions hold, each to come back when its lease ends
    TOPIC-SUBSCRIPTION-back     what was given back, at once or after a delay
    TOPIC-SUBSCRIPTION-dead     dead letters with their reasons
    TOPIC-SUBSCRIPTION-orders   pause, resume and stop

docs/pulsar.md says what follows from that.
"""

from __future__ import annotations

from minionize.contracts.engine import EngineOptions
from minionize.engines.pulsar.minion import PulsarEngine
from minionize.engines.pulsar.people import PulsarQueue

__all__ = ["PulsarEngine", "PulsarQueue", "open_engine", "open_queue"]


def open_engine(address: str, options: EngineOptions) -> PulsarEngine:
    """Join the queue as a minion. NoSuchQueue if its topic is missing."""
    return PulsarEngine(address, options)


def open_queue(address: str, options: EngineOptions) -> PulsarQueue:
    """A person's face of the queue. Connects when it is first asked for something."""
    return PulsarQueue(address, options)

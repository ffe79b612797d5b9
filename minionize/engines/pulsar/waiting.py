"""Dropping what waits: taken as a minion would, and acked."""

from __future__ import annotations

import pulsar

from minionize.engines.pulsar.faults import translated
from minionize.engines.pulsar.place import Place

_NOTHING_CAME_MS = 500


def drop_waiting(client: pulsar.Client, place: Place) -> int:
    """Drop what can be taken now; what minions have fetched and what is delayed stays. Returns
    how many."""
    count = 0
    for topic in (place.topic, place.beside("back")):
        with translated(place, "drop what waits"):
            consumer = client.subscribe(
                topic,
                place.subscription,
                consumer_type=pulsar.ConsumerType.Shared,
                receiver_queue_size=1000,
                initial_position=pulsar.InitialPosition.Earliest,
                batch_index_ack_enabled=True,
            )
            try:
                while True:
                    consumer.acknowledge(consumer.receive(_NOTHING_CAME_MS))
                    count += 1
            except pulsar.Timeout:
                pass
            finally:
                consumer.close()
    return count

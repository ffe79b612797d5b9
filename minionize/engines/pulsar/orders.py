"""What people tell the minions: the last message of a small topic."""

from __future__ import annotations

import json
import threading
from typing import Any

import pulsar

from minionize.engines.pulsar.faults import translated
from minionize.engines.pulsar.place import Place
from minionize.engines.pulsar.sending import Letter
from minionize.values import Orders

NONE = Orders()


class OrdersReader:
    """Knows the last orders; hears of new ones within milliseconds."""

    def __init__(self, client: pulsar.Client, place: Place) -> None:
        self.changed = threading.Event()
        self.latest = read_orders(client, place)
        with translated(place, "read orders"):
            client.create_reader(
                place.beside("orders"),
                pulsar.MessageId.latest,
                reader_listener=self._hear,
                receiver_queue_size=1,
                # Once more what was just read, or what came since.
                start_message_id_inclusive=True,
            )

    def _hear(self, reader: Any, message: Any) -> None:
        """Called in the client's thread."""
        self.latest = from_body(message.data())
        self.changed.set()


def read_orders(client: pulsar.Client, place: Place) -> Orders:
    """The orders as they are now."""
    with translated(place, "read orders"):
        reader = client.create_reader(
            place.beside("orders"),
            pulsar.MessageId.latest,
            receiver_queue_size=1,
            start_message_id_inclusive=True,
        )
        try:
            if not reader.has_message_available():
                return NONE
            return from_body(reader.read_next(5000).data())
        finally:
            reader.close()


def to_letter(orders: Orders) -> Letter:
    body = json.dumps({"paused": orders.paused, "stops": orders.stops}).encode()
    return Letter(body, {})


def from_body(body: bytes) -> Orders:
    """What a message says; nothing, if it is none of ours."""
    try:
        said = json.loads(body)
        return Orders(bool(said["paused"]), int(said["stops"]))
    except (ValueError, TypeError, KeyError):
        return NONE

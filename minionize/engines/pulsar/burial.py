"""Burying: params and what is no param become messages of the topic `dead`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pulsar

from minionize.engines.envelope import Undecodable
from minionize.engines.pulsar.decoding import dead_letter, dead_raw, without_detail
from minionize.engines.pulsar.holding import Held
from minionize.engines.pulsar.place import Place
from minionize.engines.pulsar.sending import LARGE, Letter, Sender
from minionize.engines.pulsar.topics import make_subscription
from minionize.errors import BadParam
from minionize.values import Failure


class Burial:
    """By one minion."""

    def __init__(self, client: pulsar.Client, place: Place, sender: Sender) -> None:
        self._client = client
        self._place = place
        self._sender = sender
        self._topic = ""
        """Empty until it is known to have its subscription."""

    def bury(self, gone: Collection[Held], failure: Failure) -> None:
        """Let dead letters be in the place of all these."""
        topic = self._dead_topic()
        letters = [(held, dead_letter(held.lease, failure)) for held in gone]
        small = [one for one in letters if not one[0].replaced and len(one[1].body) < LARGE]
        self._sender.send(topic, [each for _, each in small])
        for held, _ in small:
            held.replaced = True
        for held, each in letters:
            if not held.replaced:
                self._send_large(topic, each)
                held.replaced = True

    def bury_raw(self, message: Any, error: Undecodable) -> None:
        """Let a dead letter be in the place of a message that is no param."""
        self._send_large(self._dead_topic(), dead_raw(message, error))

    def _send_large(self, topic: str, dead: Letter) -> None:
        """What the program said is cut where there is no room for it beside the param."""
        try:
            self._sender.send(topic, [dead])
        except BadParam:
            self._sender.send(topic, [without_detail(dead)])

    def _dead_topic(self) -> str:
        if not self._topic:
            topic = self._place.beside("dead")
            make_subscription(self._client, self._place, topic)
            self._topic = topic
        return self._topic

"""Dead letters: the topic `dead`, read by one person at a time.

Its only subscription holds what is dead still: who reads it alone and acks nothing sees all, from
the oldest on, and lets go of all at the end. A message of our own, put there first, is the end.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import pulsar

from minionize.engines.envelope import Undecodable, to_properties
from minionize.engines.pulsar.decoding import (
    BURIED,
    DETAIL,
    MARKER,
    REASON,
    envelope_of,
    failure_of,
)
from minionize.engines.pulsar.faults import TopicFull, translated
from minionize.engines.pulsar.place import Place
from minionize.engines.pulsar.sending import Letter, Sender
from minionize.engines.pulsar.topics import make_subscription
from minionize.errors import EngineUnavailable
from minionize.values import Entry, State

_PATIENCE_S = 10.0
_SILENCE_S = 3.0
"""Where no mark can be put at the end, it is the end when nothing came for so long."""
_BATCH = 200


class DeadLetters:
    """All that are dead now."""

    def __init__(self, client: pulsar.Client, place: Place, sender: Sender) -> None:
        self._client = client
        self._place = place
        self._sender = sender
        self._topic = place.beside("dead")

    def entries(self) -> Iterator[Entry]:
        """All of them, oldest first."""
        with self._reading() as consumer:
            for message in self._messages(consumer):
                yield _entry(message)

    def requeue(self, ids: Collection[str] | None) -> int:
        """Back to work, counts reset: new messages first, then the old ones go."""
        if ids is not None and not ids:
            return 0
        count = 0
        with self._reading() as consumer:
            batch: list[Any] = []
            for message in self._messages(consumer):
                if ids is None or _entry(message).id in ids:
                    batch.append(message)
                if len(batch) >= _BATCH:
                    count += self._back(consumer, batch)
            count += self._back(consumer, batch)
        return count

    def purge(self) -> int:
        """Drop all of them."""
        count = 0
        with self._reading() as consumer, translated(self._place, "drop dead letters"):
            for message in self._messages(consumer):
                consumer.acknowledge(message)
                count += 1
        return count

    def _back(self, consumer: Any, batch: list[Any]) -> int:
        """Put a batch back to work, and forget it."""
        place = self._place
        anew: dict[str, list[Letter]] = {place.beside("back"): [], place.topic: []}
        for message in batch:
            properties = message.properties()
            if BURIED in properties:  # it was no param, and may be one to another decoder
                plain = {k: v for k, v in properties.items() if k not in (REASON, DETAIL, BURIED)}
                anew[place.topic].append(Letter(message.data(), plain))
            else:
                found = envelope_of(message, place.decoder)
                fresh = found._replace(attempt=1, crashes=0, laters=0, suspect=False)
                letter = Letter(message.data(), to_properties(fresh))
                anew[place.beside("back")].append(letter)
        for topic, letters in anew.items():
            self._sender.send(topic, letters)
        with translated(place, "drop dead letters"):
            for message in batch:
                consumer.acknowledge(message)
        count = len(batch)
        batch.clear()
        return count

    @contextmanager
    def _reading(self) -> Iterator[Any]:
        """The one consumer of the topic."""
        place = self._place
        make_subscription(self._client, place, self._topic)
        until = time.monotonic() + _PATIENCE_S
        while True:
            try:
                with translated(place, "read dead letters"):
                    consumer = self._client.subscribe(
                        self._topic,
                        place.subscription,
                        consumer_type=pulsar.ConsumerType.Exclusive,
                        receiver_queue_size=1000,
                        initial_position=pulsar.InitialPosition.Earliest,
                    )
                break
            except EngineUnavailable as error:
                if not isinstance(error.__cause__, pulsar.ConsumerBusy):
                    raise
                if time.monotonic() > until:
                    raise EngineUnavailable(
                        f"{place.url}: somebody else reads the dead letters: try again"
                    ) from error
                time.sleep(0.05)
        try:
            yield consumer
        finally:
            with translated(place, "stop reading dead letters"):
                consumer.close()

    def _messages(self, consumer: Any) -> Iterator[Any]:
        """All that are there now, read twice: to who reads right after another a broker under load
        may send all but the first (seen with 4.0.8, once in a thousand times)."""
        seen: set[tuple[int, int, int]] = set()
        for again in (False, True):
            if again:
                consumer.redeliver_unacknowledged_messages()
            for message in self._up_to_a_mark(consumer):
                at = message.message_id()
                position = (at.ledger_id(), at.entry_id(), at.batch_index())
                if position not in seen:
                    seen.add(position)
                    yield message

    def _up_to_a_mark(self, consumer: Any) -> Iterator[Any]:
        """What comes before a mark that is put at the end now."""
        mine = uuid.uuid4().hex
        patience_s = _PATIENCE_S
        try:
            self._sender.send(self._topic, [Letter(b"", {MARKER: mine})])
        except TopicFull:
            patience_s = _SILENCE_S  # so full that nothing fits; it must be possible to purge it
        while True:
            with translated(self._place, "read dead letters"):
                try:
                    message = consumer.receive(int(patience_s * 1000))
                except pulsar.Timeout:
                    if patience_s == _SILENCE_S:
                        return
                    raise
                marker = message.properties().get(MARKER)
                if marker is not None:  # or one that a killed reader left
                    consumer.acknowledge(message)
            if marker == mine:
                return
            if marker is None:
                yield message


def _entry(message: Any) -> Entry:
    """A dead letter as people see it."""
    properties = message.properties()
    failure = failure_of(properties)
    buried = properties.get(BURIED)
    if buried is not None:
        text = json.dumps(message.data().decode("utf-8", "backslashreplace"))
        return Entry(buried, text, State.DEAD, failure=failure)
    try:
        found = envelope_of(message, "identity")
    except Undecodable as error:
        return Entry(str(message.message_id()), error.text, State.DEAD, failure=failure)
    return Entry(found.id, found.text, State.DEAD, found.attempt, found.crashes, failure=failure)

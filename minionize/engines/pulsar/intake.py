"""Getting messages: no more than a minion wants now, from three topics at once.

With a receiver queue the client fetches ahead, one message at least, and keeps it from everybody
else while a minion's slots are busy, for hours maybe. So there is none: each message is asked for,
and one that comes too late, when a slot was filled otherwise, goes back. That takes a round trip
a message; a minion that is fast has a receiver queue for the topic, of half a second of its work.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, NamedTuple

import pulsar
from _pulsar import Result

from minionize.engines.pulsar.faults import translated
from minionize.engines.pulsar.place import Place
from minionize.engines.pulsar.topics import has_partitions
from minionize.errors import EngineUnavailable, UsageError

MAIN, BACK, HELD = "main", "back", "held"
_NACK_MS = 100
_SLICE_S = 0.05
_SHORT_S = 0.005
_STALE_S = 10.0
_MOST_BESIDE = 16
"""What comes back is seldom and in small numbers; each that is asked for costs something."""


class Arrival(NamedTuple):
    """A message that came, and the consumer that has to ack it."""

    kind: str
    consumer: Any
    message: Any


class Intake:
    """The consumers of one minion. Its callbacks run in the client's thread."""

    def __init__(
        self, client: pulsar.Client, place: Place, name: str, properties: Mapping[str, str]
    ) -> None:
        """`name`, `properties`: how the broker shows the consumers to people."""
        self._client = client
        self._place = place
        self._name = name
        self._properties = dict(properties)
        self._lock = threading.Lock()
        self._wanted = 0
        self._asked: dict[str, int] = {}
        """Of each consumer: how many messages were asked for and did not come yet."""
        self._arrived: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
        self.least = 0
        """The smallest receiver queue that the topic can do with."""
        self.ahead = 0
        """The receiver queue of the main consumer; 0: none."""
        self._broke = False
        self._renewed_s = time.monotonic()
        self._consumers: dict[str, Any] = {}
        for kind in (HELD, BACK, MAIN):
            self._consumers[kind] = self._subscribe(kind, 0)

    @property
    def main(self) -> Any:
        """The consumer of the queue's topic, as it is now."""
        return self._consumers[MAIN]

    def consumer(self, kind: str) -> Any:
        return self._consumers[kind]

    def get(self, limit: int, wait_s: float) -> list[Arrival]:
        """Up to `limit` messages; waits at most `wait_s` for the first."""
        if MAIN not in self._consumers:
            self._consumers[MAIN] = self._subscribe(MAIN, self.ahead)
        self._want(limit)
        until = time.monotonic() + wait_s
        arrivals: list[Arrival] = []
        if self.ahead > 1:
            # Next to nothing for one that is fast, and a pause for it if it got nothing.
            self._get_ahead(arrivals, limit, max(until, time.monotonic() + _SHORT_S))
        else:
            self._get_asked(arrivals, limit, wait_s)
        if arrivals:
            self._renewed_s = time.monotonic()
            with self._lock:
                self._wanted = 0
            while len(arrivals) < limit and not self._arrived.empty():
                arrivals.append(self._arrived.get())
        return arrivals

    def release(self) -> None:
        """Nothing is wanted now: what came meanwhile goes back."""
        with self._lock:
            self._wanted = 0
        while not self._arrived.empty():
            give_back(self._arrived.get())

    def fetch_ahead(self, count: int) -> None:
        """Fetch so many ahead from now on; 0: none. What was got from the main consumer and not
        acked is given back by that."""
        count = max(count, self.least)
        if count == self.ahead:
            return
        self._close_main()
        self._consumers[MAIN] = self._subscribe(MAIN, count)

    def let_go(self) -> None:
        """Until something is wanted again others get all, also what a receiver queue would keep.
        What was got from the main consumer and not acked may be given back by that."""
        if self.ahead:
            self._close_main()
        else:
            self.release()

    def _close_main(self) -> None:
        self.release()
        main = self._consumers.pop(MAIN, None)
        if main is not None:
            with translated(self._place, "unsubscribe"):
                main.close()

    def batched(self) -> None:
        """Somebody else puts batches, and these need a receiver queue."""
        self.least = 1
        self.fetch_ahead(self.ahead)

    def ack_now(self, kind: str, message_ids: Collection[Any]) -> None:
        """Ack these so that the broker knows it when this returns.

        The client gathers acks for 0.1 s, and offers nothing to tell them at once, save closing
        a consumer. So one comes and goes for them; any consumer of a Shared subscription may ack.
        """
        if not message_ids:
            return
        self.check_connected()
        with translated(self._place, "ack"):
            consumer = self._open(kind, 0 if kind != MAIN else self.least)
            for message_id in message_ids:
                consumer.acknowledge(message_id)
            # Without a connection it is closed without a word, and so without an ack.
            connected = consumer.is_connected()
            consumer.close()
        if not connected:
            raise self._broken("ack")

    def check_connected(self) -> None:
        """EngineUnavailable while the broker is away: the client itself waits, and says nothing."""
        if not all(consumer.is_connected() for consumer in self._consumers.values()):
            raise self._broken("take params")

    def _broken(self, what: str) -> EngineUnavailable:
        self._broke = True
        return EngineUnavailable(f"{self._place.url}: cannot {what}, the connection broke")

    @property
    def is_stale(self) -> bool:
        """Whether what was asked for may be forgotten: the connection broke since, or, as a break
        may be too short to be seen, nothing came for long."""
        return self._broke or time.monotonic() - self._renewed_s > _STALE_S

    def renew(self) -> None:
        """Begin anew with other consumers. What was received and not acked is given back."""
        self.release()
        for kind, consumer in self._consumers.items():
            with contextlib.suppress(pulsar.PulsarException):
                consumer.close()
            self._consumers[kind] = self._subscribe(kind, self.ahead if kind == MAIN else 0)
        self._broke = False
        self._renewed_s = time.monotonic()

    def close(self) -> None:
        """Tell what was acked, and give back what was fetched."""
        self.release()
        with translated(self._place, "unsubscribe"):
            for consumer in self._consumers.values():
                consumer.close()

    def _get_asked(self, arrivals: list[Arrival], limit: int, wait_s: float) -> None:
        """All have to be asked for, so it takes a moment in any case."""
        try:
            arrivals.append(self._arrived.get(timeout=max(wait_s, 0.01)))
            while len(arrivals) < limit:
                # What was asked for together comes together.
                arrivals.append(self._arrived.get(timeout=0.002))
        except queue.Empty:
            pass

    def _get_ahead(self, arrivals: list[Arrival], limit: int, until: float) -> None:
        consumer = self.main
        receive = consumer.receive
        while not arrivals:
            while len(arrivals) < limit and not self._arrived.empty():
                arrivals.append(self._arrived.get())
            left_s = until - time.monotonic()
            wait_ms = 0 if arrivals else int(1000 * max(0.0, min(left_s, _SLICE_S)))
            try:
                while len(arrivals) < limit:
                    arrivals.append(Arrival(MAIN, consumer, receive(wait_ms)))
                    wait_ms = 0
            except pulsar.Timeout:
                pass
            if left_s <= 0:
                return

    def _want(self, count: int) -> None:
        with self._lock:
            self._wanted = count
            missing = {
                kind: (count if kind == MAIN else min(count, _MOST_BESIDE)) - asked
                for kind, asked in self._asked.items()
                if not (kind == MAIN and self.ahead > 1)
            }
            for kind, more in missing.items():
                self._asked[kind] += max(more, 0)
        for kind, more in missing.items():
            for _ in range(more):
                consumer = self._consumers[kind]
                consumer.receive_async(partial(self._arrives, kind, consumer))

    def _arrives(self, kind: str, consumer: Any, result: Result, message: Any) -> None:
        """Called in the client's thread."""
        with self._lock:
            if consumer is self._consumers.get(kind):
                self._asked[kind] -= 1
            if result != Result.Ok:
                return
            arrival = Arrival(kind, consumer, message)
            if self._wanted > 0:
                self._wanted -= 1
                self._arrived.put(arrival)
                return
        give_back(arrival)

    def _subscribe(self, kind: str, ahead: int) -> Any:
        try:
            consumer = self._open(kind, ahead)
        except UsageError as error:
            if not isinstance(error.__cause__, pulsar.InvalidConfiguration):
                raise
            if kind != MAIN:
                raise has_partitions(self._place, self._place.beside(kind)) from error
            # A topic with partitions needs a receiver queue.
            self.least = ahead = max(1, ahead)
            consumer = self._open(kind, ahead)
        with self._lock:
            self._asked[kind] = 0
            if kind == MAIN:
                self.ahead = ahead
        return consumer

    def _open(self, kind: str, ahead: int) -> Any:
        place = self._place
        topic = place.topic if kind == MAIN else place.beside(kind)
        with translated(place, f"subscribe to {topic}"):
            return self._client.subscribe(
                topic,
                place.subscription,
                consumer_type=pulsar.ConsumerType.Shared,
                receiver_queue_size=ahead,
                consumer_name=self._name,
                properties=self._properties,
                negative_ack_redelivery_delay_ms=_NACK_MS,
                initial_position=pulsar.InitialPosition.Earliest,
                batch_index_ack_enabled=True,
            )._consumer


def give_back(arrival: Arrival) -> None:
    """Let others have it, within a moment."""
    arrival.consumer.negative_acknowledge(arrival.message)

"""Sending, so that it is durable when it returns, or an error is raised."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

import pulsar
from _pulsar import Result

from minionize.engines.pulsar.client_log import client_log
from minionize.engines.pulsar.faults import FULL, DelayRefused, TopicFull, refused, translated
from minionize.engines.pulsar.place import Place
from minionize.errors import BadParam, EngineUnavailable, MinionizeError

_BATCH = 1000
_BATCH_BYTES = 1 << 20
_LOOK_S = 0.1
LARGE = 100_000
"""Bytes from which on the broker may find a message too large, if it has more beside its body."""


class Letter(NamedTuple):
    """A message to be sent."""

    body: bytes
    properties: Mapping[str, str]
    delay_s: float = 0.0


class Sender:
    """Sends to the topics of one queue, unbatched: a batch would be given back, counted and
    handed out as one."""

    def __init__(self, client: pulsar.Client, place: Place, *, patience_s: float) -> None:
        """`patience_s`: how long the broker may take to store a message."""
        self._client = client
        self._place = place
        self._patience_s = patience_s
        self._producers: dict[str, pulsar.Producer] = {}
        self._names: dict[str, str] = {}

    def open(self, topic: str, name: str | None = None) -> None:
        """Be ready to send to `topic`, shown there as `name`."""
        if name is not None:
            self._names[topic] = name
        self._producer(topic)

    def close(self, topic: str) -> None:
        """Send to `topic` no more."""
        self._names.pop(topic, None)
        producer = self._producers.pop(topic, None)
        if producer is not None:
            with translated(self._place, "stop sending"):
                producer.close()

    def send(self, topic: str, letters: Sequence[Letter]) -> list[Any]:
        """Send them all; their message ids, in order. EngineUnavailable if one was not stored;
        the others may be stored nevertheless."""
        if not letters:
            return []
        producer = self._connected(topic)
        mark = client_log().mark()
        answers = _Answers(len(letters))
        with translated(self._place, f"send to {topic}"):
            for number, (body, properties, delay_s) in enumerate(letters):
                producer.send_async(
                    body,
                    partial(answers.take, number),
                    properties=properties,
                    deliver_after=timedelta(seconds=delay_s) if delay_s > 0 else None,
                )
        # The client itself gives up first; this is for a client that has died.
        until_s = time.monotonic() + self._patience_s + 10
        while not answers.complete.wait(_LOOK_S) and time.monotonic() < until_s:
            self._check_refused(topic, letters, mark, DelayRefused)
        if not answers.complete.is_set():
            self._check_refused(topic, letters, mark, MinionizeError)
            raise EngineUnavailable(f"{self._place.url}: cannot send, no answer: is the broker up?")
        if answers.failed is not None:
            if answers.failed == Result.Timeout and not producer.is_connected():
                answers.failed = self._why(topic)
            self._forget(topic, answers.failed)
            raise _failure(self._place, answers)
        return answers.ids

    def _check_refused(
        self, topic: str, letters: Sequence[Letter], mark: int, kind: type[MinionizeError]
    ) -> None:
        """Raise what the broker said since `mark` when it refused one of `letters`, if it is an
        error of that kind. The client sends such a message again without end, which may help."""
        said = client_log().refusals(mark)
        if not said:
            return
        error = refused(self._place, topic, said[-1], max(each.delay_s for each in letters))
        if isinstance(error, kind):
            producer = self._producers.pop(topic, None)
            if producer is not None:
                with contextlib.suppress(pulsar.PulsarException):
                    producer.close()
            raise error

    def _connected(self, topic: str) -> pulsar.Producer:
        """A producer that sends now. What one without a connection is given it would keep, and
        send later, when it is not wanted any more. A new one is told why it gets none."""
        producer = self._producer(topic)
        if producer.is_connected():
            return producer
        del self._producers[topic]
        with contextlib.suppress(pulsar.PulsarException):
            producer.close()
        return self._producer(topic)

    def _why(self, topic: str) -> Result:
        """What a time-out was for: a topic that became full meanwhile has the broker drop its
        producers without a word, and tell only new ones."""
        try:
            self._connected(topic)
        except TopicFull:
            return Result.ProducerBlockedQuotaExceededError
        except EngineUnavailable:
            pass  # the time-out says as much
        return Result.Timeout

    def _producer(self, topic: str) -> pulsar.Producer:
        producer = self._producers.get(topic)
        if producer is None:
            with translated(self._place, f"send to {topic}"):
                producer = self._producers[topic] = self._client.create_producer(
                    topic,
                    producer_name=self._names.get(topic),
                    send_timeout_millis=int(self._patience_s * 1000),
                    block_if_queue_full=True,
                    max_pending_messages=1000,
                    batching_enabled=False,
                )
        return producer

    def _forget(self, topic: str, result: Result) -> None:
        """One that is broken for good is made anew the next time."""
        if result not in (Result.Timeout, Result.MessageTooBig):
            self._producers.pop(topic, None)


class _Answers:
    """What the broker said to each letter."""

    def __init__(self, count: int) -> None:
        self.ids: list[Any] = [None] * count
        self.failed: Result | None = None
        self.stored = 0
        self.complete = threading.Event()
        self._open = count

    def take(self, number: int, result: Result, message_id: Any) -> None:
        """Called in the client's thread."""
        if result == Result.Ok:
            self.ids[number] = message_id
            self.stored += 1
        elif self.failed is None:
            self.failed = result
        self._open -= 1
        if not self._open:
            self.complete.set()


def _failure(place: Place, answers: _Answers) -> Exception:
    count = len(answers.ids)
    some = f", {answers.stored} of {count} are stored" if answers.stored else ""
    if answers.failed == Result.MessageTooBig:
        return BadParam(
            f"{place.url}: a param is larger than the broker takes (maxMessageSize, 5 MiB as a "
            f"rule){some}: put the name of a file instead"
        )
    name = str(answers.failed).rpartition(".")[2]
    if name.startswith("ProducerBlockedQuotaExceeded"):
        return TopicFull(f"{place.url}: cannot send{some}, {FULL}")
    return EngineUnavailable(f"{place.url}: cannot send ({name}{some}): is the broker up?")


def in_batches(letters: Iterable[Letter]) -> Iterable[list[Letter]]:
    """`letters` in lists that are worth a wait and small in memory."""
    batch: list[Letter] = []
    size = 0
    for letter in letters:
        batch.append(letter)
        size += len(letter.body)
        if len(batch) >= _BATCH or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch

"""The remote procedures that the engine calls: in batches of the sizes that the service takes,
each with a time-out of its own, errors translated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from minionize.engines.pubsub.faults import (
    PERMANENT,
    ack_failures,
    is_code,
    translated,
)
from minionize.engines.pubsub.library import EMULATOR, connect, grpc_module
from minionize.engines.pubsub.names import Names
from minionize.errors import EngineUnavailable

PULL_MOST = 1000
"""Messages that the service gives at once."""
PULL_S = 100.0
"""The service answers a pull before that, with nothing if there is nothing. What it sends just when
a pull is given up is lost until its lease is over: so that must be seldom."""
PUBLISH_MOST = 1000
PUBLISH_BYTES = 1_000_000
"""Of one request, for memory; the limit is 10 MB, and one message alone may have that."""
MESSAGE_BYTES = 10_000_000
ACK_IDS_MOST = 2_500
ACK_BYTES = 480 * 1024
"""Of one request, whose limit is 512 KiB."""
_TRIES = 3
"""For acks of exactly-once subscriptions that failed for the moment."""


class Letter(NamedTuple):
    """A message to be published."""

    body: bytes
    attributes: dict[str, str]

    def size(self) -> int:
        """About what it counts for, against the limits of the service."""
        return len(self.body) + sum(
            len(key) + len(value.encode()) + 8 for key, value in self.attributes.items()
        )


class Call:
    """A remote procedure that was called and may still be under way."""

    def __init__(self, wire: Wire, future: Any, procedure: str, name: str) -> None:
        self._wire = wire
        self._future = future
        self._procedure = procedure
        self._name = name

    def on_end(self, told: Callable[[], None]) -> None:
        """Call `told`, from a thread of gRPC, when the answer is there."""
        self._future.add_done_callback(lambda _: told())

    def ended(self, wait_s: float) -> bool:
        """Whether the answer is there, within `wait_s`."""
        try:
            # The exception is not raised, only waited for.
            self._future.exception(timeout=wait_s)
        except grpc_module().FutureTimeoutError:
            return False
        except grpc_module().FutureCancelledError:
            return True
        return True

    def error(self) -> BaseException | None:
        """Why it failed, once it ended."""
        failed: BaseException | None = self._future.exception()
        return failed

    def result(self) -> Any:
        """The answer, waited for. MinionizeError for a failure."""
        try:
            return self._future.result()
        except grpc_module().RpcError as error:
            raise self._wire.failed(error, self._procedure, self._name) from error

    def cancel(self) -> None:
        """Not wanted any more."""
        self._future.cancel()


class Wire:
    """A connection to the service. Used by one thread at a time."""

    def __init__(self, names: Names, env: Mapping[str, str], rpc_s: float) -> None:
        """`rpc_s`: how long an answer may take, where it should come at once."""
        self.names = names
        self.rpc_s = rpc_s
        self._library = connect(names.endpoint, env, names.url)
        self.waits = not env.get(EMULATOR)
        """A pull may wait for messages. Not at an emulator, which goes on waiting for a minion
        that is gone, and gives it what comes next."""
        self.types = self._library.types
        self._error: type[Exception] = grpc_module().RpcError
        self.unsure = False
        """A call failed for want of the service, and nobody asked again since."""

    def close(self) -> None:
        """Close the connection; calls that are under way are cancelled."""
        self._library.channel.close()

    def failed(self, error: BaseException, procedure: str, name: str) -> Exception:
        """The error to raise instead."""
        instead = translated(error, procedure, name, self.names.url)
        self.unsure |= isinstance(instead, EngineUnavailable)
        return instead

    # ---- any procedure
    def send(self, procedure: str, name: str, request: Any, timeout_s: float | None = None) -> Call:
        """Call it and go on. `name`: which topic or subscription it is about."""
        future = self._stub(procedure).future(
            request,
            timeout=timeout_s or self.rpc_s,
            metadata=_routing(procedure, name),
        )
        return Call(self, future, procedure, name)

    def call(self, procedure: str, name: str, request: Any, timeout_s: float | None = None) -> Any:
        """Call it and wait for the answer. MinionizeError for a failure."""
        try:
            return self._stub(procedure)(
                request,
                timeout=timeout_s or self.rpc_s,
                metadata=_routing(procedure, name),
            )
        except self._error as error:
            raise self.failed(error, procedure, name) from error

    def _stub(self, procedure: str) -> Any:
        library = self._library
        on_topics = procedure == "publish" or procedure.endswith("_topic")
        return getattr(library.publisher if on_topics else library.subscriber, procedure)

    # ---- messages
    def pull(self, subscription: str, most: int, timeout_s: float | None = None) -> Sequence[Any]:
        """What is there now, `most` messages at most; nothing does not mean that there is none."""
        return self.pulled(
            self.call("pull", subscription, self._pull(subscription, most, True), timeout_s)
        )

    def send_pull(self, subscription: str, most: int) -> Call:
        """Ask for messages, to be sent when there are some. `answered` takes it."""
        return self.send("pull", subscription, self._pull(subscription, most, False), PULL_S)

    def answered(self, call: Call) -> Sequence[Any]:
        """The messages that a pull brought that has ended."""
        call.ended(PULL_S + 1)
        error = call.error()
        if error is not None and is_code(error, "DEADLINE_EXCEEDED"):
            return []
        return self.pulled(call.result())

    def wait_pull(self, subscription: str, most: int, wait_s: float) -> Sequence[Any]:
        """Messages that are known to come, waited for within `wait_s` (1.5 s at least)."""
        request = self._pull(subscription, most, False)
        return self.answered(self.send("pull", subscription, request, max(1.5, wait_s)))

    def pulled(self, response: Any) -> Sequence[Any]:
        """The messages in an answer to a pull, as plain protocol buffers."""
        messages: Sequence[Any] = self.types.PullResponse.pb(response).received_messages
        return messages

    def _pull(self, subscription: str, most: int, at_once: bool) -> Any:
        return self._request(
            "PullRequest",
            subscription=subscription,
            max_messages=min(most, PULL_MOST),
            return_immediately=at_once,
        )

    def publish(self, topic: str, letters: Iterable[Letter]) -> list[str]:
        """Their ids; durable when it returns."""
        ids: list[str] = []
        for some in portions(letters):
            ids += self.published(self.send_publish(topic, some))
        return ids

    def send_publish(
        self, topic: str, letters: Sequence[Letter], timeout_s: float | None = None
    ) -> Call:
        """Publish one portion; `published` waits for it."""
        message = self.types.PubsubMessage.pb()
        request = self._request(
            "PublishRequest",
            topic=topic,
            messages=[
                message(data=letter.body, attributes=letter.attributes) for letter in letters
            ],
        )
        return self.send("publish", topic, request, timeout_s)

    def published(self, call: Call) -> list[str]:
        """The ids of what was published; they are durable now."""
        return list(self.types.PublishResponse.pb(call.result()).message_ids)

    # ---- leases
    def send_acks(self, subscription: str, ack_ids: Sequence[str]) -> list[tuple[Call, list[str]]]:
        """Ack them and go on; `acked` waits for it."""
        return [
            (self.send("acknowledge", subscription, self._ack(subscription, some)), some)
            for some in _ack_portions(ack_ids)
        ]

    def acked(self, subscription: str, calls: list[tuple[Call, list[str]]]) -> set[str]:
        """Wait for acks; the ack ids whose lease was lost, as an exactly-once subscription says.

        EngineUnavailable if some could not be told; those are left in `calls`, to be sent again.
        """
        lost: set[str] = set()
        while calls:
            call, some = calls[0]
            lost |= self._settled("acknowledge", subscription, call, some, self._ack)
            calls.pop(0)
        return lost

    def ack(self, subscription: str, ack_ids: Sequence[str]) -> set[str]:
        """Ack them; the ids whose lease was lost, where the subscription tells."""
        return self.acked(subscription, self.send_acks(subscription, ack_ids))

    def extend(self, subscription: str, ack_ids: Sequence[str], deadline_s: int) -> set[str]:
        """Renew leases to `deadline_s` from now; 0 gives them back. Returns the lost ones, where
        the subscription tells."""

        def request(subscription: str, some: list[str]) -> Any:
            return self._request(
                "ModifyAckDeadlineRequest",
                subscription=subscription,
                ack_ids=some,
                ack_deadline_seconds=deadline_s,
            )

        procedure = "modify_ack_deadline"
        calls = [
            (self.send(procedure, subscription, request(subscription, some)), some)
            for some in _ack_portions(ack_ids)
        ]
        lost: set[str] = set()
        for call, some in calls:
            lost |= self._settled(procedure, subscription, call, some, request)
        return lost

    def _settled(
        self,
        procedure: str,
        subscription: str,
        call: Call,
        ack_ids: list[str],
        request: Callable[[str, list[str]], Any],
    ) -> set[str]:
        """Which of `ack_ids` were lost; what failed only for the moment is tried again."""
        lost: set[str] = set()
        for _ in range(_TRIES):
            call.ended(self.rpc_s + 1)
            error = call.error()
            if error is None:
                return lost
            failures = None if is_code(error, "UNAVAILABLE") else ack_failures(error)
            if failures is None:
                raise self.failed(error, procedure, subscription) from error
            lost |= {id_ for id_, how in failures.items() if how.startswith(PERMANENT)}
            again = [id_ for id_ in ack_ids if id_ in failures and id_ not in lost]
            if not again:
                return lost
            call = self.send(procedure, subscription, request(subscription, again))
        raise EngineUnavailable(
            f"{self.names.url}: {len(again)} leases could not be settled just now: trying again"
        )

    def _ack(self, subscription: str, ack_ids: list[str]) -> Any:
        return self._request("AcknowledgeRequest", subscription=subscription, ack_ids=ack_ids)

    def _request(self, kind: str, **fields: Any) -> Any:
        """A request made as a plain protocol buffer, which is much faster for long lists."""
        message = getattr(self.types, kind)
        return message.wrap(message.pb()(**fields))


def portions(letters: Iterable[Letter]) -> Iterator[list[Letter]]:
    """`letters` in lists that are one request each."""
    some: list[Letter] = []
    size = 0
    for letter in letters:
        more = letter.size()
        if some and (len(some) == PUBLISH_MOST or size + more > PUBLISH_BYTES):
            yield some
            some, size = [], 0
        some.append(letter)
        size += more
    if some:
        yield some


def _ack_portions(ack_ids: Sequence[str]) -> Iterator[list[str]]:
    """Ids in lists that are one request each."""
    if not ack_ids:
        return
    longest = max(map(len, ack_ids)) + 4
    most = max(1, min(ACK_IDS_MOST, ACK_BYTES // longest))
    for start in range(0, len(ack_ids), most):
        yield list(ack_ids[start : start + most])


def _routing(procedure: str, name: str) -> tuple[tuple[str, str], ...]:
    """The header by which Google finds the region; as its own clients set it."""
    from urllib.parse import quote

    field = {
        "publish": "topic",
        "get_topic": "topic",
        "create_topic": "name",
        "create_subscription": "name",
    }.get(procedure, "subscription")
    return (("x-goog-request-params", f"{field}={quote(name, safe='')}"),)

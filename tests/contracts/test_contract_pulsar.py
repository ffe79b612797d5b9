"""The contract suite and the state machine over a real Pulsar broker."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import time
import uuid
from collections.abc import Iterator
from typing import ClassVar

import pytest
from hypothesis import settings
from services.pulsar import Shared

from minionize.contracts.engine import Engine, Queue
from minionize.testing import Backend, EngineContract, EngineMachine
from minionize.values import Clock, SystemClock


class PulsarBackend(Backend):
    """A topic of its own on a broker that all tests share. Time is real."""

    lease_s = 2.0
    """Busy machines stop a test for a second."""

    def __init__(self, broker: Shared, more: str = "") -> None:
        topic = f"contract-{uuid.uuid4().hex}"
        super().__init__(f"{broker.url}/public/default/{topic}{more}")
        self.clock = SystemClock()  # type: ignore[assignment]
        self._sockets: dict[int, set[int]] = {}

    def advance(self, seconds: float) -> None:
        time.sleep(seconds)

    def engine(self, clock: Clock | None = None) -> Engine:
        before = open_sockets()
        engine = super().engine(clock)
        self._sockets[id(engine)] = open_sockets() - before
        return engine

    def crash(self, handle: Engine | Queue) -> None:
        """Its connections end, with nothing said; then what is left of it here goes."""
        for number in self._sockets.get(id(handle), ()):
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(number)) as ended:
                ended.shutdown(socket.SHUT_RDWR)
        client = handle._client  # type: ignore[union-attr]
        handle._closed = True  # type: ignore[union-attr]
        if client is not None:
            client.shutdown()


def open_sockets() -> set[int]:
    """The descriptors of this process that are sockets."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                found.add(int(name))
    return found


class TestPulsar(EngineContract):
    @pytest.fixture
    def backend(self, pulsar_broker: Shared) -> Iterator[Backend]:
        with PulsarBackend(pulsar_broker) as backend:
            yield backend


class PulsarMachine(EngineMachine):
    broker: ClassVar[Shared]

    @classmethod
    def make_backend(cls) -> Backend:
        return PulsarBackend(cls.broker)


@pytest.fixture(scope="module", autouse=True)
def machines_broker(pulsar_broker: Shared) -> None:
    """The machine makes its backends itself."""
    PulsarMachine.broker = pulsar_broker


TestPulsarMachine = PulsarMachine.TestCase
# Each step takes real time. In CI always the same runs, elsewhere new ones each time.
TestPulsarMachine.settings = settings(
    max_examples=5, stateful_step_count=20, deadline=None, derandomize="CI" in os.environ
)

"""The contract suite and the state machine over queues in memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from minionize.contracts.engine import Engine, Queue
from minionize.engines.memory import drop
from minionize.testing import Backend, EngineContract, EngineMachine

_numbers = itertools.count()


class MemoryBackend(Backend):
    streams = False

    def __init__(self) -> None:
        self.name = f"contract-{next(_numbers)}"
        super().__init__(f"memory:{self.name}")

    def crash(self, handle: Engine | Queue) -> None:
        """Whoever isn't heard of any more is dead when its lease is over: nothing to do."""

    def close(self) -> None:
        super().close()
        drop(self.name)


class TestMemory(EngineContract):
    @pytest.fixture
    def backend(self) -> Iterator[Backend]:
        with MemoryBackend() as backend:
            yield backend


class MemoryMachine(EngineMachine):
    make_backend = MemoryBackend


TestMemoryMachine = MemoryMachine.TestCase

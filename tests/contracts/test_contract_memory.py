"""The contract suite and the state machine over queues in memory."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

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
# In CI always the same runs, elsewhere new ones each time.
TestMemoryMachine.settings = settings(
    max_examples=300, deadline=None, derandomize="CI" in os.environ
)

"""The contract suite and the state machine over sweeps of the real execo."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import settings

from minionize.contracts.engine import Engine, Queue
from minionize.engines.execo import ExecoEngine, ExecoQueue
from minionize.testing import Backend, EngineContract, EngineMachine


class ExecoBackend(Backend):
    streams = False

    def __init__(self) -> None:
        self.parent = tempfile.mkdtemp(prefix="execo-contract-")
        super().__init__(f"execo:{self.parent}/sweep")

    def crash(self, handle: Engine | Queue) -> None:
        assert isinstance(handle, (ExecoEngine, ExecoQueue))
        handle.abandon()

    def close(self) -> None:
        super().close()
        shutil.rmtree(self.parent)


class TestExeco(EngineContract):
    @pytest.fixture
    def backend(self) -> Iterator[Backend]:
        with ExecoBackend() as backend:
            yield backend


class ExecoMachine(EngineMachine):
    make_backend = ExecoBackend


TestExecoMachine = ExecoMachine.TestCase
# In CI always the same runs, elsewhere new ones each time.
TestExecoMachine.settings = settings(max_examples=40, deadline=None, derandomize="CI" in os.environ)

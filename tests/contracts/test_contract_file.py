"""The contract suite and the state machine over queues in folders."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import settings

from minionize.contracts.engine import Engine, Queue
from minionize.engines.file.minion import FileEngine
from minionize.engines.file.people import FileQueue
from minionize.testing import Backend, EngineContract, EngineMachine


class FileBackend(Backend):
    def __init__(self) -> None:
        self.parent = tempfile.mkdtemp(prefix="file-contract-")
        super().__init__(f"file:{self.parent}/queue")

    def crash(self, handle: Engine | Queue) -> None:
        """Its descriptors close, and with them its locks; nothing else happens any more."""
        assert isinstance(handle, (FileEngine, FileQueue))
        member = handle._member if isinstance(handle, FileEngine) else handle._feeder
        if member is not None:
            member.close_in_child()

    def close(self) -> None:
        super().close()
        shutil.rmtree(self.parent)


class TestFile(EngineContract):
    @pytest.fixture
    def backend(self) -> Iterator[Backend]:
        with FileBackend() as backend:
            yield backend


class FileMachine(EngineMachine):
    make_backend = FileBackend


TestFileMachine = FileMachine.TestCase
# In CI always the same runs, elsewhere new ones each time.
TestFileMachine.settings = settings(max_examples=40, deadline=None, derandomize="CI" in os.environ)

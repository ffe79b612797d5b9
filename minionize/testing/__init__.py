"""The contract suite, for every engine: also for yours.

Two things run over an engine. `EngineContract` states each sentence of
`minionize.contracts.engine` as a test. `EngineMachine` (Hypothesis) does put, lease, start, ack,
nack, bury, extend, crash, expire, reopen, requeue, purge and pause in any order against a small
model of where each param may be. Both need a `Backend`: how to open your queue, crash a minion
and let time pass. For an engine whose scheme the registry knows:

    import pytest
    from minionize.testing import Backend, EngineContract, EngineMachine

    class MyBackend(Backend):
        def __init__(self):
            super().__init__(f"mine:{fresh_name()}")   # an empty queue of its own for each test

        def crash(self, handle):
            handle.connection.abort()                  # as kill -9 would: nothing is written

    class TestContract(EngineContract):
        @pytest.fixture
        def backend(self):
            with MyBackend() as backend:
                yield backend

    class MyMachine(EngineMachine):
        make_backend = MyBackend

    TestMachine = MyMachine.TestCase

What a broker can't do is said in the engine's `Traits`; tests of that are skipped.
pytest and hypothesis must be installed (`pip install 'minionize[dev]'`).
"""

from __future__ import annotations

import pytest

# Before the modules are imported, or their asserts would not show values.
for _name in ("contract", "leasing", "settling", "crashing", "filling", "steering", "machine"):
    pytest.register_assert_rewrite(f"{__name__}.{_name}")

from minionize.testing.backend import Backend, ManualClock  # noqa: E402
from minionize.testing.contract import EngineContract  # noqa: E402
from minionize.testing.machine import EngineMachine  # noqa: E402

__all__ = ["Backend", "EngineContract", "EngineMachine", "ManualClock"]

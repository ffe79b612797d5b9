"""The contract suite: one class, whose tests are the sentences of `contracts/engine.py`."""

from __future__ import annotations

import pytest

from minionize.testing.backend import Backend
from minionize.testing.crashing import Crashing
from minionize.testing.filling import Filling
from minionize.testing.idling import Idling
from minionize.testing.leasing import Leasing
from minionize.testing.settling import Settling
from minionize.testing.steering import Steering


class EngineContract(Leasing, Settling, Crashing, Filling, Steering, Idling):
    """Inherit, and give it a fixture `backend`: a fresh, empty queue for each test."""

    @pytest.fixture
    def backend(self) -> Backend:
        """Which queue the suite runs over; your subclass says it."""
        raise pytest.UsageError(f"{type(self).__name__} needs a fixture `backend`")

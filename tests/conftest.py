"""What all tests share: a clean environment, and the rule for tests that need a server."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NoReturn

import pytest
from hypothesis import settings

# How long an example takes says more about the machine's other work than about the code.
settings.register_profile("minionize", deadline=None)
settings.load_profile("minionize")

# A developer's own settings, or the scheduler that this runs under, decide nothing here.
for name in list(os.environ):
    if name.startswith(("MINION_", "REPORTER_", "EXECO_", "OAR_", "SLURM_", "PBS_")):
        del os.environ[name]


@pytest.fixture
def needs_server() -> Callable[[str], NoReturn]:
    """Call it with the reason where a server is missing: skips; fails in `tests/run.sh all`."""

    def missing(reason: str) -> NoReturn:
        if os.environ.get("MINIONIZE_TESTS") == "all":
            pytest.fail(f"needs a server: {reason}")
        pytest.skip(f"needs a server: {reason}")

    return missing

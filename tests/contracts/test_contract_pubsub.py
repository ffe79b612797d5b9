"""The contract suite and the state machine over Pub/Sub: Google's emulator in real time, and the
fake of Google's Go library, whose clock the test moves."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

import pytest
from hypothesis import Phase, seed, settings
from hypothesis.errors import FlakyStrategyDefinition
from hypothesis.stateful import run_state_machine_as_test
from services.processes import ServerFailed
from services.pubsub import (
    Fake,
    Pubsub,
    emulator_jar,
    fresh,
    running,
    start_emulator,
    start_fake,
    why_no_emulator,
)

from minionize.contracts.engine import Engine, Queue
from minionize.engines.pubsub import PubsubEngine, PubsubQueue
from minionize.testing import Backend, EngineContract, EngineMachine, ManualClock
from minionize.values import Clock


class RealClock(ManualClock):
    """The machine's own clock, advanced by waiting."""

    def advance(self, seconds: float) -> None:
        time.sleep(seconds)

    def monotonic(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class PubsubBackend(Backend):
    def __init__(self, server: Pubsub) -> None:
        name = fresh("contract")
        super().__init__(f"pubsub://tests/{name}?subscription={name}-sub", env=server.env)
        self.server = server

    def crash(self, handle: Engine | Queue) -> None:
        if isinstance(handle, PubsubEngine):
            handle.abandon()
        else:
            assert isinstance(handle, PubsubQueue)


class EmulatorBackend(PubsubBackend):
    lease_s = 2.0

    def __init__(self, server: Pubsub) -> None:
        super().__init__(server)
        self.clock = RealClock()


class FakeBackend(PubsubBackend):
    """The fake's deadlines and the engine's clock are moved together.

    It drops what nobody took for 10 minutes of its clock: short leases make that far away.
    """

    lease_s = 6.0

    def __init__(self, server: Fake) -> None:
        super().__init__(server)
        self.clock = _OneClock(server)

    def engine(self, clock: Clock | None = None) -> Engine:
        """One that waits as at Google: the fake knows when a pull is given up."""
        engine = super().engine(clock)
        assert isinstance(engine, PubsubEngine)
        engine.wire.waits = True
        return engine


class _OneClock(ManualClock):
    def __init__(self, server: Fake) -> None:
        super().__init__()
        self._server = server
        server.set_time(self.time())

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        self._server.set_time(self.time())


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pubsub | None]:
    if emulator_jar() is None:
        yield None
        return
    with running(start_emulator(tmp_path_factory.mktemp("pubsub"))) as server:
        yield server


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fake | str]:
    try:
        server = start_fake(tmp_path_factory.mktemp("pstest"))
    except ServerFailed as error:
        yield str(error)
        return
    yield server
    server.stop()


def missing(reason: str, needs_server: Callable[[str], NoReturn]) -> NoReturn:
    """One of the two servers is enough, so the other one may be missing anywhere."""
    if emulator_jar() is not None or shutil.which("go"):
        pytest.skip(reason)
    needs_server(reason)


class TestEmulator(EngineContract):
    @pytest.fixture
    def backend(
        self, emulator: Pubsub | None, needs_server: Callable[[str], NoReturn]
    ) -> Iterator[Backend]:
        if emulator is None:
            missing(why_no_emulator(), needs_server)
        with EmulatorBackend(emulator) as backend:
            yield backend


def test_any_order_of_everything_on_the_emulator(
    emulator: Pubsub | None, needs_server: Callable[[str], NoReturn]
) -> None:
    if emulator is None:
        missing(why_no_emulator(), needs_server)
    _any_order(lambda: EmulatorBackend(emulator), runs=1, examples=2, steps=15)


def test_any_order_of_everything_on_the_fake(
    fake: Fake | str, needs_server: Callable[[str], NoReturn]
) -> None:
    if isinstance(fake, str):
        missing(fake, needs_server)
    _any_order(lambda: FakeBackend(fake), runs=12, examples=8, steps=50)


def _any_order(backend: Callable[[], Backend], *, runs: int, examples: int, steps: int) -> None:
    """Runs of a few examples each: the order in which a server delivers is its own, and ends a
    run that Hypothesis began to repeat. What the model found wrong is never passed over."""

    class Machine(EngineMachine):
        make_backend = staticmethod(backend)

    some = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=[Phase.generate],
    )
    # In CI always the same runs, elsewhere new ones each time.
    first = 0 if "CI" in os.environ else time.time_ns()
    for number in range(first, first + runs):
        seed(number)(Machine)
        try:
            run_state_machine_as_test(Machine, settings=some)
        except FlakyStrategyDefinition as error:
            cause: BaseException | None = error
            while cause is not None:
                assert not isinstance(cause, AssertionError), cause
                cause = cause.__context__


class TestFake(EngineContract):
    @pytest.fixture
    def backend(
        self, fake: Fake | str, needs_server: Callable[[str], NoReturn]
    ) -> Iterator[Backend]:
        if isinstance(fake, str):
            missing(fake, needs_server)
        with FakeBackend(fake) as backend:
            yield backend

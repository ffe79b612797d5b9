"""Sentences about idle minions that see each other, so that all but a few can leave."""

from __future__ import annotations

from collections.abc import Collection
from itertools import repeat

import pytest

from minionize.contracts.engine import Engine, TellsIdle
from minionize.testing.backend import Backend
from minionize.values import Lease


class Idling:
    """Part of EngineContract."""

    def test_idle_ones_are_ordered_by_id(self, backend: Backend) -> None:
        backend.filled(range(3))
        engines = _engines(backend, 4)
        _live(backend, *zip(engines, repeat([])))
        assert [_before(engine) for engine in engines] == [0, 1, 2, 3]
        assert _before(engines[3], enough=2) == 2
        assert _before(engines[3], enough=1) == 1

    def test_who_holds_a_param_is_not_idle(self, backend: Backend) -> None:
        backend.filled(range(3))
        engines = _engines(backend, 3)
        held = backend.get(engines[0], 2)
        _live(backend, (engines[0], held), (engines[1], []), (engines[2], []))
        assert [_before(engine) for engine in engines] == [0, 0, 1]
        engines[0].ack(held[:1])
        engines[0].nack(held[1:])
        _live(backend, *zip(engines, repeat([])))
        assert _before(engines[2]) == 2
        # Now a suspect, which comes from another place.
        held = backend.get(engines[0], 1)
        backend.kill(engines[0])
        for _ in range(3):
            _live(backend, (engines[1], []), (engines[2], []))
        backend.get(engines[1], 1)
        assert _before(engines[2]) == 0

    def test_who_stands_still_does_not_count_though_its_lease_is_not_over(
        self, backend: Backend
    ) -> None:
        """Otherwise all would leave, for one that is dead."""
        backend.filled(range(3))
        engines = _engines(backend, 2)
        _live(backend, *zip(engines, repeat([])))
        assert _before(engines[1]) == 1
        _live(backend, (engines[1], []))
        assert _before(engines[1]) == 0
        # It only stood still.
        _live(backend, *zip(engines, repeat([])))
        assert _before(engines[1]) == 1

    def test_who_leaves_does_not_count(self, backend: Backend) -> None:
        backend.filled(range(3))
        engines = _engines(backend, 3)
        _live(backend, *zip(engines, repeat([])))
        assert _before(engines[2]) == 2
        engines[0].close()
        assert _before(engines[2]) == 1

    def test_feeders_and_people_are_no_minions(self, backend: Backend) -> None:
        queue = backend.filled(range(3))
        with queue.feeding():
            (engine,) = _engines(backend, 1)
            _live(backend, (engine, []))
            assert _before(engine) == 0


def _engines(backend: Backend, many: int) -> list[Engine]:
    """In the order of their ids."""
    engines = [backend.engine() for _ in range(many)]
    if not isinstance(engines[0], TellsIdle):
        pytest.skip("nobody knows there who is idle")
    return engines


def _live(backend: Backend, *alive: tuple[Engine, Collection[Lease]]) -> None:
    """Half a lease passes, in which these beat, and look at each other."""
    for _ in range(2):
        for engine, _ in alive:
            _before(engine)
        backend.pass_time(backend.lease_s / 4 + 0.01, *alive)


def _before(engine: Engine, enough: int = 10) -> int | None:
    assert isinstance(engine, TellsIdle)
    return engine.idle_before(enough)

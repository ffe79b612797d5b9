"""What a function crew tells its guard, if it has one."""

from __future__ import annotations

from minionize.worker.guard import Guard


class Guarded:
    """A guard, or none."""

    def __init__(self, guard: Guard | None, minion_id: str) -> None:
        self._guard = guard
        if guard is not None:
            guard.arm(minion_id)

    def hold(self, index: int, pid: int) -> None:
        """Kill this process group when the minion dies."""
        if self._guard is not None:
            self._guard.hold(index, pid)

    def release(self, *indexes: int) -> None:
        """These are gone."""
        if self._guard is not None:
            for index in indexes:
                self._guard.release(index)

    def rounds(self) -> int:
        """As of Guard."""
        return 0 if self._guard is None else self._guard.rounds()

    def killed_since(self, rounds: int) -> bool:
        """Whether the guard killed what was started then, since it took the minion for hung."""
        return self._guard is not None and self._guard.killed_since(rounds)

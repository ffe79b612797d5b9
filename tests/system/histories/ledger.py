"""The reference: what the queue must hold, by nothing but what its commands returned."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field


class Put(enum.Enum):
    """What is known of a feed."""

    WHOLE = "whole"
    UNKNOWN = "unknown"
    """It was killed, or could not reach the queue at some point: none, or (where a feed is put
    whole or not at all) all of it was put."""


@dataclass
class Batch:
    """What one command fed."""

    numbers: list[int]
    put: Put = Put.UNKNOWN


@dataclass
class Ledger:
    """What commands said, added up."""

    batches: list[Batch] = field(default_factory=list)
    does: dict[int, str] = field(default_factory=dict)
    """What the run of each number does."""
    purged: int = 0
    purged_unsaid: bool = False
    """A purge could not say how many it dropped."""

    def batch(self, does: Iterable[str]) -> Batch:
        """Numbers that nothing else has, for a feed that is about to begin."""
        first = len(self.does) + 1
        self.does.update(enumerate(does, first))
        made = Batch(list(range(first, len(self.does) + 1)))
        self.batches.append(made)
        return made

    def lines(self, numbers: Iterable[int]) -> list[str]:
        """The params of these numbers, as lines of JSON."""
        return [f'{{"n":{number},"does":"{self.does[number]}"}}' for number in numbers]

    def dropped(self, count: int | None) -> None:
        """A purge said how many; None: it could not."""
        if count is None:
            self.purged_unsaid = True
        else:
            self.purged += count

    def of(self, put: Put) -> list[Batch]:
        """The feeds of which this is known."""
        return [batch for batch in self.batches if batch.put is put]

    def numbers(self, put: Put) -> set[int]:
        """Their numbers."""
        return {number for batch in self.of(put) for number in batch.numbers}

    def may_be_put(self, count: int, *, whole: bool) -> bool:
        """Whether a queue can hold so many in all. `whole`: a feed is put whole or not at all."""
        left = count - sum(len(batch.numbers) for batch in self.of(Put.WHOLE))
        sizes = [len(batch.numbers) for batch in self.of(Put.UNKNOWN)]
        if not whole:
            return 0 <= left <= sum(sizes)
        sums = {0}
        for size in sizes:
            sums |= {one + size for one in sums}
        return left in sums

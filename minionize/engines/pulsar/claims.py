"""The copies that stand for what a minion holds, and those of them that count for nothing."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

from minionize.contracts.engine import EngineOptions
from minionize.engines.pulsar.decoding import envelope, letter
from minionize.engines.pulsar.holding import Held
from minionize.engines.pulsar.place import lease_margin_s
from minionize.engines.pulsar.sending import Letter

_CLAIM = "mz_claim"
"""Property of a copy: its name, which no other has."""


class Claims:
    """Of one minion."""

    def __init__(self, options: EngineOptions) -> None:
        self._owner = f"{options.minion_id}.{secrets.token_hex(4)}"
        self._clock = options.clock
        self._lease_s = options.lease_s
        self._margin_s = lease_margin_s(options.lease_s)
        self.spare_s = self._margin_s / 4
        """A lease that is renewed so late is good until then nevertheless."""
        self._count = 0
        self._void: set[str] = set()

    def letters(self, some: Sequence[Held], *, marked: bool) -> list[Letter]:
        """Copies to be delivered when the lease that begins now is over. They charge a crash to
        what is `marked`, or was before."""
        due = self._clock.time() + self._lease_s
        letters = []
        for held in some:
            copy = envelope(held.lease)
            crashes = copy.crashes + (marked or held.marked)
            copy = copy._replace(crashes=crashes, suspect=True, not_before=due)
            plain = letter(copy, self._lease_s + self._margin_s)
            self._count += 1
            name = {_CLAIM: f"{self._owner}.{self._count}"}
            letters.append(plain._replace(properties={**plain.properties, **name}))
        return letters

    def failed(self, letters: Sequence[Letter]) -> None:
        """Whether these are stored is not known: the answer was lost, or is late. What they were
        to stand for has its old place. This minion drops those that come to it."""
        self._void.update(each.properties[_CLAIM] for each in letters)

    def is_void(self, properties: Mapping[str, str]) -> bool:
        """Whether a message is one of those."""
        return bool(self._void) and properties.get(_CLAIM) in self._void

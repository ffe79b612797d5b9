"""minionize from Python: queues, minions, and functions that become minions.

    with open_queue("file:minion-queue") as queue:
        queue.put({"lr": lr} for lr in (0.1, 0.01))

    summary = minionizer(FuncCallback(train), slots=8).run()

    @minionize
    def simulate(lr, seed): ...

    simulate.put(grid); simulate.work(slots=4); rows = list(simulate.results())

Settings are those of the command line, by the same names (`slots=8`, `timeout="1m"`,
`queue="runs/q"`), and come from the same places: what is given here, the environment, `.env`,
`.minionize.yml`, defaults. Lines for a person go to the logger `minionize`.
"""

from __future__ import annotations

from minionize.api.decorator import Minionized, minionize
from minionize.api.minions import minionizer
from minionize.api.queues import QueueHandle, open_queue

__all__ = ["Minionized", "QueueHandle", "minionize", "minionizer", "open_queue"]

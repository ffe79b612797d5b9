"""The execo engine: sweeps that execo's own ParamSweeper made, shared with its other users.

`execo:DIR` is the sweep in the folder DIR; without DIR, in EXECO_PERSISTENCE_DIR or `sweeps`.
What ParamSweeper calls todo, in progress and done is what minions go by: a lease is
`get_next_batch`, an ack `done_batch`, a give-back `cancel_batch`; nothing is ever skipped.
Programs that use ParamSweeper themselves may work on the same sweep at the same time.

What execo has no words for stands in DIR/minionize (see `ledger.py` and `room.py`): who holds
what, attempts, crashes, delays, dead letters. For execo a dead letter is todo, as it truly is;
minions leave it alone until it is put back with `minion retry`.

A combination in progress that no minion holds is run by somebody with execo alone, or was left
behind by a program that died. It is handed out again when a minion saw it stand like that for a
whole lease. Where others run long combinations on the same sweep, give them the time that they
need, in seconds: `execo:DIR?strangers=86400`, or `strangers=never`.

Params are the combinations as JSON. Ids are the combination itself where it is a word or a
number, else a hash of its JSON. A put adds to the file `sweeps`: execo keeps that whole in
memory, and equal combinations are one.

execo asks for its locks without a limit of time: a stopped process that holds one stops all.
"""

from __future__ import annotations

from math import inf

from minionize.contracts.engine import EngineOptions
from minionize.engines.execo.library import sweep_module
from minionize.engines.execo.minion import ExecoEngine
from minionize.engines.execo.queue import ExecoQueue
from minionize.engines.execo.room import Room
from minionize.errors import UsageError

__all__ = ["ExecoEngine", "ExecoQueue", "open_engine", "open_queue"]


def open_engine(address: str, options: EngineOptions) -> ExecoEngine:
    """Join the sweep as a minion. NoSuchQueue if it is missing."""
    return ExecoEngine(_room(address, options))


def open_queue(address: str, options: EngineOptions) -> ExecoQueue:
    """A person's face of the sweep; `put` makes it if it is missing."""
    return ExecoQueue(_room(address, options))


def _room(address: str, options: EngineOptions) -> Room:
    sweep_module()  # a missing execo is told before a missing sweep
    folder, mark, strangers = address.partition("?strangers=")
    strangers_s = options.lease_s
    if mark:
        try:
            strangers_s = inf if strangers == "never" else float(strangers)
        except ValueError:
            raise UsageError(
                f"queue execo:{address}: strangers={strangers} is neither seconds nor never"
            ) from None
    folder = folder or options.env.get("EXECO_PERSISTENCE_DIR") or "sweeps"
    return Room(folder.rstrip("/") or "/", strangers_s, options)

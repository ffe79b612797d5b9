"""What goes when a param is done: its checkpoint folder."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from minionize.engines.file.held import Held
from minionize.engines.file.room import Room
from minionize.engines.file.slot import Piece


class Shrunk(NamedTuple):
    """A claim that covers less than before."""

    held: Held
    before: list[Piece]
    after: list[Piece]
    elsewhere: set[int]
    """Positions that were not settled: they went to another place."""


def remove_checkpoints(room: Room, shrunk: Iterable[Shrunk]) -> None:
    """Remove the checkpoint folders of what was settled: covered before, neither covered now nor
    moved elsewhere. Where nobody uses checkpoints that is one system call, not one per param."""
    if not room.calls.exists(room.checkpoints):
        return
    for held, before, after, elsewhere in shrunk:
        kept = {position for begin, end in after for position in range(begin, end)}
        kept |= elsewhere
        for begin, end in before:
            for position in range(begin, end):
                if position not in kept:
                    remove_checkpoint(room, held.ids.get(position, position))


def remove_checkpoint(room: Room, number: int) -> None:
    """Remove the checkpoint folder of one param that is done."""
    path = f"{room.checkpoints}/{number}"
    if room.calls.exists(path):
        room.calls.remove_tree(path)

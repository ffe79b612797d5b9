"""What goes when a param is done: its checkpoint folder."""

from __future__ import annotations

from collections.abc import Iterable

from minionize.engines.file.held import Held
from minionize.engines.file.room import Room
from minionize.engines.file.slot import Piece


def remove_checkpoints(
    room: Room, gone: Iterable[tuple[Held, list[Piece]]], leaving: dict[int, set[int]]
) -> None:
    """Remove the checkpoint folders of what was settled: covered before, neither covered now nor
    moved elsewhere. Where nobody uses checkpoints that is one system call, not one per param."""
    if not room.calls.exists(room.checkpoints):
        return
    for held, after in gone:
        kept = {position for begin, end in after for position in range(begin, end)}
        kept |= leaving.get(held.serial, set())
        for begin, end in held.pieces:
            for position in range(begin, end):
                if position not in kept:
                    remove_checkpoint(room, held.ids.get(position, position))


def remove_checkpoint(room: Room, number: int) -> None:
    """Remove the checkpoint folder of one param that is done."""
    path = f"{room.checkpoints}/{number}"
    if room.calls.exists(path):
        room.calls.remove_tree(path)

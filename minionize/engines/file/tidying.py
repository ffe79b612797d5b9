"""Files that nothing can name any more: found under the lock, removed without it."""

from __future__ import annotations

from typing import NamedTuple

from minionize.engines.file import slot as slots
from minionize.engines.file.head import FIRST, LOW, Head
from minionize.engines.file.head_file import unavailable
from minionize.engines.file.member import remove_leftovers
from minionize.engines.file.room import Room

_AT_ONCE = 512


class Litter(NamedTuple):
    """What may go."""

    lives: list[str]
    """Folders of members that hold no slot."""
    files: list[str]
    """Batches that were taken whole, and that no slot claims."""


def find_litter(room: Room, head: Head) -> Litter:
    """Inside a visit. Whoever joins makes its folder under the lock, and batches are taken under
    it: so what neither state nor slots name now, nothing will."""
    alive: set[str] = set()
    claimed: set[tuple[str, int]] = set()
    for record in room.head.slots():
        slot = slots.decode(record)
        if slot.state != slots.FREE:
            alive.add(slot.folder)
            claimed.update((claim.source, claim.batch) for claim in slot.claims)
    try:
        names = room.calls.names(f"{room.path}/minions")
    except OSError as error:
        raise unavailable(error, "cannot list", f"{room.path}/minions") from error
    lives = [name for name in names if name not in alive]
    files: list[str] = []
    moved = False
    for delay, folder in head.back.items():
        while folder[LOW] < folder[FIRST] and len(files) < _AT_ONCE:
            if (str(delay), folder[LOW]) in claimed:
                break
            files.append(room.file_of(str(delay), folder[LOW]))
            folder[LOW] += 1
            moved = True
    while head.homes_low <= head.homes and len(files) < _AT_ONCE:
        if ("h", head.homes_low) in claimed:
            break
        files.append(room.file_of("h", head.homes_low))
        head.homes_low += 1
        moved = True
    if moved:
        room.head.write()
    return Litter(lives, files)


def remove(room: Room, litter: Litter) -> None:
    """Without the lock. What can't be removed only takes up room."""
    for path in litter.files:
        room.batches.forget(path)
        try:
            room.calls.unlink(path)
        except OSError:
            continue
    for name in litter.lives:
        remove_leftovers(room, name)

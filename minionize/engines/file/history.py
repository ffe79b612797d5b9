"""Everything ever put, in order: segments are kept, whatever becomes of their params."""

from __future__ import annotations

from collections.abc import Iterator

from minionize.engines.file.batches import NotVisible
from minionize.engines.file.room import Room
from minionize.engines.file.slot import Claim
from minionize.engines.file.texts import Texts
from minionize.errors import EngineUnavailable


def history(room: Room, texts: Texts, after: int) -> Iterator[tuple[int, str]]:
    """Ids above `after` with the JSON texts of their params, as of now."""
    with room.head as head:
        put, segments = head.put, head.segments
    if after >= put:
        return
    try:
        segment = texts.search(after + 1, segments).number
        for _, record in texts.records(Claim("p", segment, 0, ((after + 1, put + 1),))):
            yield record.id, record.text
    except NotVisible as error:
        raise EngineUnavailable(
            f"{error.path} is not visible from this host yet: try again in a minute"
        ) from error

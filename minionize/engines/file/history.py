"""Everything ever put, in order: segments are kept, whatever becomes of their params, until a
person has the oldest forgotten."""

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
        put, segments, low = head.put, head.segments, head.kept_segment
        after = max(after, head.kept_id - 1)
    if after >= put:
        return
    try:
        segment = texts.search(after + 1, segments, low).number
        for _, record in texts.records(Claim("p", segment, 0, ((after + 1, put + 1),))):
            yield record.id, record.text
    except NotVisible as error:
        raise EngineUnavailable(
            f"{error.path} is not visible from this host yet: try again in a minute"
        ) from error

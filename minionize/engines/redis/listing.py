"""Looking into a queue, a page at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from minionize.engines.redis.messages import entry_of
from minionize.engines.redis.place import Place
from minionize.engines.redis.wire import Wire
from minionize.errors import MinionizeError
from minionize.values import Entry, State

_PAGE = 200
_STREAMS = {
    State.WAITING: ("suspects", "back", "main"),
    State.RUNNING: ("suspects", "back", "main"),
    State.DELAYED: ("later",),
    State.DEAD: ("dead",),
}


class Listing:
    """Reads, and changes nothing but that announced parts of a large put get their places."""

    def __init__(self, place: Place, wire: Wire) -> None:
        self._place = place
        self._wire = wire

    def scan(self, state: State) -> Iterator[Entry]:
        """All in `state`."""
        if state is State.WAITING:
            self._unload()
        for stream in _STREAMS[state]:
            yield from self._pages(stream, state)

    def look_up(self, ids: Collection[str]) -> dict[str, Entry]:
        """Those of `ids` that are there. What was given back has to be looked for."""
        found: dict[str, Entry] = {}
        wanted = list(dict.fromkeys(ids))
        for first in range(0, len(wanted), _PAGE):
            some = wanted[first : first + _PAGE]
            for id_, state, message, fields, holder in self._wire.checked("find", *some)[1:]:
                stream = "dead" if state == b"dead" else "main"
                found[id_.decode()] = entry_of(
                    self._place,
                    stream,
                    message.decode(),
                    fields,
                    State(state.decode()),
                    holder.decode(),
                )
        left = set(wanted) - set(found)
        for state in (State.RUNNING, State.WAITING, State.DELAYED):
            for stream in _STREAMS[state]:
                if stream != "main" and left:
                    for entry in self._pages(stream, state):
                        if entry.id in left:
                            found[entry.id] = entry
                            left.discard(entry.id)
        return found

    def _pages(self, stream: str, state: State) -> Iterator[Entry]:
        running = int(state is State.RUNNING)
        begin = b"-"
        while True:
            _, *page = self._wire.checked("list", stream, running, begin, _PAGE)
            for message, fields, extra in page:
                if not fields and stream != "main":
                    continue
                yield entry_of(self._place, stream, message.decode(), fields, state, _text(extra))
            if len(page) < _PAGE:
                return
            begin = b"(" + page[-1][0]

    def _unload(self) -> None:
        try:
            while self._wire.run("unload", "", 0):
                pass
        except MinionizeError:
            return  # who may only look sees what is in the stream


def _text(extra: bytes | int) -> str:
    return extra.decode() if isinstance(extra, bytes) else str(extra)

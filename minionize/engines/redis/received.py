"""What a minion has received of what was delivered to it."""

from __future__ import annotations

from collections.abc import Iterable

NOTHING = ("", "", "")
"""There is nothing to ask for again."""


class Received:
    """The newest message of each stream: of suspects, of what was given back, of the main one.

    Ids grow with each delivery of a stream. So what is pending for us and newer got lost on its
    way, and is delivered again when it is asked for.
    """

    def __init__(self) -> None:
        self.unsure = False
        """An answer got lost, or is on its way."""
        self._last = ("0-0", "0-0", "0-0")

    def asking(self) -> tuple[str, str, str]:
        """Call it before asking, until whose answer we are unsure. Returns the newest messages
        if we are so already."""
        last = self._last if self.unsure else NOTHING
        self.unsure = True
        return last

    def note(self, tokens: Iterable[bytes], ids: bytes) -> None:
        """These arrived: `tokens` in any order, `ids` of the main stream, a line each, in order."""
        suspects, back, main = self._last
        for token in tokens:
            letter = token[:1]
            if letter == b"s":
                suspects = _newer(suspects, token[1:])
            elif letter == b"b":
                back = _newer(back, token[1:])
            else:
                main = _newer(main, token)
        if ids:
            main = _newer(main, ids[ids.rfind(b"\n") + 1 :])
        self._last = (suspects, back, main)


def _newer(one: str, other: bytes) -> str:
    said = other.decode()
    return max(one, said, key=_numbers)


def _numbers(id_: str) -> tuple[int, int]:
    ms, _, number = id_.partition("-")
    return int(ms), int(number)

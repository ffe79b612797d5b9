"""Publishing files: drafted and synced without the lock, named and announced under it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import NamedTuple

from minionize.engines.file.batches import MAX_LINES, encode
from minionize.engines.file.head import COUNT, LAST, Head, new_folder
from minionize.engines.file.head_file import unavailable
from minionize.engines.file.member import Member
from minionize.engines.file.room import Room
from minionize.errors import EngineUnavailable


class Draft(NamedTuple):
    """Lines that go to one folder: `p` params, a delay, `dead`, `purged` or `h`."""

    source: str
    lines: Sequence[str]
    due: float = 0.0
    delay_s: float = 0.0
    suspect: bool = False


class _File(NamedTuple):
    source: str
    path: str
    lines: int
    number: int
    first: int


class Publisher:
    """Makes drafts, with numbers guessed from what was seen last."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.next: dict[str, int] = {}
        """The number that the next file of a source will probably get."""
        self.next_id = 1

    def drafting(self, member: Member, drafts: Sequence[Draft] = ()) -> Drafting:
        """Drafts these; they are removed at the end of the `with`, announced or not."""
        return Drafting(self, member, drafts)

    def learn(self, head: Head) -> None:
        """Remember the numbers, so that the next guess is right."""
        self.next = {str(delay): folder[LAST] + 1 for delay, folder in head.back.items()}
        self.next["p"] = head.segments + 1
        self.next["dead"] = head.dead[LAST] + 1
        self.next["purged"] = head.purges + 1
        self.next["h"] = head.homes + 1
        self.next_id = head.put + 1


class Drafting(AbstractContextManager["Drafting"]):
    """Files that nothing names yet. Their names carry the generation, so they are nobody
    else's, and a take-over knows where to clean up."""

    def __init__(self, publisher: Publisher, member: Member, drafts: Sequence[Draft]) -> None:
        self._publisher = publisher
        self._room = publisher.room
        self._member = member
        self._files: list[_File] = []
        self._paths: list[str] = []
        self._counts: dict[str, int] = {}
        self._ids = 0
        self.announced: dict[str, list[int]] = {}
        """Numbers given, by source."""
        try:
            for draft in drafts:
                for begin in range(0, len(draft.lines), MAX_LINES):
                    self.add(draft, draft.lines[begin : begin + MAX_LINES])
        except BaseException:  # Ctrl-C as well
            self._discard()
            raise

    @property
    def params(self) -> int:
        """How many lines were drafted."""
        return sum(one.lines for one in self._files)

    def add(self, draft: Draft, lines: Sequence[str]) -> None:
        """Draft one file of at most `MAX_LINES` lines."""
        source = draft.source
        order = self._counts.get(source, 0)
        number = self._publisher.next.get(source, 1) + order
        first = self._publisher.next_id + self._ids if source == "p" else 0
        content = encode(
            lines,
            kind=source,
            owner=self._member.owner,
            number=number,
            first=first,
            due=draft.due,
            delay_s=draft.delay_s,
            suspect=draft.suspect,
        )
        path = self._room.draft_of(source, self._member.generation, order)
        self._paths.append(path)
        self._counts[source] = order + 1
        self._room.batches.draft(path, content)
        self._files.append(_File(source, path, len(lines), number, first))
        if source == "p":
            self._ids += len(lines)

    def announce(self, head: Head) -> None:
        """Give the files their names and numbers, and change `head`, inside a visit. They count
        once the head is written."""
        for one in self._files:
            number, first = _announce(head, one)
            if (number, first) != (one.number, one.first):
                self._room.batches.renumber(one.path, number, first)
            path = self._room.file_of(one.source, number)
            self._room.batches.forget(path)
            self._room.batches.link(one.path, path)
            self.announced.setdefault(one.source, []).append(number)
        for source in self._counts:
            folder = self._room.folder_of(source)
            try:
                self._room.calls.sync_folder(folder)
            except OSError as error:
                raise unavailable(error, "cannot publish in", folder) from error
        self._publisher.learn(head)

    def is_linked(self, source: str) -> bool:
        """Whether the last file of the source stands under the number it was given."""
        last = [one for one in self._files if one.source == source][-1]
        path = self._room.file_of(source, self.announced[source][-1])
        return self._room.calls.exists(path) and self._room.calls.same_file(last.path, path)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._discard()

    def _discard(self) -> None:
        try:
            self._room.batches.discard(self._paths)
        except EngineUnavailable:
            self._member.littered = True  # what was announced stands


def _announce(head: Head, one: _File) -> tuple[int, int]:
    source, count = one.source, one.lines
    if source == "p":
        first = head.put + 1
        head.put += count
        head.segments += 1
        return head.segments, first
    if source == "dead":
        head.dead[LAST] += 1
        head.dead[COUNT] += count
        head.settled += count
        return head.dead[LAST], 0
    if source == "purged":
        head.purges += 1
        return head.purges, 0
    if source == "h":
        head.homes += 1
        return head.homes, 0
    folder = head.back.setdefault(int(source), new_folder())
    folder[LAST] += 1
    folder[COUNT] += count
    return folder[LAST], 0

"""The head of a queue as a value, and its two copies as bytes. Nothing here touches a file.

    copy A | copy B | slot 0 | slot 1 | ...

A copy is one line with format, sequence, length and checksum, one line of state, and one line
for each slot that changed since the slots were last written in place (the redo list): so state
and slots change in one write, and a torn write leaves the other copy as it was.
"""

from __future__ import annotations

import json
import zlib
from typing import NamedTuple

from minionize.errors import ForeignVersion

VERSION = 1
COPY_BYTES = 16384
SLOT_BYTES = 4096
SLOTS_AT = 2 * COPY_BYTES
GROW_BY = 32
"""Slots are written with zeros beforehand, this many at a time: a full disk can't stop a settle."""

_MAGIC = b"minionize head "
_LINE = b"%s%d %016d %06d %08x\n"
_LINE_BYTES = len(_LINE % (_MAGIC, VERSION, 0, 0, 0))
_MAX_BODY = COPY_BYTES - _LINE_BYTES
_IN_PLACE = b"%08x %04d "
_IN_PLACE_AT = len(_IN_PLACE % (0, 0))
GLIMPSE_BYTES = 2048
"""The first line of a copy and its state are shorter."""

FIRST, OFFSET, LAST, COUNT, LOW = range(5)
"""Of a folder of batches: the first batch with entries that were not taken, how many of it are
taken, the last batch announced, entries not taken, the lowest file not yet removed."""

Folder = list[int]


def new_folder() -> Folder:
    """A folder of batches that has none yet."""
    return [1, 0, 0, 0, 1]


class Head:
    """State and changed slots. A param is in exactly one place that this names."""

    __slots__ = (
        "back",
        "changed",
        "clock",
        "cursor",
        "dead",
        "edits",
        "feeders",
        "free",
        "hint",
        "homes",
        "homes_low",
        "kept_id",
        "kept_segment",
        "lives",
        "minions",
        "paused",
        "placed",
        "purged",
        "purges",
        "put",
        "redo",
        "segments",
        "sequence",
        "settled",
        "size",
        "stops",
        "sweeper",
    )

    def __init__(self) -> None:
        self.sequence = 0
        self.clock = 0.0
        """Unix time of the last write, by the clock that was ahead of all others."""
        self.put = 0
        """Params announced; ids are 1 to put."""
        self.cursor = 1
        """The first id that was never taken."""
        self.hint = 1
        """A segment at or before the one with `cursor`."""
        self.segments = 0
        """The last segment announced."""
        self.kept_segment = 1
        """The first segment that is kept."""
        self.kept_id = 1
        """Its first id: what was done before it is forgotten, and stays counted."""
        self.settled = 0
        """Done, dead or purged."""
        self.purged = 0
        self.purges = 0
        """The last batch of purged ids."""
        self.homes = 0
        """The last batch that some minion made of what it holds."""
        self.homes_low = 1
        """The lowest of them not yet removed."""
        self.lives = 0
        """Generations given out: each is of one slot, for one time."""
        self.edits = 0
        """How often params were moved that were not leased: two such at once would clash."""
        self.paused = 0
        self.stops = 0
        self.minions = 0
        self.feeders = 0
        self.size = 0
        """Slots that have room."""
        self.placed = 0
        """Slots from here on were never written in place."""
        self.free = 0
        """No slot before this one is free: a minion that joins need not look at them."""
        self.sweeper = (-1, 0)
        """Slot and generation of the minion that watches over the others."""
        self.dead = new_folder()
        self.back: dict[int, Folder] = {}
        """Given back, by the seconds of their delay."""
        self.redo: dict[int, str] = {}
        """Slots as committed, newer than those in place."""
        self.changed: dict[int, str] = {}
        """Slots that the next write changes."""

    @property
    def fresh(self) -> int:
        """Params that were never taken."""
        return self.put + 1 - self.cursor

    @property
    def returned(self) -> int:
        """Params given back and not taken since."""
        return sum(folder[COUNT] for folder in self.back.values())

    @property
    def running(self) -> int:
        """Params in claims: all that is nowhere else."""
        return self.put - self.settled - self.fresh - self.returned

    def encode_state(self) -> str:
        """One line of JSON."""
        state = {
            "put": self.put,
            "cursor": [self.cursor, self.hint],
            "segments": self.segments,
            "kept": [self.kept_segment, self.kept_id],
            "settled": self.settled,
            "purged": [self.purged, self.purges],
            "homes": [self.homes, self.homes_low],
            "lives": self.lives,
            "edits": self.edits,
            "paused": self.paused,
            "stops": self.stops,
            "alive": [self.minions, self.feeders],
            "slots": [self.size, self.placed],
            "free": self.free,
            "sweeper": list(self.sweeper),
            "dead": self.dead,
            "back": {str(delay): folder for delay, folder in self.back.items()},
            "clock": round(self.clock, 3),
        }
        return json.dumps(state, separators=(",", ":"))

    def decode_state(self, line: str) -> None:
        """Take the state from its line. KeyError, TypeError, ValueError if it is none."""
        state = json.loads(line)
        self.put = state["put"]
        self.cursor, self.hint = state["cursor"]
        self.segments = state["segments"]
        self.kept_segment, self.kept_id = state.get("kept", (1, 1))  # as `free`
        self.settled = state["settled"]
        self.purged, self.purges = state["purged"]
        self.homes, self.homes_low = state["homes"]
        self.lives = state["lives"]
        self.edits = state["edits"]
        self.paused = state["paused"]
        self.stops = state["stops"]
        self.minions, self.feeders = state["alive"]
        self.size, self.placed = state["slots"]
        self.free = state.get("free", 0)  # an older version drops it
        slot, generation = state["sweeper"]
        self.sweeper = (slot, generation)
        self.dead = state["dead"]
        self.clock = state["clock"]
        self.back = {int(delay): folder for delay, folder in state["back"].items()}


def encode_copy(head: Head, *, with_redo: bool) -> bytes | None:
    """The next copy: state and the slots that changed (with those of the redo list, or only the
    new ones, when the others were written in place). None if it is too large for its place."""
    slots = {**head.redo, **head.changed} if with_redo else head.changed
    lines = [head.encode_state()]
    lines += [f"{index} {record}" for index, record in slots.items()]
    body = ("\n".join(lines) + "\n").encode("ascii")
    if len(body) > _MAX_BODY:
        return None
    check = zlib.crc32(b"%d " % head.sequence + body)
    return _LINE % (_MAGIC, VERSION, head.sequence, len(body), check) + body


class Front(NamedTuple):
    """The first line of a copy."""

    sequence: int
    length: int
    check: int


def decode_front(content: bytes) -> Front | None:
    """The first line of a copy; None if it is torn, empty or noise.

    ForeignVersion if another version of minionize wrote it.
    """
    if not content.startswith(_MAGIC):
        return None
    try:
        version, sequence, length, check = content[len(_MAGIC) : 128].split(b"\n", 1)[0].split()
        if not version.isdigit():
            return None
        if int(version) != VERSION:
            raise ForeignVersion(
                f"it has format {int(version)}, this minionize reads format {VERSION}: "
                "use the version of minionize that made it"
            )
        return Front(int(sequence), int(length), int(check, 16))
    except ValueError:
        return None


def decode_copy(content: bytes) -> Head | None:
    """A copy as it was written; None if it is torn, empty or noise.

    ForeignVersion if another version of minionize wrote it.
    """
    front = decode_front(content)
    if front is None:
        return None
    body = content[_LINE_BYTES : _LINE_BYTES + front.length]
    if len(body) != front.length or zlib.crc32(b"%d " % front.sequence + body) != front.check:
        return None
    try:
        lines = body.decode("ascii").split("\n")
        head = Head()
        head.sequence = front.sequence
        head.decode_state(lines[0])
        for line in lines[1:-1]:
            index, record = line.split(" ", 1)
            head.redo[int(index)] = record
    except (ValueError, KeyError, TypeError):
        return None
    return head


def choose(content: bytes) -> tuple[Head | None, int]:
    """The newer whole copy of the two, and which of them (0 or 1) the next write may overwrite."""
    copies = content[:COPY_BYTES], content[COPY_BYTES : 2 * COPY_BYTES]
    first, second = map(decode_front, copies)
    # The older one is only taken apart if the newer one is broken.
    newer = int(second is not None and (first is None or second.sequence > first.sequence))
    for which in (newer, 1 - newer):
        head = decode_copy(copies[which])
        if head is not None:
            return head, 1 - which
    return None, 1


class Glimpse(NamedTuple):
    """What can be seen of the head without its lock: a hint, for it may be torn or old."""

    sequence: int
    waiting: int
    """Params that can be leased now, but for those that come back after a delay."""
    drained: bool
    stops: int
    idle: int
    """Minions that hold nothing, about; never less than a tenth of all, nor than one."""


def glimpse(content: bytes) -> Glimpse | None:
    """From the beginnings of both copies, each where it stands in `content`. Unchecked."""
    newest: Glimpse | None = None
    for at in (0, COPY_BYTES):
        begin, _, rest = content[at : at + GLIMPSE_BYTES].partition(b"\n")
        try:
            front = decode_front(begin + b"\n")
            if front is None or (newest is not None and newest.sequence >= front.sequence):
                continue
            head = Head()
            head.decode_state(rest.partition(b"\n")[0].decode("ascii"))
            at_once = head.back.get(0, new_folder())[COUNT]
        except (ForeignVersion, ValueError, KeyError, TypeError, IndexError):
            continue
        newest = Glimpse(
            sequence=front.sequence,
            waiting=0 if head.paused else head.fresh + at_once,
            drained=head.settled == head.put and not head.feeders,
            stops=head.stops,
            idle=max(head.minions - head.running, head.minions // 10, 1),
        )
    return newest


def encode_in_place(record: str) -> bytes:
    """A slot as it stands in its place."""
    content = record.encode("ascii")
    return _IN_PLACE % (zlib.crc32(content), len(content)) + content


def decode_in_place(content: bytes) -> str | None:
    """The slot in these bytes; "" for one that was never used, None if it is broken."""
    if content[:1] in (b"", b"\0") and not content.strip(b"\0"):
        return ""
    try:
        check, length, _ = content[:_IN_PLACE_AT].split(b" ")
        record = content[_IN_PLACE_AT : min(_IN_PLACE_AT + int(length), SLOT_BYTES)]
        if zlib.crc32(record) != int(check, 16):
            return None
        return record.decode("ascii")
    except ValueError:
        return None

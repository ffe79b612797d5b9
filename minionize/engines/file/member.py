"""A place in the queue: a slot of the head, a beat that others watch, and a journal."""

from __future__ import annotations

import os
import weakref
import zlib
from collections.abc import Iterable

from minionize.engines.file import slot as slots
from minionize.engines.file.calls import Calls
from minionize.engines.file.head import Head
from minionize.engines.file.head_file import unavailable
from minionize.engines.file.room import DELAYS_S, Room
from minionize.engines.file.slot import Slot
from minionize.errors import EngineUnavailable

Mark = tuple[int, int]
"""A claim's serial and a position."""

_OPEN: weakref.WeakSet[Member] = weakref.WeakSet()


def _close_in_child() -> None:
    # OFD locks live on in forked children: a child must not keep its parent looking alive.
    for member in list(_OPEN):
        member.close_in_child()


os.register_at_fork(after_in_child=_close_in_child)


def boot_of(calls: Calls) -> str:
    """A short name of the running kernel; empty where it can't be told."""
    kernel = calls.kernel()
    return f"{zlib.crc32(kernel.encode()):08x}" if kernel else ""


class Member:
    """Joins, beats, leaves. Every locked action goes through `is_mine` first."""

    def __init__(self, room: Room, *, feeder: bool) -> None:
        self.room = room
        self.feeder = feeder
        self.index = -1
        self.generation = 0
        self.boot = boot_of(room.calls)
        self._beat = -1
        self._beats = 0
        self._beat_locked = False
        self._beaten_at = 0.0
        """When the last beat was begun that arrived."""
        self.steady = False
        """Since the slot was last seen to be ours, no beat came so late that somebody can have
        taken us for dead: the slot is ours still, though nobody could look."""
        self.littered = False
        """A draft could not be removed: leave the folder, so that somebody looks for it."""
        self._journal = -1
        _OPEN.add(self)

    @property
    def joined(self) -> bool:
        """Whether it has a slot, as far as it knows."""
        return self.index >= 0

    @property
    def owner(self) -> str:
        """Its id in the queue."""
        return self.room.options.minion_id

    @property
    def folder(self) -> str:
        """Its folder."""
        return self.room.member_folder(f"{self.owner}.{self.generation}")

    # ---- joining and leaving, all inside a visit
    def join(self, head: Head) -> None:
        """Take a free slot; counts once the head is written."""
        room, options = self.room, self.room.options
        records = enumerate(room.head.slots(head.free), head.free)
        index = next((at for at, record in records if slots.is_free(record)), -1)
        if index < 0:
            index = room.head.grow(head)
        head.free = index + 1
        head.lives += 1
        self.generation = head.lives
        try:
            room.calls.mkdir(self.folder)
            self._beat = room.calls.open(f"{self.folder}/beat", write=True, create=True)
            if not room.calls.lock(self._beat):
                raise EngineUnavailable(f"{self.folder}/beat is locked: is this id used twice?")
            self._beat_locked = True
            self._beaten_at = room.calls.monotonic()
            self._write_beat()
        except BaseException as error:
            self.forget()
            if isinstance(error, OSError):
                raise unavailable(error, "cannot make", self.folder) from error
            raise
        head.changed[index] = Slot(
            generation=self.generation,
            life=self.generation,
            state=slots.LIVE,
            owner=self.owner,
            feeder=self.feeder,
            host=options.host,
            pid=options.pid,
            slots=options.slots,
            lease_s=options.lease_s,
            boot=self.boot,
        ).encode()
        if self.feeder:
            head.feeders += 1
        else:
            head.minions += 1
        self.index = index

    def is_mine(self, slot: Slot) -> bool:
        """Whether the slot is still this member's: same life, not taken over."""
        return (
            slot.generation == self.generation
            and slot.state == slots.LIVE
            and slot.owner == self.owner
        )

    def leave(self, head: Head, slot: Slot) -> None:
        """Free the slot."""
        free(head, self.index, slot.generation)
        count_out(head, slot)
        if head.sweeper[0] == self.index:
            head.sweeper = (-1, 0)

    def forget(self) -> None:
        """The slot is gone: let go of what belonged to it."""
        self.index = -1
        self.steady = False
        self._close_files()

    def close_in_child(self) -> None:
        """In a forked child: the parent's descriptors, its lock with them, are not ours."""
        for fd in (self._beat, self._journal):
            if fd >= 0:
                os.close(fd)
        self._beat = self._journal = -1
        self.index = -1
        self.room.close()

    # ---- signs of life
    def beat(self) -> None:
        """Count up where observers look."""
        if not self.joined:
            return
        calls, path = self.room.calls, f"{self.folder}/beat"
        begun = calls.monotonic()
        try:
            if self._beat < 0:
                self._beat = calls.open(path, write=True)
            self._write_beat()
            if not self._beat_locked:
                # The server may keep the lock that we had before it lost us, for a while.
                self._beat_locked = calls.lock(self._beat)
        except FileNotFoundError:
            self.steady = False
            return  # taken over, and cleaned up: the next visit to the head says so
        except OSError as error:
            # A descriptor whose lock was lost on the way is of no use: the next beat opens anew.
            self._close_files()
            raise unavailable(error, "cannot write", path) from error
        late = calls.monotonic() - self._beaten_at >= self.room.options.lease_s
        self.steady = self.steady and not late
        self._beaten_at = begun

    def seen_alive(self) -> None:
        """Inside a visit: the slot is ours."""
        self.steady = True

    def _write_beat(self) -> None:
        self._beats += 1
        self.room.calls.pwrite(self._beat, b"%016d\n" % self._beats, 0)
        if self.room.shared:
            self.room.calls.sync(self._beat)  # or it stays in this host's cache

    def _close_files(self) -> None:
        for fd in (self._beat, self._journal):
            if fd >= 0:
                self.room.calls.let_go(fd)
        self._beat = self._journal = -1
        self._beat_locked = False

    def mark(self, marks: Iterable[Mark]) -> None:
        """These are running: durable when it returns."""
        self._write_journal(f"m {serial} {position}\n" for serial, position in marks)

    def end(self, marks: Iterable[Mark], *, acked: bool) -> None:
        """Marked ones ended: durable when it returns."""
        sign = "a" if acked else "e"
        self._write_journal(f"{sign} {serial} {position}\n" for serial, position in marks)

    def _write_journal(self, lines: Iterable[str]) -> None:
        calls = self.room.calls
        try:
            if self._journal < 0:
                self._journal = calls.open_append(f"{self.folder}/journal")
                calls.sync_folder(self.folder)
            # The first line break ends what an earlier, failed write may have left torn.
            calls.append(self._journal, ("\n" + "".join(lines)).encode())
            calls.sync(self._journal)
        except FileNotFoundError:
            return  # taken over, and cleaned up: the next visit to the head says so
        except OSError as error:
            if self._journal >= 0:
                calls.let_go(self._journal)
                self._journal = -1
            raise unavailable(error, "cannot write", f"{self.folder}/journal") from error


def free(head: Head, index: int, generation: int) -> None:
    """Anybody's again. Its generation stays, so that nobody is mistaken for its next holder."""
    head.changed[index] = Slot(generation=generation).encode()
    head.free = min(head.free, index)


def count_out(head: Head, slot: Slot) -> None:
    """One member fewer."""
    if slot.feeder:
        head.feeders -= 1
    else:
        head.minions -= 1


def remove_leftovers(room: Room, name: str) -> None:
    """Remove what a life that was cut off left behind, its folder last."""
    life = name.rpartition(".")[2]
    if life.isdecimal():
        _remove_drafts(room, int(life))
    remove_folder(room, name)


def remove_after(member: Member, name: str) -> None:
    """Remove the folder of a life that ended in order."""
    if not member.littered:
        remove_folder(member.room, name)


def remove_folder(room: Room, name: str) -> None:
    """Remove the folder of an ended life; what can't be removed harms nobody."""
    folder = room.member_folder(name)
    for leaf in ("beat", "journal"):
        try:
            room.calls.unlink(f"{folder}/{leaf}")
        except OSError:
            continue
    try:
        room.calls.rmdir(folder)
    except OSError:
        return


def _remove_drafts(room: Room, generation: int) -> None:
    """Drafts are numbered without gaps."""
    for source in ("p", "h", "dead", "purged", *map(str, DELAYS_S)):
        number = 0
        while True:
            try:
                room.calls.unlink(room.draft_of(source, generation, number))
            except OSError:
                break
            number += 1


def parse_journal(content: bytes) -> tuple[set[Mark], set[Mark]]:
    """Marks without an end, and marked ones that were acked. A torn line counts for nothing."""
    marked: set[Mark] = set()
    acked: set[Mark] = set()
    for line in content.split(b"\n")[:-1]:
        fields = line.split()
        if len(fields) != 3 or not (fields[1].isdigit() and fields[2].isdigit()):
            continue  # a torn write before a later one: at worst some work is repeated
        key = (int(fields[1]), int(fields[2]))
        if fields[0] == b"m":
            marked.add(key)
            acked.discard(key)
        elif fields[0] == b"a":
            marked.discard(key)
            acked.add(key)
        elif fields[0] == b"e":
            marked.discard(key)
    return marked, acked

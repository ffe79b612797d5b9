"""Looks at the queue from outside after each change of its head: is every param in exactly one
place, do the totals say so, and was nothing settled that nobody did."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field

from minionize.engines.file import head as layout
from minionize.engines.file import slot as slots
from minionize.engines.file.batches import parse_record
from minionize.engines.file.head import COUNT, FIRST, LAST, OFFSET, Folder, Head
from minionize.engines.file.slot import Claim, Slot
from simulated import disk
from simulated.world import Actor, Violation, World


@dataclass(frozen=True)
class State:
    """What the queue holds after one write of its head."""

    put: int = 0
    places: dict[int, str] = field(default_factory=dict)
    """Where each param is that is not settled, and each dead letter."""
    settled: frozenset[int] = frozenset()
    slots: tuple[Slot, ...] = ()
    texts: dict[int, str] = field(default_factory=dict)
    """By id."""


class Audit:
    """One queue's."""

    def __init__(self, world: World, path: str) -> None:
        self._world = world
        self._parts = path.strip("/").split("/")
        self._seen_mark: int | None = None
        self._files: dict[tuple[object, int], list[tuple[int, int]]] = {}
        self._states: dict[tuple[int, str, str], State] = {}
        self.state = State()
        self._texts_now: dict[int, str] = {}
        self._segments: dict[tuple[object, int], list[str]] = {}
        self.acked: set[int] = set()
        """Params that some minion said are done."""
        self.dropped: set[int] = set()
        """Params that somebody may have purged."""
        self.charged: Counter[int] = Counter()
        """How many crashes may stand against a param, at most."""
        self._pending: dict[tuple[str, int], set[int]] = {}
        self.requeues = False
        """Whether somebody puts dead letters back to work."""
        self.writes = 0

    # ---- reading from outside
    def _folder(self, *parts: str) -> disk.Folder | None:
        at: disk.Inode | disk.Folder | None = self._world.root
        for part in (*self._parts, *parts):
            at = at.now(part) if isinstance(at, disk.Folder) else None
        return at if isinstance(at, disk.Folder) else None

    def _content(self, node: disk.Inode) -> bytearray:
        return node.content if self._world.shared else node.view(0)

    def _mark(self, node: disk.Inode) -> int:
        if self._world.shared:
            return node.mark
        node.view(0)
        return node.view_marks[0]

    @property
    def texts(self) -> dict[int, str]:
        """What was put, by id."""
        return self.state.texts

    def look(self) -> None:
        """Judge the queue, if its head changed."""
        folder = self._folder()
        node = folder.now("head") if folder else None
        if not isinstance(node, disk.Inode):
            return
        mark = self._mark(node)
        if mark == self._seen_mark:
            return
        self._seen_mark = mark
        content = bytes(self._content(node))
        head, _ = layout.choose(content)
        if head is None:
            self._wrong("neither copy of the head is whole")
            return
        redo = json.dumps(head.redo)
        key = (head.sequence, head.encode_state(), redo)
        known = self._states.get(key)
        if known is None:
            known = self._states[key] = self._judge(head, content)
            self.writes += 1
        self.state = known

    def host_crashed(self) -> None:
        """What was only cached is gone; look again."""
        self._seen_mark = None

    def _wrong(self, what: str) -> None:
        raise Violation(what)

    # ---- the places
    def _lines(self, source: str, number: int) -> list[tuple[int, int]]:
        """Ids and crashes of a file's lines."""
        name = "params" if source == "p" else "returned/held" if source == "h" else source
        if source.isdigit():
            name = f"returned/{source}"
        folder = self._folder(*name.split("/"))
        node = folder.now(f"{number:08d}.jsonl") if folder else None
        if not isinstance(node, disk.Inode):
            raise Violation(f"the head names {name}/{number:08d}.jsonl, which is not there")
        content = self._content(node)
        key = (node.key, self._mark(node))
        found = self._files.get(key)
        if found is None:
            text = bytes(content).decode()
            first, *lines = text.split("\n")[:-1]
            header = json.loads(first)
            if (header["number"], header["count"]) != (number, len(lines)):
                raise Violation(f"{name}/{number:08d}.jsonl is not whole, or another's: {header}")
            if source == "p":
                begin = header["first"]
                found = [(begin + place, 0) for place in range(len(lines))]
                self._segments[key] = lines
            else:
                records = map(parse_record, lines)
                found = [(record.id, record.crashes) for record in records]
            self._files[key] = found
        if source == "p":
            self._texts_now.update(zip((one for one, _ in found), self._segments[key], strict=True))
        return found

    def _claimed(self, claim: Claim) -> list[int]:
        ids: list[int] = []
        for begin, end in claim.pieces:
            if claim.source == "p":
                ids += range(begin, end)
            else:
                ids += [number for number, _ in self._lines(claim.source, claim.batch)[begin:end]]
        return ids

    def _batches(self, source: str, folder: Folder) -> list[int]:
        ids: list[int] = []
        skip = folder[OFFSET]
        for number in range(folder[FIRST], folder[LAST] + 1):
            for one, crashes in self._lines(source, number)[skip:]:
                ids.append(one)
                if crashes > self.charged[one]:
                    raise Violation(f"param {one} is charged {crashes} crashes, and had at most "
                                    f"{self.charged[one]}")  # fmt: skip
            skip = 0
        if len(ids) != folder[COUNT]:
            raise Violation(f"{source} has {len(ids)} entries, the head says {folder[COUNT]}")
        return ids

    def _judge(self, head: Head, content: bytes) -> State:
        before = self.state
        records = [
            layout.decode_in_place(
                content[layout.SLOTS_AT + at * layout.SLOT_BYTES :][: layout.SLOT_BYTES]
            )
            if at < head.placed
            else ""
            for at in range(head.size)
        ]
        for at, record in head.redo.items():
            records[at] = record
        after = tuple(slots.decode(record or "") for record in records)
        self._freed(before.slots, after)
        for at, slot in enumerate(after[: head.free]):
            if slot.state == slots.FREE:
                raise Violation(f"slot {at} is free, and nobody looks before {head.free}")
        texts: dict[int, str] = {}
        self._texts_now = texts
        for number in range(1, head.segments + 1):
            self._lines("p", number)
        if len(texts) != head.put:
            raise Violation(f"{head.put} params are put, and segments hold {len(texts)}")
        for one, text in before.texts.items():
            if texts.get(one) != text:
                raise Violation(f"param {one} was {text}, and is {texts.get(one)} now")
        places: dict[int, str] = {}

        def stand(ids: list[int], place: str) -> None:
            for one in ids:
                if one in places:
                    raise Violation(f"param {one} is in {places[one]} and in {place}")
                places[one] = place

        stand(list(range(head.cursor, head.put + 1)), "fresh")
        running = 0
        for at, slot in enumerate(after):
            for claim in slot.claims:
                ids = self._claimed(claim)
                running += len(ids)
                stand(ids, f"slot {at} of {slot.owner}")
        for delay, folder in head.back.items():
            stand(self._batches(str(delay), folder), f"given back {delay}")
        if running != head.running:
            raise Violation(f"{running} params run, by the totals {head.running}")
        waiting = set(places)
        settled = frozenset(range(1, head.put + 1)) - waiting
        if len(settled) != head.settled:
            raise Violation(f"{len(settled)} params are settled, the head says {head.settled}")
        stand(self._batches("dead", head.dead), "dead")
        dead = places.keys() - waiting
        for one in settled - before.settled - dead:
            if one not in self.acked and one not in self.dropped:
                raise Violation(f"param {one} is settled, and nobody did it")
        back = before.settled - settled
        if self.requeues:
            back = frozenset(one for one in back if before.places.get(one) != "dead")
        if back:
            raise Violation(f"params {sorted(back)} were settled and are back")
        return State(head.put, places, settled, after, texts)

    def _freed(self, before: tuple[Slot, ...], after: tuple[Slot, ...]) -> None:
        """Whose slot was taken over: what ran then may be charged when it is freed."""
        for at, slot in enumerate(before):
            now = after[at] if at < len(after) else Slot()
            if slot.state == slots.LIVE and now.state == slots.GONE:
                self._pending.setdefault((slot.owner, slot.life), set())
            if slot.state == slots.GONE and now.state != slots.GONE:
                self.charged.update(self._pending.pop((slot.owner, slot.life), set()))
            if slot.generation > now.generation and at < len(after):
                raise Violation(f"slot {at} had generation {slot.generation}, now {now.generation}")
        for (owner, _), params in self._pending.items():
            for actor in self._world.actors:
                if actor.name == owner:
                    params |= actor.charge

    def about_to_run(self, actor: Actor, ids: set[int]) -> None:
        """From now on a crash of this process may be charged to these."""
        actor.charge |= ids
        for (owner, _), params in self._pending.items():
            if owner == actor.name:
                params |= ids

    def claims_of_others(self, name: str) -> set[tuple[int, str, int, int]]:
        """Params in claims of others, with owner, life and serial."""
        return {
            (one, slot.owner, slot.life, claim.serial)
            for slot in self.state.slots
            if slot.owner != name and slot.state == slots.LIVE
            for claim in slot.claims
            for one in self._claimed(claim)
        }

    # ---- at the end
    def holder(self, one: int) -> str:
        """Where a param is now; "settled" if it is nowhere."""
        return self.state.places.get(one, "settled" if one in self.state.settled else "nowhere")

"""A slot of the head: who holds it, and what params it covers."""

from __future__ import annotations

import json
from typing import NamedTuple

FREE, LIVE, GONE = "free", "live", "gone"
"""Nobody's; somebody's; being taken over."""

MAX_RECORD = 3900
"""Bytes of a slot's record, so that it fits in its place."""

Piece = tuple[int, int]
"""Positions from (included) to (excluded)."""


class Claim(NamedTuple):
    """Params that a slot covers: positions of one batch, or ids where the source is `p`.

    `serial` tells it from every other claim of the same slot and generation.
    """

    source: str
    """`p` params, `h` what a minion rewrote for itself, a number: given back with that delay."""
    batch: int
    """For `p` a segment at or before the first id."""
    serial: int
    pieces: tuple[Piece, ...]

    @property
    def params(self) -> int:
        """How many params it covers."""
        return sum(end - begin for begin, end in self.pieces)


class Slot(NamedTuple):
    """One minion's or feeder's place in the head. A generation only ever grows."""

    generation: int = 0
    life: int = 0
    """The generation it was joined with; a take-over begins a new one."""
    state: str = FREE
    owner: str = ""
    feeder: bool = False
    host: str = ""
    pid: int = 0
    slots: int = 0
    lease_s: float = 60.0
    boot: str = ""
    """The running kernel: locks of processes on the same one are seen at once."""
    claims: tuple[Claim, ...] = ()

    @property
    def folder(self) -> str:
        """The name of the folder with its beat and journal."""
        return f"{self.owner}.{self.life}"

    def encode(self) -> str:
        """One line of JSON."""
        claims = []
        for source, batch, serial, pieces in self.claims:
            flat: list[str | int] = [source, batch, serial]
            at = 0
            for begin, end in pieces:
                flat += [begin - at, end - begin]
                at = end
            claims.append(flat)
        return json.dumps(
            [
                self.generation,
                self.life,
                self.state,
                self.owner,
                int(self.feeder),
                self.host,
                self.pid,
                self.slots,
                self.lease_s,
                self.boot,
                claims,
            ],
            separators=(",", ":"),
        )


def decode(record: str) -> Slot:
    """The slot of a record; "" is one that was never used. ValueError if it is none."""
    if not record:
        return Slot()
    try:
        fields = json.loads(record)
        generation, life, state, owner, feeder, host, pid, slots, lease_s, boot, flat = fields
        claims = []
        for source, batch, serial, *steps in flat:
            pieces = []
            at = 0
            for skip, length in zip(steps[::2], steps[1::2], strict=True):
                pieces.append((at + skip, at + skip + length))
                at += skip + length
            claims.append(Claim(source, batch, serial, tuple(pieces)))
    except TypeError as error:
        raise ValueError(f"no slot: {record[:80]!r}") from error
    return Slot(
        generation,
        life,
        state,
        owner,
        bool(feeder),
        host,
        pid,
        slots,
        lease_s,
        boot,
        tuple(claims),
    )


def is_free(record: str) -> bool:
    """`decode(record).state == FREE`, without taking it apart."""
    return not record or record.split(",", 3)[2] == f'"{FREE}"'


def open_pieces(live: bytes | bytearray, start: int) -> list[Piece]:
    """The maximal runs of positions that are open (non-zero); position `start` is index 0."""
    pieces = []
    begin = live.find(1)
    while begin >= 0:
        end = live.find(0, begin)
        if end < 0:
            end = len(live)
        pieces.append((start + begin, start + end))
        begin = live.find(1, end)
    return pieces

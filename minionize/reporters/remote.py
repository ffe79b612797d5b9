"""The redis reporter: the lines of the json reporter, on a server that all minions reach.

A report has, all of it under one name:

    NAME          a stream, an entry for each event: m the minion, l the line
    NAME:rolls    a hash: minion → its roll-up
    NAME:sources  a hash: minion → the header of its lines
    NAME:beats    a sorted set: minion → when it last beat, so that the oldest can go
    NAME:seqs     a hash: minion → the last batch that arrived, so that none is kept twice
    NAME:meta     a hash: `events` and `minions` that there ever were
    NAME:results  a hash: the name of a result that is too large for a line → its JSON text
    NAME:kept     a sorted set: the names of these → when they came, so that they go with the events

The stream is bounded: old events go. Roll-ups stay, so that what they count stays exact.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from minionize.beneath import Anywhere
from minionize.errors import MinionizeError
from minionize.values import Clock

MOST_MINIONS = 10_000
"""Roll-ups that are kept, some KiB each; beyond, the one whose minion is silent longest goes."""
_PIECE_BYTES = 256 * 1024
"""Of lines in one command: 4,000 plain acks keep the server busy for some 5 ms."""
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0
_PAGE = 1000
_CLOCKS_MS = 3_600_000
"""How far the clocks of minions and server may be apart: a large result is kept for so much
longer than the oldest event that is kept."""

SUFFIXES = ("", ":rolls", ":sources", ":beats", ":seqs", ":meta", ":results", ":kept")

_APPEND = b"""
local minion, seq = ARGV[1], tonumber(ARGV[2])
if tonumber(redis.call('HGET', KEYS[5], minion) or '0') >= seq then return 0 end
redis.call('HSETNX', KEYS[3], minion, ARGV[4])
local count = 0
for line in string.gmatch(ARGV[5], '[^\\n]+') do
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], '*', 'm', minion, 'l', line)
  count = count + 1
end
redis.call('HSET', KEYS[5], minion, seq)
redis.call('HINCRBY', KEYS[6], 'events', count)
return count
"""

_ROLL = b"""
local minion = ARGV[1]
if redis.call('HEXISTS', KEYS[2], minion) == 0 then redis.call('HINCRBY', KEYS[6], 'minions', 1) end
redis.call('HSET', KEYS[2], minion, ARGV[3])
redis.call('HSETNX', KEYS[3], minion, ARGV[4])
redis.call('ZADD', KEYS[4], ARGV[2], minion)
while redis.call('ZCARD', KEYS[4]) > tonumber(ARGV[5]) do
  local oldest = redis.call('ZPOPMIN', KEYS[4])[1]
  redis.call('HDEL', KEYS[2], oldest)
  redis.call('HDEL', KEYS[3], oldest)
  redis.call('HDEL', KEYS[5], oldest)
end
return 1
"""

_KEEP = b"""
redis.call('HSET', KEYS[7], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[8], ARGV[3], ARGV[1])
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
if not first then return 1 end
local before = tonumber(string.match(first[1], '^%d+')) - tonumber(ARGV[4])
local gone = redis.call('ZRANGEBYSCORE', KEYS[8], '-inf', '(' .. before, 'LIMIT', 0, 100)
for _, old in ipairs(gone) do
  redis.call('HDEL', KEYS[7], old)
  redis.call('ZREM', KEYS[8], old)
end
return 1
"""


class Server(Protocol):
    """What is asked; engines.redis.reports has it."""

    url: str
    prefix: str
    keep: int

    def ask(self, *commands: Sequence[str | bytes | int]) -> list[Any]:
        """The answer to each command. MinionizeErrors escape."""

    def close(self) -> None:
        """Let go of the connection."""


class RemoteStore:
    """One minion's part of the report on a server. While that can't be reached nothing waits for
    it: another try is put off for a while, and all calls raise OSError at once."""

    def __init__(
        self, server: Server, minion: str, header: str, *, clock: Clock, scratch: str | None = None
    ) -> None:
        """`scratch`: a folder for large results on their way to the server."""
        self.results_folder = scratch
        self.place = f"at {server.url}"
        self._server = server
        self._minion = minion
        self._header = header.rstrip("\n")
        self._clock = clock
        self._keys = [server.prefix + suffix for suffix in SUFFIXES]
        self._seq = 0
        self._unsure: list[bytes] = []
        """Pieces that were sent, and may or may not have arrived; the first is `_seq + 1`."""
        self._pause_s = 0.0
        self._not_before = 0.0

    def remedy(self, error: OSError) -> str:
        """See json_lines.Store."""
        return "mend the server, or set MINION_REPORTER"

    def append(self, lines: bytes) -> None:
        """See json_lines.Store. What may have arrived before is sent as it was, under its old
        number; so the server keeps it once."""
        sent = b"".join(self._unsure)
        if sent and not lines.startswith(sent):
            # It was dropped meanwhile: its numbers are used up.
            self._seq += len(self._unsure)
            self._unsure, sent = [], b""
        pieces = [*self._unsure, *_pieces(lines[len(sent) :])]
        self._wait_over()
        self._unsure = pieces
        keep, numbered = self._server.keep, enumerate(pieces, self._seq + 1)
        words = [(self._minion, seq, keep, self._header, piece) for seq, piece in numbered]
        for each in words:
            # One after the other: none is kept whose number comes after one that was refused.
            self._ask(self._script(_APPEND, *each))
        self._seq += len(pieces)
        self._unsure = []

    def write_roll(self, line: str) -> None:
        """Put this roll-up in the place of the last one."""
        self._wait_over()
        at_ms = int(self._clock.time() * 1000)
        words = (self._minion, at_ms, line.rstrip("\n"), self._header, MOST_MINIONS)
        self._ask(self._script(_ROLL, *words))

    def keep(self, path: str) -> None:
        """See json_lines.Store. On the server, in a hash; it goes when the events of its time
        do."""
        self._wait_over()
        try:
            with open(path, "rb") as file:
                text = file.read()
        except FileNotFoundError:  # who reads the event is told
            return
        at_ms = int(self._clock.time() * 1000)
        self._ask(self._script(_KEEP, os.path.basename(path), text, at_ms, _CLOCKS_MS))
        with contextlib.suppress(OSError):
            os.unlink(path)

    def pack_piece(self) -> bool:
        """The server keeps lines as they are."""
        return False

    def gone(self) -> bool:
        """Who removes a report wants it to begin anew."""
        return False

    def forget(self) -> None:
        """Nothing to begin anew."""

    def ending(self) -> None:
        """Try at once, even if it failed just now."""
        self._not_before = 0.0

    def close(self) -> None:
        """Let go of the connection."""
        self._server.close()
        if self.results_folder is not None:
            # A process of the function that was killed may have left half a result there.
            Anywhere.remove_tree(self.results_folder)

    def _script(self, script: bytes, *words: str | bytes | int) -> list[str | bytes | int]:
        return ["EVAL", script, len(self._keys), *self._keys, *words]

    def _wait_over(self) -> None:
        if self._clock.monotonic() < self._not_before:
            raise OSError("it could not be reached just now")

    def _ask(self, *commands: Sequence[str | bytes | int]) -> None:
        try:
            self._server.ask(*commands)
        except MinionizeError as error:
            self._pause_s = min(_LONGEST_PAUSE_S, 2 * self._pause_s or _FIRST_PAUSE_S)
            self._not_before = self._clock.monotonic() + self._pause_s
            raise OSError(str(error).removeprefix(f"{self._server.url}: ")) from error
        self._pause_s = 0.0


def _pieces(lines: bytes) -> Iterator[bytes]:
    """`lines` in pieces that end with a line."""
    start = 0
    while start < len(lines):
        end = len(lines)
        if end - start > _PIECE_BYTES:
            end = lines.rfind(b"\n", start, start + _PIECE_BYTES) + 1
            if end <= start:  # one line that is longer than a piece
                end = lines.index(b"\n", start) + 1
        yield lines[start:end]
        start = end


class RemoteReport:
    """The report on a server, to be read."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._keys = [server.prefix + suffix for suffix in SUFFIXES]

    def __str__(self) -> str:
        return self._server.url

    def headers(self) -> dict[bytes, bytes]:
        """Minion → the header of its lines."""
        (flat,) = self._server.ask(["HGETALL", self._keys[2]])
        return dict(zip(flat[::2], flat[1::2], strict=True))

    def lines(self) -> Iterator[tuple[bytes, bytes]]:
        """(minion, line) of each event that is kept, the oldest first. A page is held."""
        after = b"-"
        while True:
            (page,) = self._server.ask(["XRANGE", self._keys[0], after, "+", "COUNT", _PAGE])
            for _, (_, minion, _, line) in page:
                yield minion, line
            if len(page) < _PAGE:
                return
            after = b"(" + page[-1][0]

    def rolls(self) -> Iterator[tuple[bytes, bytes]]:
        """(minion, roll-up) of each minion."""
        cursor: bytes = b"0"
        while True:
            ((cursor, flat),) = self._server.ask(["HSCAN", self._keys[1], cursor, "COUNT", 100])
            yield from zip(flat[::2], flat[1::2], strict=True)
            if cursor == b"0":
                return

    def result(self, name: str) -> bytes | None:
        """The large result of this name; None where it is not kept any more."""
        (text,) = self._server.ask(["HGET", self._keys[6], name])
        return None if text is None else bytes(text)

    def let_go(self) -> tuple[int, int]:
        """How many events and roll-ups there were that are not kept any more."""
        meta, kept, rolls = self._server.ask(
            ["HMGET", self._keys[5], "events", "minions"],
            ["XLEN", self._keys[0]],
            ["HLEN", self._keys[1]],
        )
        events, minions = (int(count or 0) for count in meta)
        return max(0, events - kept), max(0, minions - rolls)

    def close(self) -> None:
        """Let go of the connection."""
        self._server.close()

"""Putting params: a few at once, or many aside in parts that are announced together."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TypeVar

from minionize.contracts.engine import EngineOptions
from minionize.engines.redis.keys import prefix
from minionize.engines.redis.place import Place
from minionize.engines.redis.wire import Wire
from minionize.errors import EngineUnavailable, MinionizeError

_PARAMS = 1000
_CHARACTERS = 1 << 20
"""A part has so many at most: the server does one at a time, and others wait for it."""
_PATIENCE_S = 10.0
"""A put goes on after a break of the connection that is no longer than this."""

T = TypeVar("T")


class Feeder:
    """Puts. What is repeated because its answer got lost is done once: scripts know its serial."""

    def __init__(self, place: Place, wire: Wire, options: EngineOptions) -> None:
        self._place = place
        self._wire = wire
        self._create = "1" if options.create else "0"
        self._name = f"{options.minion_id or 'feeder'}:f{os.getpid()}-{secrets.token_hex(4)}"
        before = prefix(place.stream)
        self._last = f"{before}last:{self._name}".encode()
        self._staging = f"{before}feed:{self._name}"
        self._serial = 0
        self.made: list[str] = []
        self._lease_ms = int(options.lease_s * 1000)
        self._feeds = False
        self._who = json.dumps(
            {"host": options.host, "pid": options.pid, "lease_ms": self._lease_ms}
        )

    def put(self, texts: Iterable[str]) -> int:
        """All or nothing. What `texts` raises goes to whoever gave it."""
        parts = parts_of(iter(texts))
        first = next(parts, [])
        second = next(parts, None) if first else None
        if second is None:
            self._put_few(first)
            return len(first)
        return self._put_many(first, second, parts)

    @contextmanager
    def feeding(self) -> Iterator[None]:
        """Minions know that somebody feeds."""
        if self._feeds:
            yield
            return
        self._feeds = True
        try:
            self._put_few([])
            yield
        finally:
            self._feeds = False
            # It is forgotten after its lease anyhow.
            with suppress(MinionizeError):
                self._wire.run("unfeed", self._name)

    def _put_few(self, texts: list[str]) -> None:
        self._serial += 1
        said = self._patiently(
            lambda: self._wire.checked(
                "put",
                self._create,
                f"{self._serial}" if texts else "",
                _joined(texts),
                len(texts),
                self._name,
                self._lease_ms if self._feeds else 0,
                self._who,
                keys=(self._last,),
            )
        )
        if said[1] == b"stream":
            self.made.append(f"stream {self._place.stream}")
        if said[1]:
            self.made.append(f"group {self._place.group}")

    def _put_many(self, first: list[str], second: list[str], rest: Iterator[list[str]]) -> int:
        self._put_few([])  # makes the queue, or says that there is none
        self._serial += 1
        # Another place each time: what a part of a former put left there is none of this one.
        staging = f"{self._staging}:{self._serial}".encode()
        count = number = 0
        try:
            for part in _chained(first, second, rest):
                self._stage(staging, number, part)
                number += 1
                count += len(part)
            self._announce(staging, number, count)
        except BaseException:  # Ctrl-C as well
            with suppress(MinionizeError):
                self._wire.run("unstage", keys=(staging,))
            raise
        self._unload()
        return count

    def _stage(self, staging: bytes, number: int, part: list[str]) -> None:
        lease_ms = self._lease_ms if self._feeds else 0
        texts = _joined(part)
        kept = self._patiently(
            lambda: self._wire.run("stage", number, texts, self._name, lease_ms, keys=(staging,))
        )
        if not kept:
            raise self._expired()

    def _announce(self, staging: bytes, parts: int, count: int) -> None:
        said = self._patiently(
            lambda: self._wire.checked(
                "announce", self._serial, parts, count, keys=(staging, self._last)
            )
        )
        if said[0] != b"ok":
            raise self._expired()

    def _unload(self) -> None:
        """They are in the queue already; minions would do this when they come to it."""
        lease_ms = self._lease_ms if self._feeds else 0
        with suppress(EngineUnavailable):
            while self._wire.run("unload", self._name, lease_ms):
                pass

    def _expired(self) -> EngineUnavailable:
        return EngineUnavailable(
            f"{self._place.url}: nothing was put: its first params were dropped, since the next "
            "ones took more than an hour to come or the server lost them: put again"
        )

    def _patiently(self, ask: Callable[[], T]) -> T:
        """What `ask` says; after a break of the connection it asks again for a while."""
        until_s = time.monotonic() + _PATIENCE_S
        pause_s = 0.05
        while True:
            try:
                return ask()
            except EngineUnavailable as error:
                if not self._wire.broken:
                    raise
                if time.monotonic() > until_s:
                    raise EngineUnavailable(
                        f"{error}; minion status tells whether it was put"
                    ) from error
            time.sleep(pause_s)
            pause_s = min(1.0, 2 * pause_s)


def parts_of(texts: Iterator[str]) -> Iterator[list[str]]:
    """`texts` in lists of at most so many params and about so many characters."""
    part: list[str] = []
    size = 0
    step = 16
    while True:
        some = list(islice(texts, step))
        if not some:
            break
        some_size = sum(map(len, some))
        part += some
        size += some_size
        # Long texts are taken a few at a time, so that few are held.
        step = max(1, min(_PARAMS - len(part), _CHARACTERS * len(some) // (4 * some_size + 1)))
        if len(part) >= _PARAMS or size >= _CHARACTERS:
            yield part
            part, size = [], 0
            step = max(1, min(_PARAMS, step))
    if part:
        yield part


def _chained(first: list[str], second: list[str], rest: Iterator[list[str]]) -> Iterator[list[str]]:
    yield first
    yield second
    yield from rest


def _joined(texts: list[str]) -> bytes:
    return "\n".join(texts).encode("utf-8", "surrogatepass")

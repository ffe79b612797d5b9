"""A minion's face of a queue in Redis."""

from __future__ import annotations

import json
import operator
from collections.abc import Collection, Sequence
from functools import partial
from itertools import repeat
from typing import Any

from minionize.contracts.engine import EngineOptions, Traits
from minionize.engines.envelope import Undecodable
from minionize.engines.redis.counting import stats_from
from minionize.engines.redis.driver import exceptions
from minionize.engines.redis.looking import LOOK_S, next_look_s
from minionize.engines.redis.messages import OURS, Counts, lease_of, unread_lease
from minionize.engines.redis.place import Place
from minionize.engines.redis.received import NOTHING, Received
from minionize.engines.redis.wire import Wire, Word
from minionize.errors import EngineUnavailable
from minionize.values import Failure, Lease, Orders, Policy, Stats, SystemClock

TRAITS = Traits()
_MOST = 4096
"""Params in one trip: others wait while the server does it."""
_TOKENS = 5000
_BURIED = 200
_SMALL = 1000
"""Characters of a text that may stay when it is done."""
_TEXT = operator.itemgetter(1)
_TOKEN = operator.attrgetter("token")
_INEXACT_S = 0.12
"""An idle server lets who waits for a time wait up to 0.1 s longer."""
_STEP_S = 0.02

_new_leases = partial(tuple.__new__, Lease)


class RedisEngine:
    """Leases and settles. docs/redis.md says how."""

    def __init__(self, place: Place, options: EngineOptions) -> None:
        """Joins. NoSuchQueue if it is missing."""
        self.traits = TRAITS
        self.url = place.url
        self._place = place
        self._options = options
        self._clock = options.clock
        self._lease_ms = max(1, int(options.lease_s * 1000))
        self._wire = Wire(place, min(10.0, max(0.5, options.lease_s / 4)))
        self._consumer = b""
        self._orders = Orders()
        self._received = Received()
        self._joined_anew = False
        """We were taken for dead once: what was leased before is lost."""
        self._marked: set[str] = set()
        self._told: tuple[str, str, int] | None = None
        """The last ack, until the server said that it is done."""
        self._heard = False
        """Its answer was waited for."""
        self._running = 0
        self._look_at = 0.0
        """Until then only a put, or a look, can bring anything."""
        self._drained = False
        """So it looked, and the counts were not asked for since."""
        self._memory = (b"", b"")
        """The server's policy for a full memory, and its bytes."""
        self._closed = False
        try:
            self._join()
        except BaseException:  # Ctrl-C as well
            self._wire.drop()
            raise

    # ---- leasing

    def lease(self, limit: int, wait_s: float) -> Sequence[Lease]:
        """See contracts.engine."""
        if limit <= 0:
            return []
        limit = min(limit, _MOST)
        clock = self._clock
        until_s = clock.monotonic() + wait_s
        blocks = isinstance(clock, SystemClock)
        while True:
            now = clock.monotonic()
            if not blocks or self._received.unsure or wait_s <= 0 or now >= self._look_at:
                leases, due_s = self._ask(limit)
                now = clock.monotonic()
                self._look_at = 0.0 if leases else now + due_s
                if leases:
                    return leases
            left_s = until_s - now
            if left_s <= 0:
                return []
            due_s = self._look_at - now
            look_s = min(left_s, LOOK_S, due_s)
            if self._orders.paused or not blocks:
                clock.sleep(look_s)
                continue
            if look_s == due_s < _INEXACT_S:
                clock.sleep(min(look_s, _STEP_S))
                self._look_at = 0.0
                continue
            if look_s == due_s < LOOK_S:
                look_s -= _INEXACT_S
            leases = self._wait(limit, look_s)
            if leases:
                self._look_at = 0.0
                return leases

    def _ask(self, limit: int) -> tuple[list[Lease], float]:
        """What is there now, and the seconds until there may be more."""
        while True:
            last = self._received.asking()
            answer = self._checked("lease", self._consumer, limit, *last)
            if answer[0] != b"gone":
                break
            self._join()
        _, paused, stops, ids, texts, others, *rest = answer
        self._heed(paused, stops)
        leases: list[Lease] = []
        if ids:
            tokens = ids.decode("ascii").split("\n")
            lines = texts.decode("utf-8", "surrogatepass").split("\n")
            rows = zip(tokens, lines, repeat(1), repeat(0), repeat(0), repeat(False), tokens)
            leases = list(map(_new_leases, rows))
        if others:
            leases = self._read([(token.decode(), fields) for token, fields in others]) + leases
        self._received.note((token for token, _ in others), ids)
        # Of what was lost on its way there may be more than this answer was to have.
        self._received.unsure = last is not NOTHING and bool(ids or others)
        due, minions, drained = rest
        self._drained = drained == 1
        if leases:
            return leases, 0.0
        return leases, next_look_s(minions, due)

    def _wait(self, limit: int, wait_s: float) -> list[Lease]:
        """A put wakes us; another look may be needed for what is not put."""
        self._received.asking()
        self._confirm()
        found = self._wire.blocking(self._consumer, limit, max(1, int(wait_s * 1000)))
        messages: list[tuple[str, list[bytes]]] = []
        for stream, delivered in found:
            letter = self._letter(stream)
            messages += [(letter + id_.decode(), fields) for id_, fields in delivered]
        if not messages:
            self._received.unsure = False
            return []
        # Only who is alive and may lease keeps it.
        state, *orders = self._run("admit", self._consumer)
        foreign = sum(
            token[0] not in "bs" and bool(fields) and fields[0] != OURS
            for token, fields in messages
        )
        if foreign:
            self._run("seen", foreign)
        leases = self._read(messages)
        kept: list[Lease] = []
        if state == b"ok":
            self._heed(*orders)
            kept = [] if self._orders.paused else _fitting(leases, limit)
        if len(kept) < len(leases):
            tokens = set(map(_TOKEN, kept))
            self.nack([lease for lease in leases if lease.token not in tokens], charge=False)
        # Before that none of them is received: if it fails, all come again.
        self._received.note((token.encode() for token, _ in messages), b"")
        self._received.unsure = False
        return kept

    def _read(self, messages: list[tuple[str, list[bytes]]]) -> list[Lease]:
        """Messages as leases. What is no param becomes a dead letter."""
        leases: list[Lease] = []
        for token, fields in messages:
            try:
                leases.append(lease_of(self._place, token, fields))
            except Undecodable as error:
                lease = unread_lease(token, fields, error.text)
                self.bury([lease], Failure(error.reason, error.detail))
        return leases

    def _letter(self, stream: bytes) -> str:
        main, back = self._place.keys[:2]
        return "" if stream == main else "b" if stream == back else "s"

    # ---- settling

    def ack(self, leases: Collection[Lease]) -> None:
        """See contracts.engine."""
        tokens = list(map(_TOKEN, leases))
        # The texts of what is done stay for a moment, if they are small.
        large = int(sum(map(len, map(_TEXT, leases))) > _SMALL * len(tokens))
        for first in range(0, len(tokens), _TOKENS):
            some = tokens[first : first + _TOKENS]
            marked = self._marked.intersection(some) if self._marked else ()
            self._confirm()
            self._told = (" ".join(some), " ".join(marked), large)
            self._heard = True  # if it can't even be told, it has to be repeated
            self._wire.tell("ack", *self._told)
            self._heard = False
            if marked:
                self._confirm()
                self._marked.difference_update(marked)

    def moved(self, leases: Collection[Lease]) -> None:
        """See contracts.engine.MovesOut."""
        tokens = list(map(_TOKEN, leases))
        for first in range(0, len(tokens), _TOKENS):
            some = tokens[first : first + _TOKENS]
            self._run("ack", " ".join(some), " ".join(self._marked.intersection(some)), 0, "purged")
            self._marked.difference_update(some)

    def _confirm(self) -> None:
        """The last ack is durable: the server did it while we did something else. One whose
        answer got lost is repeated, which does no harm."""
        if self._told is None:
            return
        heard, self._heard = self._heard, True
        if heard or not self._wire.hear():
            self._wire.run("ack", *self._told)
        self._told = None

    def _run(self, name: str, *words: Word) -> Any:
        """What the script says, after what was acked is durable."""
        self._confirm()
        return self._wire.run(name, *words)

    def _checked(self, name: str, *words: Word) -> list[Any]:
        self._confirm()
        return self._wire.checked(name, *words)

    def nack(
        self,
        leases: Collection[Lease],
        *,
        delay_s: float = 0.0,
        charge: bool = True,
        later: bool = False,
    ) -> None:
        """See contracts.engine."""
        self._look_at = 0.0  # when it is due
        delay_ms = int(max(0.0, delay_s) * 1000)
        if delay_s > 0:
            delay_ms = max(1, delay_ms)
        for some in _portions(leases, _BURIED):
            words: list[str] = []
            for lease in some:
                words += (lease.token, lease.id, Counts.after(lease, charge, later).written(), "")
            gone = self._run("nack", self._consumer, delay_ms, *words)
            if gone:  # trimmed while we had it: we know it still
                texts = {lease.token: lease for lease in some}
                words = []
                for token in gone:
                    lease = texts[token.decode()]
                    words += (
                        lease.token,
                        lease.id,
                        Counts.after(lease, charge, later).written(),
                        lease.text,
                    )
                self._run("nack", self._consumer, delay_ms, *words)
            self._marked.difference_update([lease.token for lease in some])

    def bury(self, leases: Collection[Lease], failure: Failure) -> None:
        """See contracts.engine."""
        reason = failure.reason.encode("utf-8", "surrogatepass")
        detail = failure.detail.encode("utf-8", "surrogatepass")
        for some in _portions(leases, _BURIED):
            words: list[str | bytes] = []
            for lease in some:
                numbers = Counts(lease.attempt, lease.crashes, lease.laters, lease.suspect)
                text = lease.text.encode("utf-8", "surrogatepass")
                words += (lease.token, lease.id, numbers.written(), text)
            self._run("bury", self._consumer, reason, detail, *words)
            self._marked.difference_update([lease.token for lease in some])

    def started(self, leases: Collection[Lease]) -> None:
        """See contracts.engine."""
        tokens = [lease.token for lease in leases]
        for first in range(0, len(tokens), _TOKENS):
            some = tokens[first : first + _TOKENS]
            self._run("started", self._consumer, " ".join(some))
            self._marked.update(some)

    # ---- staying alive

    def extend(self, leases: Collection[Lease]) -> Collection[Lease]:
        """See contracts.engine."""
        self._running = len(leases)
        answer = self._checked("extend", self._consumer, self._lease_ms, self._who())
        if answer[0] == b"gone":
            self._join()
        else:
            self._heed(answer[1], answer[2])
        if not self._joined_anew:
            return []
        lost: set[str] = set()
        tokens = [lease.token for lease in leases]
        for first in range(0, len(tokens), _TOKENS):
            some = " ".join(tokens[first : first + _TOKENS])
            lost.update(token.decode() for token in self._run("lost", self._consumer, some))
        self._marked -= lost
        return [lease for lease in leases if lease.token in lost]

    def orders(self) -> Orders:
        """See contracts.engine."""
        return self._orders

    def stats(self) -> Stats:
        """See contracts.engine."""
        self._drained = False
        stats, lost = stats_from(self._checked("stats"))
        if lost and not stats.running:
            self._run("note_lost")
            stats, _ = stats_from(self._checked("stats"))
        return stats

    def looks_drained(self) -> bool:
        """See contracts.engine.SeesTheEnd."""
        return self._drained

    def idle_before(self, enough: int) -> int | None:
        """See contracts.engine.TellsIdle."""
        answer = self._checked("idle", self._consumer, enough)
        return None if answer[0] == b"gone" else int(answer[1])

    def policies(self) -> Sequence[Policy]:
        """See contracts.engine.TellsPolicies."""
        if self._memory[0] == b"noeviction":
            return []  # without an import: it is so nearly everywhere
        from minionize.engines.redis.policies import memory_policies

        return memory_policies(*self._memory)

    def close(self) -> None:
        """See contracts.engine."""
        if self._closed:
            return
        try:
            self._leave()
            self._closed = True
        finally:
            self._wire.drop()

    def _leave(self) -> None:
        """No other code asks again for us. So it is tried anew where the connection is gone, and
        with it the answer to the last ack; a server that does not answer has had its time."""
        try:
            while self._run("leave", self._consumer):
                pass
        except EngineUnavailable as error:
            if not self._wire.broken or isinstance(error.__cause__, exceptions.TimeoutError):
                raise
            while self._run("leave", self._consumer):
                pass

    def abandon(self) -> None:
        """As if this process had been killed: nothing is given back. For tests."""
        self._closed = True
        self._wire.drop()

    # ---- how

    def _join(self) -> None:
        """As a new consumer: what an older self held is lost to the minion that takes it over."""
        answer = self._checked(
            "join", self._options.minion_id or "minion", self._lease_ms, self._who()
        )
        self._joined_anew = self._joined_anew or bool(self._consumer)
        self._consumer = answer[1]
        self._received = Received()
        self._heed(answer[2], answer[3])
        self._memory = (answer[4], answer[5])

    def _heed(self, paused: bytes, stops: bytes) -> None:
        self._orders = Orders(paused == b"1", int(stops or 0))

    def _who(self) -> str:
        options = self._options
        return json.dumps(
            {
                "host": options.host,
                "pid": options.pid,
                "slots": options.slots,
                "running": self._running,
                "lease_ms": self._lease_ms,
            }
        )


def _fitting(leases: list[Lease], limit: int) -> list[Lease]:
    """Several streams may have had something: suspects come alone, and never too many."""
    return ([lease for lease in leases if lease.suspect] or leases)[:limit]


def _portions(leases: Collection[Lease], most: int) -> list[list[Lease]]:
    all_ = list(leases)
    return [all_[first : first + most] for first in range(0, len(all_), most)]

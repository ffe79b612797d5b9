"""What stands beside the queue: params that are delayed, and claims of runs.

**Delayed.** The service has no delays. A param that is given back with one is published here
instead, with the time when it is due. Whoever finds it sooner hides it until then, by its lease;
whoever finds it due puts it back into the queue.

**Claims.** The service does not say which leases ended in a crash, and nothing can be written
into a message. So a run that is to be charged if its minion dies under it moves here: a copy of
its message with the crash counted already is published, leased by the same minion, and only then
the first one is acked. As long as the minion lives it holds that copy; when it dies, the copy comes
to somebody else, as a suspect. Claims are few, so they are found at once, however long the queue
is. Others may find one before its own minion does: they give it back, and take it only when they
still see it a while later.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from minionize.engines.envelope import Envelope, Undecodable, from_message
from minionize.engines.pubsub.held import Held
from minionize.engines.pubsub.letters import CLAIM, claim, letter, undecodable
from minionize.engines.pubsub.making import DEADLINE_LEAST_S, LEASE_MOST_S
from minionize.engines.pubsub.wire import Letter, Wire
from minionize.errors import EngineUnavailable, MinionizeError
from minionize.values import Clock

_LOOK_MOST = 100
_FIRST_LOOK_S = 0.25
_LIMBO_MOST_S = 10.0
SURELY_ASIDE_S = DEADLINE_LEAST_S - 1.0
"""What is pulled there is leased for so long at least, whoever made the subscription."""


class Found(NamedTuple):
    """A message that was pulled, and its param."""

    envelope: Envelope
    message_id: str
    ack_id: str
    at_s: float
    """When it was pulled."""


class Aside:
    """One minion's view of it. Times are its monotonic clock's."""

    def __init__(self, wire: Wire, clock: Clock, lease_s: float, owner: str) -> None:
        """`owner`: no other minion has this name, now or ever."""
        self._wire = wire
        self._clock = clock
        self._owner = owner
        self._claims = 0
        self._limbo_s = min(_LIMBO_MOST_S, lease_s / 4)
        self._limbo: dict[str, tuple[float, float]] = {}
        """When claims of others were seen here first, and last."""
        self._seldom_s = lease_s / 8
        self._often_s = min(_FIRST_LOOK_S, self._seldom_s)
        self._every_s = self._often_s
        self._look_at = self._looked_at = clock.monotonic()
        self._due: dict[str, float] = {}
        self._due_patience_s = lease_s / 4
        self.orphans: list[Found] = []
        """Runs of minions that died; whoever looks takes them from here. Their leases run."""
        self._unwanted: set[str] = set()
        self._wanted: dict[str, Held] = {}
        self._got: dict[str, Found] = {}
        """Claims of ours that are leased now."""

    # ---- looking
    def look(self, now_s: float) -> None:
        """See to what is due, and find orphans, if it is time to look again."""
        is_due = bool(self._due) and min(self._due.values()) <= now_s
        if now_s < (self._looked_at + self._often_s if is_due else self._look_at):
            return
        self._look(now_s)

    def ask_again(self) -> None:
        """After a failure, ask the service for something: who has nothing else to ask for, since
        it holds nothing, would take the service for well again. EngineUnavailable if it is not."""
        if self._wire.unsure:
            self._look(self._clock.monotonic())
            self._wire.unsure = False

    def _look(self, now_s: float) -> None:
        self._looked_at = now_s
        found = self._sort(self._wire.pull(self._wire.names.aside, _LOOK_MOST))
        self._every_s = self._often_s if found else min(2 * self._every_s, self._seldom_s)
        self._look_at = now_s + self._every_s

    def _sort(self, received: Sequence[Any]) -> bool:
        """What each of these is; whether any of them was worth the trip."""
        wire, aside = self._wire, self._wire.names.aside
        now_s, now = self._clock.monotonic(), self._clock.time()
        back: list[str] = []
        hidden: dict[int, list[str]] = {}
        due: list[Found] = []
        worth = False
        for each in received:
            message = each.message
            name = message.attributes.get(CLAIM)
            try:
                envelope = from_message(
                    message.data,
                    message.attributes,
                    decoder=wire.names.decoder,
                    own_id=message.message_id,
                )
            except Undecodable as error:
                wire.publish(wire.names.dead_topic, [undecodable(message, error)])
                wire.ack(aside, [each.ack_id])
                continue
            found = Found(envelope, message.message_id, each.ack_id, now_s)
            if name is None:
                left_s = envelope.not_before - now
                if left_s > 0:
                    seconds = min(LEASE_MOST_S, math.ceil(left_s))
                    hidden.setdefault(seconds, []).append(each.ack_id)
                    self._due[envelope.id] = now_s + left_s
                else:
                    due.append(found)
            elif name in self._wanted:
                del self._wanted[name]
                self._got[name] = found
            elif name in self._unwanted:
                self._unwanted.discard(name)
                wire.ack(aside, [each.ack_id])
            elif self._is_orphan(name, now_s):
                self.orphans.append(found)
                worth = True
            else:
                back.append(each.ack_id)
                worth = True
        wire.extend(aside, back, 0)
        for seconds, ack_ids in hidden.items():
            wire.extend(aside, ack_ids, seconds)
        if due:
            again = [letter(one.envelope._replace(not_before=0.0)) for one in due]
            wire.publish(wire.names.topic, again)
            wire.ack(aside, [one.ack_id for one in due])
        return worth or bool(due)

    def _is_orphan(self, name: str, now_s: float) -> bool:
        """Whether a claim of somebody else was seen for so long that its minion must be dead."""
        first_s, last_s = self._limbo.get(name, (now_s, now_s))
        if now_s - last_s > 10 * self._limbo_s:
            first_s = now_s  # it was held in between
        self._limbo[name] = (first_s, now_s)
        if now_s - first_s < self._limbo_s:
            return False
        del self._limbo[name]
        for other, (_, last_s) in list(self._limbo.items()):
            if now_s - last_s > 10 * self._limbo_s:
                del self._limbo[other]
        return True

    # ---- delays
    def delayed(self, envelope: Envelope, delay_s: float) -> Letter:
        """The message for a param that is given back until `delay_s` from now."""
        self._due[envelope.id] = self._clock.monotonic() + delay_s
        return letter(envelope._replace(not_before=self._clock.time() + delay_s))

    def leased(self, id_: str) -> None:
        """This param is at work again."""
        if self._due:
            self._due.pop(id_, None)

    def known(self, now_s: float) -> tuple[int, float | None]:
        """How many delayed params this minion knows of, and in how many seconds the first one
        is due. They count until somebody had time to take them."""
        for id_, due_s in list(self._due.items()):
            if due_s + self._due_patience_s < now_s:
                del self._due[id_]
        if not self._due:
            return 0, None
        return len(self._due), max(0.0, min(self._due.values()) - now_s)

    # ---- claims
    def disown(self, name: str) -> list[str]:
        """This claim was published, and its run is over: these ack ids are to be acked. If it was
        never leased, this minion drops it when it comes upon it here; if somebody else comes
        upon it, that work is repeated."""
        found = self._got.pop(name, None)
        if found is not None:
            return [found.ack_id]
        self._unwanted.add(name)
        return []

    def claimed(self, held: Sequence[Held]) -> list[tuple[Held, Found]]:
        """Publish a claim for each of these, and lease it. What to do with the messages that
        they were so far is left to the caller.

        EngineUnavailable if that did not work in time; called again it goes on where it was.
        """
        wire = self._wire
        new = [each for each in held if not each.claim]
        names = []
        for _ in new:
            self._claims += 1
            names.append(f"{self._owner}.{self._claims}")
        try:
            wire.publish(
                wire.names.aside_topic,
                [claim(each.envelope, name) for each, name in zip(new, names, strict=True)],
            )
        except MinionizeError:
            # They may be there all the same, and would be taken for runs that ended in a crash.
            self._unwanted.update(names)
            raise
        for each, name in zip(new, names, strict=True):
            each.claim = name
        self._forget_old(self._clock.monotonic())
        self._wanted = {each.claim: each for each in held if each.claim not in self._got}
        until = time.monotonic() + wire.rpc_s
        while self._wanted:
            left_s = until - time.monotonic()
            if left_s <= 0:
                break
            most = len(self._wanted) + _LOOK_MOST
            self._sort(wire.wait_pull(wire.names.aside, most, left_s))
        if self._wanted:
            raise EngineUnavailable(
                f"{wire.names.url}: {len(self._wanted)} runs could not be marked: others keep "
                "taking their marks"
            )
        return [(each, self._got.pop(each.claim)) for each in held]

    def _forget_old(self, now_s: float) -> None:
        """Claims that were leased when marking failed, and whose leases may be over by now: they
        come again."""
        for name, found in list(self._got.items()):
            if now_s - found.at_s > SURELY_ASIDE_S / 2:
                del self._got[name]

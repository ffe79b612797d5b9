"""A minion's face of a queue on Pub/Sub."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from minionize.contracts.engine import EngineOptions, Traits
from minionize.engines.envelope import Undecodable, from_message
from minionize.engines.pubsub import letters
from minionize.engines.pubsub.acks import Acks
from minionize.engines.pubsub.aside import SURELY_ASIDE_S, Aside
from minionize.engines.pubsub.held import Held, Holdings, ack_id_of, by_subscription
from minionize.engines.pubsub.making import DEADLINE_LEAST_S, checked, complete, deadline_of
from minionize.engines.pubsub.names import Names
from minionize.engines.pubsub.pulls import Pulls
from minionize.engines.pubsub.wire import PULL_MOST, Letter, Wire
from minionize.values import Failure, Lease, Orders, Policy, Stats

TRAITS = Traits(counts=False, scans=False, steers=False)
_RPC_LEAST_S, _RPC_MOST_S = 5.0, 15.0


class PubsubEngine:
    """Leases by synchronous pulls, in batches; renews with modify_ack_deadline."""

    def __init__(self, names: Names, options: EngineOptions) -> None:
        self.url = names.url
        self._names = names
        self._clock = options.clock
        self._deadline_s = deadline_of(options.lease_s)
        self._sure_s = self._deadline_s - min(1.0, self._deadline_s / 20)
        """A lease counts as lost a little before it is: answers take a while."""
        rpc_s = min(_RPC_MOST_S, max(_RPC_LEAST_S, options.lease_s / 4))
        self.wire = Wire(names, options.env, rpc_s)
        try:
            subscription = checked(self.wire)
            # Topic and subscription were made by hand, without the rest.
            complete(self.wire, self._deadline_s, create=True)
        except BaseException:  # Ctrl-C as well
            self.wire.close()
            raise
        self._subscription = subscription
        known = subscription is not None
        self.traits = TRAITS
        if known and not subscription.dead_letter_policy.max_delivery_attempts:
            self.traits = TRAITS._replace(counts_crashes=False)
        self._once = known and bool(subscription.enable_exactly_once_delivery)
        self._as_pulled = known and subscription.ack_deadline_seconds == self._deadline_s
        """What is pulled is leased for as long as we want without another word."""
        first_s = float(subscription.ack_deadline_seconds) if known else DEADLINE_LEAST_S
        self._first_s = self._sure_s if self._as_pulled else first_s - 1.0
        """For how long it is leased, surely, before we say more."""
        owner = f"{options.minion_id}.{secrets.token_hex(4)}"
        self._aside = Aside(self.wire, self._clock, options.lease_s, owner)
        self._holdings = Holdings()
        self._suspects: deque[Held] = deque()
        self._ready: deque[Held] = deque()
        """Leased, and not handed out yet."""
        self._brief: list[Held] = []
        """Those of them that are not leased yet for as long as we want."""
        self._acks = Acks(self.wire)
        self._pulls = Pulls(self.wire, self._clock, self._accept)
        self._kept_before: set[Held] = set()
        """Those that were ready at the last beat."""
        self._closed = False

    # ---- leasing
    def lease(self, limit: int, wait_s: float) -> Sequence[Lease]:
        """See contracts.engine."""
        if limit <= 0:
            return []
        self._aside.ask_again()
        acks = self._acks.send()
        try:
            self._renew_brief()
            self._aside.look(self._clock.monotonic())
            self._take_orphans()
            if not self._suspects and not self._ready:
                self._pulls.get(limit, wait_s)
        finally:
            self._acks.end(acks)
        return self._hand_out(limit)

    def _hand_out(self, limit: int) -> list[Lease]:
        """Suspects come with suspects only; and later, since they are suspects all the same if we
        die while they wait here, which others would become."""
        source = self._ready or self._suspects
        out: list[Lease] = []
        now_s = self._clock.monotonic()
        while source and len(out) < limit:
            held = source.popleft()
            if not held.open or held.expires_s <= now_s:
                self._holdings.drop(held)
                continue
            self._aside.leased(held.envelope.id)
            out.append(held.lease())
        return out

    def _accept(self, received: Sequence[Any], at_s: float) -> bool:
        """Messages of the subscription, leased since `at_s`, become ready. Returns whether any
        is."""
        if received:
            self._make_ready(received, at_s)
        return bool(self._ready or self._suspects)

    def _make_ready(self, received: Sequence[Any], at_s: float) -> None:
        names, holdings = self._names, self._holdings
        expires_s = at_s + self._first_s
        new: list[Held] = []
        doubles: list[str] = []
        unreadable: list[tuple[Letter, str]] = []
        for each in received:
            message = each.message
            try:
                envelope = from_message(
                    message.data,
                    message.attributes,
                    decoder=names.decoder,
                    own_id=message.message_id,
                )
            except Undecodable as error:
                unreadable.append((letters.undecodable(message, error), each.ack_id))
                continue
            attempts = each.delivery_attempt
            if attempts > 1 and not envelope.suspect:
                envelope = envelope._replace(suspect=True)
            if holdings.twin(envelope, message.message_id, at_s):
                doubles.append(each.ack_id)
                continue
            held = Held(
                envelope, names.subscription, message.message_id, each.ack_id, expires_s,
                attempts > 0,
            )  # fmt: skip
            if holdings.add(held, at_s) is not None:
                new.append(held)
        # All have their place before anything is told: that may fail, and they would not be run.
        for held in new:
            (self._suspects if held.envelope.suspect else self._ready).append(held)
        if doubles:
            self._acks.add(names.subscription, doubles)
        if not self._as_pulled:
            self._brief += new
            self._renew_brief()
        if unreadable:
            self.wire.publish(names.dead_topic, [letter for letter, _ in unreadable])
            self._acks.add(names.subscription, [ack_id for _, ack_id in unreadable])

    def _renew_brief(self) -> None:
        """Lease for as long as we want what is leased for a moment only. If the answer gets lost,
        it waits here."""
        if self._brief:
            now_s = self._clock.monotonic()
            self._renew([held for held in self._brief if held.open and held.expires_s > now_s])
            self._brief.clear()

    def _take_orphans(self) -> None:
        """What minions died of becomes ready here."""
        orphans, self._aside.orphans = self._aside.orphans, []
        now_s = self._clock.monotonic()
        for found in orphans:
            held = Held(
                found.envelope, self._names.aside, found.message_id, found.ack_id,
                found.at_s + SURELY_ASIDE_S, True,
            )  # fmt: skip
            if self._holdings.twin(found.envelope, found.message_id, now_s):
                self._acks.add(held.subscription, [found.ack_id])
            elif self._holdings.add(held, now_s) is not None:
                self._suspects.append(held)
                self._brief.append(held)
        self._renew_brief()

    # ---- settling
    def ack(self, leases: Collection[Lease]) -> None:
        """See contracts.engine. A late ack is not told: it might be the new holder's."""
        for held in self._holdings.mine(leases, self._clock.monotonic()):
            self._acks.add(held.subscription, [held.ack_id], urgent=held.marked)
            self._forget(held)
        if self._acks.urgent:
            self._acks.flush()

    def _forget(self, held: Held) -> None:
        """It is settled, or about to be."""
        self._holdings.drop(held)
        if held.claim:
            self._acks.add(self._names.aside, self._aside.disown(held.claim))

    def nack(
        self,
        leases: Collection[Lease],
        *,
        delay_s: float = 0.0,
        charge: bool = True,
        later: bool = False,
    ) -> None:
        """See contracts.engine."""
        mine = self._sure(self._holdings.mine(leases, self._clock.monotonic()))
        as_it_is: list[Held] = []
        swaps: list[tuple[Held, str, Letter]] = []
        for held in mine:
            envelope = letters.given_back(held.envelope, charge, later)
            if delay_s > 0:
                delayed = self._aside.delayed(envelope, delay_s)
                swaps.append((held, self._names.aside_topic, delayed))
            elif (
                envelope is held.envelope
                and not held.counted
                and not held.replaced
                and held.subscription == self._names.subscription
            ):
                as_it_is.append(held)
            else:
                swaps.append((held, self._names.topic, letters.letter(envelope)))
        self._release(as_it_is)
        self._swap(swaps)

    def bury(self, leases: Collection[Lease], failure: Failure) -> None:
        """See contracts.engine."""
        mine = self._sure(self._holdings.mine(leases, self._clock.monotonic()))
        topic = self._names.dead_topic
        self._swap([(held, topic, letters.dead(held.envelope, failure)) for held in mine])

    def _sure(self, mine: list[Held]) -> list[Held]:
        """Those that are still ours, where the service can say so: before new ones are made."""
        if self._once:
            self._renew([held for held in mine if not held.replaced])
        return [held for held in mine if held.open]

    def _swap(self, swaps: Sequence[tuple[Held, str, Letter]]) -> None:
        """New messages in, then the old ones out: in this order nothing is lost."""
        for topic in {topic for _, topic, _ in swaps}:
            some = [
                (held, letter) for held, to, letter in swaps if to == topic and not held.replaced
            ]
            for at in range(0, len(some), PULL_MOST):
                portion = some[at : at + PULL_MOST]
                self.wire.publish(topic, [letter for _, letter in portion])
                for held, _ in portion:
                    held.replaced = True
        done = [held for held, _, _ in swaps]
        for subscription, some_held in by_subscription(done).items():
            self.wire.ack(subscription, list(map(ack_id_of, some_held)))
            for held in some_held:
                self._forget(held)

    def _release(self, held: Collection[Held]) -> None:
        """Give back as they are."""
        for subscription, some in by_subscription(held).items():
            self.wire.extend(subscription, list(map(ack_id_of, some)), 0)
            for each in some:
                self._forget(each)

    # ---- the heartbeat
    def extend(self, leases: Collection[Lease]) -> Collection[Lease]:
        """See contracts.engine."""
        self._aside.ask_again()
        self._acks.flush()
        self._pulls.take_pending()
        now_s = self._clock.monotonic()
        self._renew(self._holdings.mine(leases, now_s) + self._kept(now_s))
        return [
            lease for lease in leases if not (isinstance(lease.token, Held) and lease.token.open)
        ]

    def _kept(self, now_s: float) -> list[Held]:
        """What is ready and not handed out yet. What was so at the last beat goes back: the
        minion is busy, and others may have room."""
        here = (*self._suspects, *self._ready)
        kept = [held for held in here if held.open and held.expires_s > now_s]
        old = [held for held in kept if held in self._kept_before]
        self._release([held for held in old if held.envelope.suspect])
        plain = [held for held in old if not held.envelope.suspect]
        self.nack([held.lease() for held in plain], charge=False)
        self._kept_before = {held for held in kept if held.open}
        return list(self._kept_before)

    def _renew(self, held: Iterable[Held]) -> None:
        """Another lease for these; those that the service knows as lost are lost."""
        for subscription, some in by_subscription(list(held)).items():
            sent_s = self._clock.monotonic()
            lost = self.wire.extend(subscription, list(map(ack_id_of, some)), self._deadline_s)
            for each in some:
                if each.ack_id in lost:
                    self._holdings.drop(each)
                else:
                    each.expires_s = sent_s + self._sure_s

    def started(self, leases: Collection[Lease]) -> None:
        """See contracts.engine; and `aside` for how."""
        mine = [
            held for held in self._holdings.mine(leases, self._clock.monotonic()) if not held.marked
        ]
        mine = self._sure(mine)
        for held, found in self._aside.claimed(mine) if mine else ():
            self._acks.add(held.subscription, [held.ack_id], urgent=True)
            held.subscription, held.ack_id = self._names.aside, found.ack_id
            held.message_id = found.message_id
            held.expires_s = min(held.expires_s, found.at_s + SURELY_ASIDE_S)
            held.claim = ""
            held.marked = True
            self._brief.append(held)
        # Also when it is called again, since this failed.
        self._renew_brief()
        if self._acks.urgent:
            self._acks.flush()

    # ---- the rest
    def orders(self) -> Orders:
        """Minions can't be told anything here."""
        return Orders()

    def stats(self) -> Stats:
        """See contracts.engine: only what this minion knows to be delayed is known."""
        self._aside.ask_again()
        self._acks.flush()
        delayed, due_in_s = self._aside.known(self._clock.monotonic())
        return Stats(delayed=delayed or None, due_in_s=due_in_s)

    def close(self) -> None:
        """See contracts.engine."""
        if self._closed:
            return
        self._closed = True
        try:
            self._acks.flush()
            self._pulls.take_pending()
            now_s = self._clock.monotonic()
            held = [each for each in self._holdings.everything() if each.expires_s > now_s]
            self.nack([each.lease() for each in held], charge=False)
            self._acks.flush()
        finally:
            self.abandon()

    def policies(self) -> Sequence[Policy]:
        """See contracts.engine.TellsPolicies."""
        from minionize.engines.pubsub.policies import policies_of

        return policies_of(self._subscription, self._names, own=True)

    def abandon(self) -> None:
        """As if this process had been killed: nothing is given back."""
        self._closed = True
        self._pulls.cancel()
        self.wire.close()

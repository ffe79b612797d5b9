"""A minion's face of a queue in Pulsar.

Pulsar hands a message to another minion when the connection of the one that has it breaks, and
not before: it knows no lease, and does not count who died. So what a minion takes is *claimed*: a
copy that is to be delivered when the lease ends goes into the topic `held`, then the message is
acked. The copy is acked when the param is done, replaced by a later one at each beat, and is there
for others if this minion is silent, with the crash counted in it. A minion that takes more than
CLAIMS_PER_S does without, and claims what it holds for longer than a moment.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Sequence

import pulsar

from minionize.contracts.engine import EngineOptions
from minionize.engines.envelope import Undecodable, from_message
from minionize.engines.pulsar.acks import AcksUnderWay
from minionize.engines.pulsar.burial import Burial
from minionize.engines.pulsar.claims import Claims
from minionize.engines.pulsar.connection import connect
from minionize.engines.pulsar.counting import Counter
from minionize.engines.pulsar.decoding import (
    envelope,
    leased,
    letter,
    own_id,
)
from minionize.engines.pulsar.faults import DelayRefused, translated
from minionize.engines.pulsar.holding import Held, Holding, by_kind
from minionize.engines.pulsar.intake import HELD, Arrival, Intake, give_back
from minionize.engines.pulsar.orders import OrdersReader
from minionize.engines.pulsar.place import TRAITS, place_of
from minionize.engines.pulsar.rate import Rate
from minionize.engines.pulsar.sending import Sender
from minionize.engines.pulsar.topics import check_exists
from minionize.errors import EngineUnavailable, MinionizeError
from minionize.values import Failure, Lease, Orders, Stats

CLAIMS_PER_S = 100
"""A minion that takes params faster does not claim each."""
CLAIMS_ALL_S = 1.0
"""And one that begins claims all for so long: what killed a fast minion comes to it early."""
_STALLED_S = 1.0
"""A fast minion that did not ask for so long is slow."""


class PulsarEngine:
    """A minion's face."""

    def __init__(self, address: str, options: EngineOptions) -> None:
        self._place = place = place_of(address)
        self.traits = TRAITS
        self.url = place.url
        self._options = options
        self._lease_s = options.lease_s
        self._lock = threading.RLock()
        self._holding = Holding()
        self._claims = Claims(options)
        self._rate = Rate(CLAIMS_PER_S, CLAIMS_ALL_S)
        self._asked_at = time.monotonic()
        self._most_delay_s = float("inf")
        """The broker delays no message for longer."""
        self._closed = False
        self._watch: threading.Thread | None = None
        patience_s = min(10.0, max(2.0, options.lease_s / 4))
        self._client: pulsar.Client = connect(place, options.env, max(5, int(patience_s)))
        try:
            check_exists(self._client, place)
            self._intake = Intake(
                self._client,
                place,
                options.minion_id,
                {"host": options.host, "pid": str(options.pid), "slots": str(options.slots)},
            )
            self._orders = OrdersReader(self._client, place)
        except BaseException:  # Ctrl-C as well
            self._client.shutdown()
            raise
        self._sender = Sender(self._client, place, patience_s=patience_s)
        self._burial = Burial(self._client, place, self._sender)
        self._acks = AcksUnderWay(self._intake)
        self._counter = Counter(place, options.env)

    def lease(self, limit: int, wait_s: float) -> Sequence[Lease]:
        with self._lock:
            self._asked_at = time.monotonic()
            if limit <= 0:
                return []
            if self._orders.latest.paused:
                self._intake.release()
                self._orders.changed.clear()
                if self._orders.latest.paused:
                    self._orders.changed.wait(wait_s)
                return []
            self._reconnect()
            self._acks.ack_untold()
            self._keep_pace()
            with translated(self._place, "take params"):
                arrivals = self._intake.get(limit, wait_s)
            if not arrivals:
                self._intake.check_connected()
                return []
            if self._orders.latest.paused:
                for arrival in arrivals:
                    give_back(arrival)
                return []
            leases = self._take(arrivals)
            self._rate.took(len(leases))
            self._asked_at = time.monotonic()
            return leases

    def ack(self, leases: Collection[Lease]) -> None:
        with self._lock:
            # While the connection is broken the client takes acks and loses them.
            self._intake.check_connected()
            mine = self._holding.mine(leases)
            # Those ran for long, or are suspects: they must not run once more.
            self._settle([held for held in mine if held.marked])
            with translated(self._place, "ack"):
                for held in mine:
                    if not held.marked:
                        self._acks.tell(held)
                        self._holding.drop(held)

    def nack(
        self,
        leases: Collection[Lease],
        *,
        delay_s: float = 0.0,
        charge: bool = True,
        later: bool = False,
    ) -> None:
        with self._lock:
            anew: list[Held] = []
            for held in self._holding.mine(leases):
                if held.claimed or charge or later or delay_s > 0:
                    anew.append(held)
                else:
                    with translated(self._place, "give back"):
                        held.consumer.negative_acknowledge(held.message_id)
                    self._holding.drop(held)
            self._give_back_anew(anew, delay_s, charge, later)

    def bury(self, leases: Collection[Lease], failure: Failure) -> None:
        with self._lock:
            gone = self._holding.mine(leases)
            if not gone:
                return
            self._burial.bury(gone, failure)
            self._settle(gone)

    def extend(self, leases: Collection[Lease]) -> Collection[Lease]:
        with self._lock:
            self._intake.check_connected()
            held = self._holding.mine(leases)
            # Not what was claimed a moment ago: if we die meanwhile both copies are left.
            then_s = time.monotonic() + self._lease_s - self._claims.spare_s
            some = [each for each in held if not each.replaced and not each.lasts_until(then_s)]
            self._claim(some, marked=False)
            self._acks.ack_untold()
            if time.monotonic() - self._asked_at > _STALLED_S:
                self._claim([one for one in self._holding if not one.claimed], marked=False)
                self._intake.let_go()
            kept = {each.lease.token for each in held}
            return [lease for lease in leases if lease.token not in kept]

    def started(self, leases: Collection[Lease]) -> None:
        with self._lock:
            fresh = [held for held in self._holding.mine(leases) if not held.marked]
            self._claim(fresh, marked=True)

    def orders(self) -> Orders:
        return self._orders.latest

    def stats(self) -> Stats:
        self._intake.check_connected()
        stats = self._counter.stats_lately()
        return stats._replace(paused=self._orders.latest.paused)

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                # What was lost is another's, or was ours again and is done.
                left = self._holding.mine([held.lease for held in self._holding])
                self._give_back_anew([held for held in left if held.claimed], 0.0, False, False)
                self._acks.ack_untold()
                self._intake.close()
                self._client.close()
            except (MinionizeError, pulsar.PulsarException) as error:
                self._client.shutdown()
                if isinstance(error, MinionizeError):
                    raise
                raise EngineUnavailable(
                    f"{self.url}: cannot say goodbye ({type(error).__name__}): what was held "
                    "comes back when the leases end"
                ) from error

    # ---- how

    def _take(self, arrivals: list[Arrival]) -> list[Lease]:
        """What came, as leases, claimed where that is due."""
        try:
            leases = self._read(arrivals)
        except MinionizeError:
            for arrival in arrivals:  # what is acked already stays so
                give_back(arrival)
            raise
        suspects = [held for held in leases if held.lease.suspect]
        if suspects and len(suspects) < len(leases):
            for held in leases:
                if not held.lease.suspect:
                    held.consumer.negative_acknowledge(held.message_id)
            leases = suspects
        if not self._rate.fast or suspects:
            try:
                self._claim(leases, marked=False)
            except MinionizeError:
                for held in leases:
                    if not held.claimed:
                        held.consumer.negative_acknowledge(held.message_id)
                raise
        for held in leases:
            self._holding.add(held)
        return [held.lease for held in leases]

    def _read(self, arrivals: list[Arrival]) -> list[Held]:
        """What came, as held; save what is not due yet, and what is no param."""
        leases: list[Held] = []
        ids: set[str] = set()
        now = self._options.clock.time()
        main, batched = self._intake.main, False
        for arrival in arrivals:
            message = arrival.message
            message_id = message.message_id()
            if self._claims.is_void(message.properties()):
                self._acks.ack({arrival.kind: [message_id]})
                continue
            try:
                found = from_message(
                    message.data(),
                    message.properties(),
                    decoder=self._place.decoder,
                    own_id=own_id(message_id),
                )
            except Undecodable as error:
                self._burial.bury_raw(message, error)
                self._acks.ack({arrival.kind: [message_id]})
                continue
            if found.not_before > now + 0.001:
                give_back(arrival)
                continue
            batched = batched or (not self._intake.ahead and message_id.batch_index() >= 0)
            if found.id in ids:  # comes again, to find that it is held
                give_back(arrival)
            elif self._holding.keeps(found.id, arrival.kind, arrival.consumer, message_id):
                self._acks.ack({arrival.kind: [message_id]})
            elif found.id not in self._holding:
                ids.add(found.id)
                lease = leased(found, self._holding.serial())
                leases.append(Held(lease, arrival.kind, arrival.consumer, message_id))
        if batched:
            self._intake.batched()
            # What came from the consumer of before may be any minion's now.
            leases = [held for held in leases if held.consumer is not main]
        return leases

    def _claim(self, some: list[Held], *, marked: bool) -> None:
        """Let copies stand for these that come back when the lease ends, and charge a crash if
        they are `marked`."""
        if not some:
            return
        began_s = time.monotonic()
        letters = self._claims.letters(some, marked=marked)
        try:
            ids = self._sender.send(self._place.beside("held"), letters)
        except MinionizeError:
            self._claims.failed(letters)
            raise
        replaced = by_kind(some)
        consumer = self._intake.consumer(HELD)
        for held, message_id in zip(some, ids, strict=True):
            held.kind, held.consumer, held.message_id = HELD, consumer, message_id
            held.until_s = began_s + self._lease_s
            held.marked = held.marked or marked
        # A param that kills us now must not come back as one that nothing is known of.
        self._acks.ack(replaced)

    def _give_back_anew(self, some: list[Held], delay_s: float, charge: bool, later: bool) -> None:
        """As new messages, with what is to be counted in them; then the old ones go. A delay that
        is longer than the broker allows is cut to what it allows."""
        try:
            self._send_back(some, min(delay_s, self._most_delay_s), charge, later)
        except DelayRefused as refused:
            self._most_delay_s = refused.most_s
            self._send_back(some, refused.most_s, charge, later)

    def _send_back(self, some: list[Held], delay_s: float, charge: bool, later: bool) -> None:
        due = self._options.clock.time() + delay_s if delay_s > 0 else 0.0
        letters = []
        fresh = [held for held in some if not held.replaced]
        for held in fresh:
            lease = held.lease
            back = envelope(lease)._replace(
                attempt=lease.attempt + charge,
                laters=0 if charge else lease.laters + later,
                suspect=lease.suspect and not (charge or later),
                not_before=due,
            )
            letters.append(letter(back, delay_s))
        self._sender.send(self._place.beside("back"), letters)
        for held in fresh:
            held.replaced = True
        self._settle(some)

    def _settle(self, some: list[Held]) -> None:
        """These have another place now, or are done."""
        self._acks.ack(by_kind(some))
        for held in some:
            self._holding.drop(held)

    def _reconnect(self) -> None:
        """After a break: ask anew, and ack once more what was on its way then."""
        if not self._intake.is_stale:
            self._acks.forget_stored()
            return
        self._intake.check_connected()
        self._claim([held for held in self._holding if not held.claimed], marked=False)
        self._intake.renew()
        self._acks.tell_again()

    def _keep_pace(self) -> None:
        """Fetch ahead as far as half a second of work goes."""
        ahead = max(self._rate.ahead, self._intake.least)
        if ahead != self._intake.ahead:
            self._fetch_ahead(ahead)

    def _fetch_ahead(self, ahead: int) -> None:
        self._claim([held for held in self._holding if not held.claimed], marked=False)
        self._intake.fetch_ahead(ahead)
        if ahead and self._watch is None:
            self._watch = threading.Thread(target=self._look_after, daemon=True)
            self._watch.start()

    def _look_after(self) -> None:
        """In a thread, once this minion was fast: what it fetched ahead goes back when it asks
        for nothing, and what it holds is claimed; so a stalled minion keeps neither."""
        while not self._closed:
            time.sleep(_STALLED_S / 2)
            with self._lock:
                stalled = time.monotonic() - self._asked_at > _STALLED_S
                if self._closed or not stalled or not self._rate.fast:
                    continue
                try:
                    self._rate.forget()
                    self._fetch_ahead(0)
                except MinionizeError:
                    continue  # comes up again when the minion itself asks

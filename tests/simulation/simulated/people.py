"""What the processes of a story do: minions as the worker drives them, feeders, persons."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from minionize.contracts.engine import EngineOptions
from minionize.engines.file.minion import FileEngine
from minionize.engines.file.people import FileQueue
from minionize.engines.file.room import Room
from minionize.errors import EngineUnavailable, MinionizeError, NoSuchQueue
from minionize.values import Failure, Lease, State
from simulated.audit import Audit
from simulated.disk import Folder
from simulated.system import SimulatedCalls
from simulated.world import Actor, Crashed, Violation, World

PATH = "/queue"
MAX_CRASHES = 3

ENDS = ("ack", "back", "fail", "later", "bury", "keep", "die", "stall")
Deciding = Callable[[Lease], str]
"""How a run of a param ends: one of ENDS."""


class Story:
    """A queue in a world, and who works on it."""

    def __init__(self, world: World, *, lease_s: float = 60.0) -> None:
        self.world = world
        self.lease_s = lease_s
        world.lease_s = lease_s
        self.audit = world.audit = Audit(world, PATH)
        self.batches: list[tuple[set[str], bool]] = []
        """Texts that were put at once, and whether `put` returned."""
        self.ran: set[str] = set()
        """Texts of params that some minion had."""

    def room(self, actor: Actor) -> Room:
        calls = SimulatedCalls(actor)
        options = EngineOptions(
            lease_s=self.lease_s,
            minion_id=actor.name,
            host=f"host{actor.host.number}",
            pid=actor.pid,
            clock=calls.clock,
        )
        return Room(PATH, options, calls)

    @property
    def exists(self) -> bool:
        """Whether there is a queue."""
        folder = self.world.root.now(PATH[1:])
        return isinstance(folder, Folder) and folder.now("head") is not None

    # ---- who there is
    def feeder(self, name: str, host: int, batches: Sequence[Sequence[int]]) -> Actor:
        """Puts each of these batches, once."""

        def body(actor: Actor) -> None:
            queue = FileQueue(self.room(actor))
            for batch in batches:
                texts = {str(one) for one in batch}
                at = len(self.batches)
                self.batches.append((texts, False))
                try:
                    queue.put(batch)
                except EngineUnavailable:
                    continue
                self.batches[at] = (texts, True)
            queue.close()

        return self.world.actor(name, host, body)

    def person(self, name: str, host: int) -> Actor:
        """Lists everything, and puts dead letters back to work."""

        def body(actor: Actor) -> None:
            queue = FileQueue(self.room(actor))
            calls = queue.room.calls
            for _ in range(3):
                calls.sleep(20.0)
                try:
                    for state in State:
                        for entry in queue.scan(state):
                            self._check_text(entry.id, entry.text)
                    self.audit.requeues = True
                    queue.requeue()
                except (EngineUnavailable, NoSuchQueue):
                    continue
            queue.close()

        return self.world.actor(name, host, body)

    def minion(
        self,
        name: str,
        host: int,
        decide: Deciding,
        *,
        limit: int = 2,
        rounds: int = 40,
        run_s: float = 0.0,
        marks: bool = False,
        late_s: float = 0.0,
        wait_s: float = 2.0,
    ) -> Actor:
        """Leases up to `limit`, runs each for `run_s`, ends it as decided, until drained."""

        def body(actor: Actor) -> None:
            if late_s:
                self.world.sleep(actor, late_s)
            Minion(self, actor, decide, limit, run_s, marks, wait_s).work(rounds)

        return self.world.actor(name, host, body)

    def _check_text(self, number: str, text: str) -> None:
        known = self.audit.texts.get(int(number))
        if known != text:
            raise Violation(f"param {number} is {known}, and was handed out as {text}")

    # ---- the end
    def finish(self) -> None:
        """After all that went wrong fresh minions, with whom nothing does, drain the queue."""
        world = self.world
        world.chooser.quiet()
        for host in world.hosts:
            host.cut_until = min(host.cut_until, world.now)
        if not self.exists:
            return  # nobody came as far as to make a queue
        for number in (1, 2):
            where = (number - 1) % len(world.hosts)
            fresh = self.minion(
                f"fresh{number}", where, lambda _: "ack", limit=10, rounds=400, wait_s=0.0
            )
            fresh.mortal = False
        world.run()
        audit = self.audit
        left = {one: place for one, place in audit.state.places.items() if place != "dead"}
        if left:
            raise Violation(f"never drained: {left}")
        found = [audit.texts[one] for one in range(1, audit.state.put + 1)]
        if len(set(found)) != len(found):
            raise Violation(f"put twice: {sorted(found)}")
        for texts, returned in self.batches:
            there = texts & set(found)
            if there != texts and (returned or there):
                raise Violation(f"{sorted(texts - there)} were put, and are not there")
        for one in audit.state.settled:
            if audit.state.places.get(one) != "dead" and audit.texts[one] not in self.ran:
                raise Violation(f"param {one} is done, and nobody ran it")


class Minion:
    """A minion's loop."""

    def __init__(
        self,
        story: Story,
        actor: Actor,
        decide: Deciding,
        limit: int,
        run_s: float,
        marks: bool,
        wait_s: float,
    ) -> None:
        self.story = story
        self.actor = actor
        self.decide = decide
        self.limit = limit
        self.run_s = run_s
        self.marks = marks
        self.wait_s = wait_s
        self.room = story.room(actor)
        self.held: dict[str, Lease] = {}
        self.beaten = self.room.calls.monotonic()
        self.engine = self._open()

    def _open(self) -> FileEngine:
        why: MinionizeError | None = None
        for _ in range(1000):
            try:
                return FileEngine(self.room)
            except (EngineUnavailable, NoSuchQueue) as error:
                why = error
            self.room.calls.sleep(1.0)
            self.room = self.story.room(self.actor)
        if not self.story.exists:
            raise Crashed  # whoever would have made the queue died before
        raise Violation(f"{self.actor.name} could never join: {why}")

    def work(self, rounds: int) -> None:
        """Until drained, or for so many rounds."""
        for _ in range(rounds):
            self._beat_if_due()
            try:
                self._take()
                for lease in list(self.held.values()):
                    if lease.id in self.held:
                        self._run(lease)
                if not self.held:
                    if self._drained():
                        break
                    if not self.wait_s:
                        self.room.calls.sleep(self.story.lease_s / 4)
            except EngineUnavailable:
                self.room.calls.sleep(1.0)
        try:
            self.engine.close()
        except EngineUnavailable:
            return

    def _take(self) -> None:
        story, audit = self.story, self.story.audit
        generation = self.engine._member.generation
        others = audit.claims_of_others(self.actor.name)
        leases = self.engine.lease(self.limit, self.wait_s)
        same = self.engine._member.generation == generation
        if not same:
            self.held.clear()
            self.actor.charge.clear()
        others &= audit.claims_of_others(self.actor.name)
        for lease in leases:
            for one, owner, *_ in others:
                if one == int(lease.id):
                    raise Violation(f"{self.actor.name} got {lease}, which {owner} holds")
            story._check_text(lease.id, lease.text)
            before = self.held.get(lease.id)
            if before is not None and before.token == lease.token and not story.world.lost_writes:
                raise Violation(f"{self.actor.name} got {lease} twice")
            if lease.crashes > audit.charged[int(lease.id)]:
                raise Violation(f"{lease} is innocent")
            story.ran.add(lease.text)
            self.held[lease.id] = lease

    def _run(self, lease: Lease) -> None:
        one = int(lease.id)
        if lease.crashes >= MAX_CRASHES:
            self.engine.bury([lease], Failure("crashes"))
            self._over(lease)
            return
        if lease.suspect or self.marks:
            self.story.audit.about_to_run(self.actor, {one})
            self.engine.started([lease])
        if self.run_s:
            self.room.calls.sleep(self.run_s)
            self._beat_if_due()
            if lease.id not in self.held:
                return
        end = self.decide(lease)
        if end == "keep":
            return
        if end == "stall":
            self.actor.world.stall(self.actor, 2.8 * self.story.lease_s)
            return
        if end == "die":
            self.actor.world.kill(self.actor, inside=True)
        if end == "ack":
            self.story.audit.acked.add(one)
            self.engine.ack([lease])
        elif end == "bury":
            self.engine.bury([lease], Failure("exit 3"))
        else:
            self.engine.nack(
                [lease],
                delay_s=0.0 if end == "back" else 1.0,
                charge=end == "fail",
                later=end == "later",
            )
        self._over(lease)

    def _over(self, lease: Lease) -> None:
        self.held.pop(lease.id, None)
        self.actor.charge.discard(int(lease.id))

    def _beat_if_due(self) -> None:
        now = self.room.calls.monotonic()
        if now - self.beaten < self.story.lease_s / 4:
            return
        try:
            for lease in self.engine.extend(list(self.held.values())):
                self._over(lease)
            self.beaten = now
        except EngineUnavailable:
            return

    def _drained(self) -> bool:
        audit = self.story.audit
        promised = {text for texts, returned in self.story.batches if returned for text in texts}
        feeding = self._feeders()
        if not self.engine.stats().drained:
            return False
        ids = {text: one for one, text in audit.texts.items()}
        for text in promised:
            if ids.get(text) not in audit.state.settled:
                raise Violation(f"called drained while {text} is not settled")
        if feeding & self._feeders():
            raise Violation("called drained while somebody feeds")
        return True

    def _feeders(self) -> set[int]:
        return {
            slot.life for slot in self.story.audit.state.slots
            if slot.feeder and slot.state == "live"
        }  # fmt: skip

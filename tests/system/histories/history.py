"""Draws what happens to a queue, several things at once, and keeps the reference up to date."""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections.abc import Callable
from pathlib import Path

from histories.crowd import LASTS, LEASE_S, Crowd
from histories.errands import Desk, Said
from histories.ledger import Batch, Ledger, Put
from histories.places import Place

UNREACHABLE = 69
MOST_MINIONS = 4
MOST_ERRANDS = 3
AFTERMATH_S = 40.0
"""For so long after a fault a command may still say that it could not reach the queue: a lock or
a server is waited for."""
CLOCKS_S = (0.0, 3600.0, -3600.0, 40.0, -40.0, 3.0, -3.0)


class History:
    """One queue, minions and people, and everything that happens to them."""

    def __init__(self, place: Place, folder: Path, seed: int) -> None:
        self.place = place
        self.folder = folder
        self.seed = seed
        self.chance = random.Random(seed)
        self.ledger = Ledger()
        self.crowd = Crowd(folder, place.url, place.env)
        self.desk = Desk(folder, place.url, place.env)
        self.plan: list[str] = []
        """What was done, with seconds."""
        self.broken = ""
        """The fault that lasts."""
        self.reports_lost = False
        """The report could not be written for a while."""
        self._began = time.monotonic()
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._fault_at = -1e9
        self._frozen_at = -1e9
        self._paused = False
        self.actions: dict[str, tuple[int, Callable[[], None]]] = {
            "feed": (8, self._feed),
            "feed --dedupe": (4, self._dedupe),
            "retry": (3, lambda: self._steer("retry")),
            "retry ID": (2, self._retry_some),
            "retry --done": (1, self._retry_done),
            "purge": (1, lambda: self._purge("purge", "--yes")),
            "purge --dead": (2, lambda: self._purge("purge", "--dead", "--yes")),
            "pause": (2, self._pause),
            "stop": (1, lambda: self._steer("stop")),
            "cp away": (1, self._copy_away),
            "cp here": (2, self._copy_here),
            "minion": (8, self._start),
            "kill": (4, self._kill),
            "term": (2, self._term),
            "freeze": (3, self._freeze),
            "clock": (3 if place.jumps else 0, self._jump),
            "break": (2 if place.faults else 0, self._break),
            "kill a feed": (2, lambda: self._feed(kill_in_s=self.chance.uniform(0.1, 0.6))),
            "status": (2, self._look),
        }
        always = {"minion", "kill", "term", "freeze", "clock", "break", "kill a feed", "status"}
        for name in self.actions.keys() - place.can - always:
            del self.actions[name]

    # ---- going on
    def begin(self) -> None:
        """The queue is there, and the first minions."""
        batch = self._batch()
        assert self.desk.ask("feed", self.file_of(batch.numbers)).number == len(batch.numbers)
        batch.put = Put.WHOLE
        for _ in range(2):
            self._start()

    def go_on(self, seconds: float) -> None:
        """Let things happen for so long."""
        end = time.monotonic() + seconds
        names = list(self.actions)
        weights = [self.actions[name][0] for name in names]
        while time.monotonic() < end:
            time.sleep(self.chance.uniform(0.02, 0.25))
            self._turn()
            (name,) = self.chance.choices(names, weights)
            self.actions[name][1]()

    def heal(self) -> None:
        """Whatever is broken is mended, and what is under way ends."""
        while self._later:
            heapq.heappop(self._later)[2]()
            self.desk.wait()
        self.crowd.thaw()
        self.desk.wait()
        if "pause" in self.place.can:
            self.desk.ask("resume")

    def finish(self) -> None:
        """All is well from now on, and minions work until nothing is left."""
        self.heal()
        (self.folder / "calm").touch()
        self.did("calm")
        for minion in self.crowd.alive():
            minion.process.terminate()
        self.crowd.wait()
        for _ in range(2):
            self.crowd.start(self.chance, *self.place.drained)
        self.crowd.wait()

    def did(self, what: str) -> None:
        """Note it."""
        self.plan.append(f"{time.monotonic() - self._began:.2f} {what}")

    def about(self, what: object) -> str:
        """A message of a failure, with all that it takes to do the same again."""
        said = [
            f"{minion.errors.name}: {line}"
            for minion in self.crowd.minions
            for line in minion.errors.read_text(errors="replace").splitlines()[-3:]
        ]
        return "\n".join(
            [str(what), f"seed {self.seed}; in {self.folder}; seconds and what was done:",
             *self.plan[-300:], "", *said[-60:]]
        )  # fmt: skip

    def _turn(self) -> None:
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            heapq.heappop(self._later)[2]()
        self.desk.look()
        for minion in self.crowd.minions:
            if not minion.is_alive and not minion.killed:
                minion.killed = True
                status = minion.process.returncode
                self.did(f"minion {minion.process.pid} ended with {status}")
                # KILL is what a poison does; TERM may come before Python has begun.
                assert status in (0, 1, 75, UNREACHABLE, -9, -15), self.about(status)

    def _in(self, seconds: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._later, (time.monotonic() + seconds, next(self._numbers), what))

    # ---- minions
    def _start(self) -> None:
        if len(self.crowd.alive()) >= MOST_MINIONS:
            return
        options = self.chance.choice(
            [(), (), ("--until", "forever"), ("--reconnect", "2"), ("--idle", "2")]
        )
        off_s = self.chance.choice(CLOCKS_S) if self.place.jumps and self._one_in(2) else 0.0
        minion = self.crowd.start(self.chance, *options, off_s=off_s)
        self.did(f"minion {minion.process.pid} begins {' '.join(options)} {off_s:+g}")

    def _one_in(self, count: int) -> bool:
        return self.chance.randrange(count) == 0

    def _kill(self) -> None:
        # Mostly one that is at work.
        alive = self.crowd.alive()
        if alive and (len(alive) > 1 or self._one_in(3)):
            victim = self.chance.choice(alive)
            victim.kill()
            self.did(f"kill {victim.process.pid}")

    def _term(self) -> None:
        if alive := self.crowd.alive():
            victim = self.chance.choice(alive)
            victim.process.terminate()
            self.did(f"TERM {victim.process.pid}")

    def _freeze(self) -> None:
        if awake := self.crowd.alive(frozen=False):
            victim = self.chance.choice(awake)
            victim.freeze()
            self._frozen_at = time.monotonic()
            seconds = self.chance.choice([0.1, 0.5, 1.2 * LEASE_S, 2.5 * LEASE_S])
            self.did(f"STOP {victim.process.pid} for {seconds:g} s")

            def go_on() -> None:
                self._frozen_at = time.monotonic()
                victim.thaw()
                self.did(f"CONT {victim.process.pid}")

            self._in(seconds, go_on)

    def _jump(self) -> None:
        if alive := self.crowd.alive():
            victim, off_s = self.chance.choice(alive), self.chance.choice(CLOCKS_S)
            victim.set_clock(off_s)
            self.did(f"the clock of {victim.process.pid} jumps to {off_s:+g} s")

    def _break(self) -> None:
        if self.broken:
            return
        fault = self.broken = self.chance.choice(self.place.faults)
        self.place.breaks(fault)
        self.reports_lost |= fault in self.place.silences
        self._fault_at = time.monotonic()
        seconds = self.chance.uniform(0.3, 1.5 * LEASE_S)
        self.did(f"{fault} for {seconds:.1f} s")

        def mend() -> None:
            self.place.mends(fault)
            self.broken = ""
            self._fault_at = time.monotonic()
            self.did(f"no more: {fault}")

        self._in(seconds, mend)

    # ---- people
    def failed(self, said: Said, began: float, what: str, *also: int) -> bool:
        """Whether a command could not do it; only trouble excuses that."""
        self.did(f"{what}: {said.status} {said.out.strip()[-60:]} {said.errors.strip()[-200:]}")
        assert "Traceback" not in said.errors, self.about(said)
        if said.status in (0, *also):
            return False
        assert said.status == UNREACHABLE, self.about(f"{what}: {said}")
        trouble = self.broken or max(self._fault_at, self._frozen_at) > began - AFTERMATH_S
        assert trouble, self.about(f"{what}, with no trouble: {said}")
        return True

    def _busy(self) -> bool:
        return len(self.desk.errands) >= MOST_ERRANDS

    def file_of(self, numbers: list[int]) -> str:
        path = self.folder / f"feed-{next(self._numbers)}.jsonl"
        path.write_text("".join(f"{line}\n" for line in self.ledger.lines(numbers)))
        return str(path)

    def _batch(self) -> Batch:
        count = self.chance.choice([1, 3, 10, 30, 30, 100])
        does = [self.chance.choice(LASTS) for _ in range(count)]
        if self._one_in(8):
            does[-1] = "poison"
        return self.ledger.batch(does)

    def _feed(self, kill_in_s: float = 0.0) -> None:
        if self._busy():
            return
        batch = self._batch()
        began = time.monotonic()

        def settles(said: Said) -> None:
            if errand.killed:
                self.did(f"feed of {len(batch.numbers)}: killed")
            elif not self.failed(said, began, f"feed of {len(batch.numbers)}"):
                assert said.number == len(batch.numbers), self.about(said)
                batch.put = Put.WHOLE

        errand = self.desk.send("feed", self.file_of(batch.numbers), settles=settles)
        if kill_in_s:
            self._in(kill_in_s, errand.kill)

    def _dedupe(self) -> None:
        """New ones, among some that were put before, and some of which nobody knows."""
        whole = sorted(self.ledger.numbers(Put.WHOLE))
        under_way = any(errand.argv[0] in ("feed", "cp") for errand in self.desk.errands)
        if self._busy() or not whole or under_way:
            return
        new = self._batch()
        before = self.chance.sample(whole, min(len(whole), 20))
        unknown = self.ledger.of(Put.UNKNOWN)
        unknown = [batch for batch in unknown if batch is not new][-2:]
        unsure = [number for batch in unknown for number in batch.numbers]
        numbers = [*before, *new.numbers, *unsure, *before[:3]]
        self.chance.shuffle(numbers)
        began = time.monotonic()

        def settles(said: Said) -> None:
            if not self.failed(said, began, f"feed --dedupe of {len(new.numbers)} new ones"):
                known = said.number - len(new.numbers)
                assert 0 <= known <= len(unsure), self.about(said)
                for batch in (new, *unknown):
                    batch.put = Put.WHOLE

        self.desk.send("feed", "--dedupe", self.file_of(numbers), settles=settles)

    def _steer(self, *argv: str) -> None:
        if not self._busy():
            began = time.monotonic()
            self.desk.send(*argv, settles=lambda said: self._ended(said, began, *argv))

    def _ended(self, said: Said, began: float, *argv: str) -> None:
        self.failed(said, began, " ".join(argv))

    def _look(self) -> None:
        self._steer("status", "--json")

    def _retry_some(self) -> None:
        """Some ids that may be dead: the others are left alone, and named."""
        if self._busy() or not self.ledger.does or self.place.url.startswith("execo"):
            return
        ids = [str(self.chance.randint(1, len(self.ledger.does))) for _ in range(5)]
        began = time.monotonic()

        def settles(said: Said) -> None:
            self.failed(said, began, "retry ID", 2)

        self.desk.send("retry", *ids, settles=settles)

    def _retry_done(self) -> None:
        if self._busy():
            return
        began = time.monotonic()
        self.desk.send(
            "retry", "--done", settles=lambda said: self._ended(said, began, "retry", "--done")
        )

    def _purge(self, *argv: str) -> None:
        if self._busy():
            return
        began = time.monotonic()

        def settles(said: Said) -> None:
            failed = self.failed(said, began, " ".join(argv))
            self.ledger.dropped(None if failed else said.number)

        self.desk.send(*argv, settles=settles)

    def _pause(self) -> None:
        if self._paused or self._busy():
            return
        self._paused = True
        self._steer("pause")

        def resume() -> None:
            if self._busy():
                self._in(0.2, resume)
            else:
                self._steer("resume")
                self._paused = False

        self._in(self.chance.uniform(0.2, 2.0), resume)

    def _copy_away(self) -> None:
        """What waits, to a queue that is new; it must hold as many as were said."""
        if self._busy():
            return
        to = f"file:{self.folder}/copy-{next(self._numbers)}"
        began = time.monotonic()
        self.desk.send(
            "cp", self.place.url, to, elsewhere=True,
            settles=lambda said: self._ended(said, began, "cp", "away"),
        )  # fmt: skip

    def _copy_here(self) -> None:
        """Params that nobody has, from a queue that is new."""
        if self._busy():
            return
        batch = self._batch()
        source = f"file:{self.folder}/source-{next(self._numbers)}"
        move = ["--move"] if self._one_in(2) else []
        began = time.monotonic()

        def copies(said: Said) -> None:
            assert said.number == len(batch.numbers), self.about(said)
            self.desk.send("cp", *move, source, self.place.url, settles=settles, elsewhere=True)

        def settles(said: Said) -> None:
            if not self.failed(said, began, f"cp {move} of {len(batch.numbers)}"):
                assert said.number == len(batch.numbers), self.about(said)
                batch.put = Put.WHOLE

        self.desk.send(
            "feed", "-q", source, self.file_of(batch.numbers), settles=copies, elsewhere=True
        )

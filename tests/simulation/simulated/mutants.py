"""Rules of the protocol, broken on purpose: the simulation must find each of them out."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from minionize.engines.file import batches, head_file, member, minion, publishing, sweeping
from simulated.schedules import at_random, crowd, zombie
from simulated.world import World


@dataclass(frozen=True)
class Mutant:
    """In the source of `owner.name` each `old` becomes its `new`."""

    rule: str
    owner: Any
    name: str
    changes: tuple[tuple[str, str], ...]
    chances: dict[str, float] = field(default_factory=dict)
    """What has to go wrong often for the rule to matter."""
    hosts: int | None = None
    """1 is a local disk."""
    tell: Callable[[int], World] | None = None
    """Another story than a random one."""

    def story(self, seed: int) -> None:
        """Tell the story in which the rule matters."""
        if self.tell is not None:
            self.tell(seed)
        else:
            at_random(seed, more=self.chances, hosts=self.hosts, small=True)

    @contextmanager
    def alive(self) -> Iterator[None]:
        """While it is entered, the engine is broken."""
        before = self.owner.__dict__[self.name]
        function = before
        source = textwrap.dedent(inspect.getsource(function))
        for old, new in self.changes:
            if old not in source:
                raise LookupError(
                    f"{self.rule}: {self.name} has no {old!r} any more: mend the test"
                )
            source = source.replace(old, new)
        names: dict[str, Any] = {}
        module = inspect.getmodule(function)
        assert module is not None
        exec(compile("from __future__ import annotations\n" + source, self.rule, "exec"),
             vars(module), names)  # fmt: skip
        setattr(self.owner, self.name, names[self.name])
        try:
            yield
        finally:
            setattr(self.owner, self.name, before)


MUTANTS = [
    Mutant(
        "a number is taken outside the lock",
        publishing,
        "_announce",
        (
            ("folder[LAST] += 1", "folder[LAST] = max(folder[LAST], one.number)"),
            ("return folder[LAST], 0", "return one.number, 0"),
        ),
        {"end": 0.8, "switch": 0.4},
    ),
    Mutant(
        "a take-over in two writes",
        sweeping.Sweeper,
        "_finish",
        (
            (
                "head.settled += len(settled)\n",
                "head.settled += len(settled)\n        self._room.head.write()\n",
            ),
        ),
        {"kill": 0.02, "pause": 0.02},
    ),
    Mutant(
        "membership is judged by a path",
        member.Member,
        "is_mine",
        (
            ("slot.generation == self.generation", "self.room.calls.exists(self.folder)"),
            ("and slot.state == slots.LIVE", ""),
            ("and slot.owner == self.owner", ""),
        ),
        tell=zombie,
    ),
    Mutant(
        "the journal is subtracted from the head",
        sweeping.Sweeper,
        "_finish",
        (("head.settled += len(settled)", "head.settled += len(acked)"),),
        {"kill": 0.02, "fail head": 0.2},
    ),
    Mutant(
        "acks that are not in the head count",
        minion.FileEngine,
        "stats",
        (
            (
                "return stats_of(head, self._fronts)",
                "return stats_of(head, self._fronts)._replace(running=sum(\n"
                "        held.left for held in self._holding.held.values()))",
            ),
            ("self._holding.commit(head)", "pass"),
        ),
    ),
    Mutant(
        "a mark without serial",
        sweeping.Sweeper,
        "_finish",
        (("mark in marked", "position in {at for _, at in marked}"),),
        {"kill": 0.01, "end": 0.8},
    ),
    Mutant(
        "a generation is used again",
        member.Member,
        "join",
        (("head.lives += 1\n", "\n"),),
        tell=crowd,
    ),
    Mutant(
        "a slot that was freed is not looked at",
        member,
        "free",
        (("head.free = min(head.free, index)", "pass"),),
        tell=crowd,
    ),
    Mutant(
        "what a host has cached of the head is believed",
        head_file.HeadFile,
        "_read",
        (("if self._shared:", "if False:"),),
        hosts=2,
    ),
    Mutant(
        "an unknown outcome is taken for a good one",
        head_file.HeadFile,
        "write",
        (('raise unavailable(error, "cannot write", self.path) from error', "self._open()"),),
        {"fail head": 0.2, "end": 0.8},
    ),
    Mutant(
        "the head is written before the file has its name",
        publishing.Drafting,
        "announce",
        (
            (
                "self._room.batches.link(one.path, path)",
                "self._room.head.write(); self._room.batches.link(one.path, path)",
            ),
        ),
        {"end": 0.8},
    ),
    Mutant(
        "the head is not synced",
        head_file.HeadFile,
        "write",
        (
            (
                "        self._calls.sync(self._fd)\n    except OSError",
                "        pass\n    except OSError",
            ),
        ),
        {"power": 0.02},
        hosts=1,
    ),
    Mutant(
        "the folder is not synced before the head",
        publishing.Drafting,
        "announce",
        (("self._room.calls.sync_folder(folder)", "pass"),),
        {"power": 0.02, "end": 0.8},
        hosts=1,
    ),
    Mutant(
        "both writes go to one copy",
        head_file.HeadFile,
        "write",
        (("self._target * layout.COPY_BYTES", "0 * layout.COPY_BYTES"),),
        {"kill": 0.02, "fail head": 0.2},
    ),
    Mutant(
        "a batch's orphan is taken for one's own",
        batches.Batches,
        "link",
        (("if not calls.same_file(draft, path):", "if False:"),),
        {"fail head": 0.2, "end": 0.8},
    ),
]

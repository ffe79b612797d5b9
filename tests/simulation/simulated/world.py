"""Hosts, processes and time: who steps next, who dies, who sleeps, what fails."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent, greenlet

from simulated.choices import Chooser, Dice, Path, Pruned
from simulated.disk import Folder, Inode, Opened, failed

if TYPE_CHECKING:
    from simulated.audit import Audit
    from simulated.system import SimulatedCalls

LOCK_KEPT_S = 40.0
"""How long a server keeps the lock of a host that is cut off or dead."""
STALE_S = 60.0
"""How long a host may see an old state of a folder."""
MAX_STEPS = 60_000

CHANGES = frozenset(
    [
        "pwrite",
        "append",
        "fdatasync",
        "fsync_folder",
        "link",
        "unlink",
        "rename",
        "mkdir",
        "rmdir",
        "open_new",
        "open_append",
        "unlock",
        "lock",
    ]
)
"""A process that dies between two others dies at one of these."""
MEETINGS = frozenset(["lock", "append", "unlink", "getlock", "listdir", "fsync_folder"])
"""Where one process's step can matter to another's: what is done under the lock, to drafts of
one's own and to files that never change can't. (Random schedules switch anywhere.)"""
_WRITE = ("full", "EIO", "EIO torn", "EIO after")
FAULTS: dict[str, tuple[str, ...]] = {
    "open": ("EIO", "EIO after"),
    "open_new": ("full", "EIO", "EIO after"),
    "open_append": ("full", "EIO", "EIO after"),
    "pread": ("EIO",),
    "pwrite": _WRITE,
    "append": _WRITE,
    "fdatasync": ("full lost", "EIO lost", "EIO", "EIO after"),
    "fsync_folder": ("full", "EIO", "EIO after"),
    "link": ("full", "EIO", "EIO after"),
    "unlink": ("EIO", "EIO after"),
    "mkdir": ("full", "EIO", "EIO after"),
    "lock": ("EIO",),
    "unlock": ("EIO", "EIO after"),
    "close": ("EIO",),
    "listdir": ("EIO",),
}
"""By call: what it may say, and what became of it then."""


class Crashed(BaseException):
    """The process is gone: raised where it stands, and by all that it still calls."""


class Violation(AssertionError):
    """The engine broke a promise."""


@dataclass
class Host:
    """A machine: its clocks and its kernel."""

    number: int
    boots: int = 1
    monotonic_off_s: float = 0.0
    wall_off_s: float = 0.0
    cut_until: float = 0.0


class Actor:
    """A process: a minion, a feeder, a person."""

    def __init__(self, world: World, name: str, host: Host, body: Callable[[Actor], None]) -> None:
        self.world = world
        self.name = name
        self.host = host
        self.pid = 100 + len(world.actors)
        self.body = body
        self.greenlet = greenlet(self._run)
        self.dead = False
        self.over = False
        self.wake = 0.0
        self.paused_until = 0.0
        self.waits_for: Inode | None = None
        """The lock it was refused."""
        self.fds: dict[int, Opened] = {}
        self.trace = 0
        """Stands for all that it was told: equal traces have equal memories."""
        self.last = ""
        self.mortal = True
        self.charge: set[int] = set()
        """Params under which it would be charged a crash now."""

    def _run(self) -> None:
        try:
            self.body(self)
        except Crashed:
            return
        finally:
            self.over = True

    def told(self, *what: Hashable) -> None:
        """Note what the process learned."""
        self.trace = hash((self.trace, what))

    @property
    def alive(self) -> bool:
        return not (self.dead or self.over)


class World:
    """One schedule of one story."""

    def __init__(
        self, chooser: Chooser, *, hosts: int = 1, shared: bool = False, trace: bool = False
    ) -> None:
        self.chooser = chooser
        self.shared = shared
        self.hosts = [Host(number) for number in range(hosts)]
        self.now = 1000.0
        self.actors: list[Actor] = []
        self.nodes: list[Inode] = []
        self.folders: list[Folder] = []
        self.root = Folder("/")
        self.folders.append(self.root)
        self.hub = getcurrent()
        self.next: Actor | None = None
        self.steps = 0
        self.stopped = False
        self.lost_writes = False
        """Whether a disk threw away what it said it could not sync: leases may come again."""
        self.released: list[tuple[float, Inode, Opened]] = []
        """Locks that the server will take away, and when."""
        self.audit: Audit | None = None
        self.lease_s = 60.0
        self.stale_names = False
        """Whether other hosts see new names as late as they may (else a decision each time)."""
        self.lines: list[str] | None = [] if trace else None
        if isinstance(chooser, Path):
            chooser.fingerprint = self.fingerprint

    # ---- who steps
    def actor(self, name: str, host: int, body: Callable[[Actor], None]) -> Actor:
        """A new process."""
        found = Actor(self, name, self.hosts[host], body)
        self.actors.append(found)
        return found

    def runnable(self, actor: Actor) -> bool:
        """Whether it can go on now."""
        if not actor.alive or max(actor.paused_until, actor.host.cut_until) > self.now:
            return False
        if actor.waits_for is not None and actor.waits_for.holder is None:
            return True
        return actor.wake <= self.now

    def choose(self, current: Actor | None) -> Actor | None:
        """Who steps next; time passes only when nobody can."""
        while True:
            able = [actor for actor in self.actors if self.runnable(actor)]
            if current is not None and current in able:
                able.remove(current)
                able.insert(0, current)
                return able[self.chooser.pick("switch", len(able))]
            if able:
                return able[self.chooser.pick("next", len(able))]
            if not self._pass_time():
                return None

    def _pass_time(self) -> bool:
        moments = [
            max(actor.wake, actor.paused_until, actor.host.cut_until)
            for actor in self.actors
            if actor.alive
        ]
        if not moments:
            return False
        moments += [when for when, _, _ in self.released]
        self.now = max(self.now, min(moments))
        for entry in [entry for entry in self.released if entry[0] <= self.now]:
            self.released.remove(entry)
            _, node, opened = entry
            if node.holder is opened and (opened.actor.dead or opened.host >= 0):
                node.holder = None
                opened.lost = True
                node.dirty.pop(opened.host, None)
                node.forget(opened.host)
                self.note(f"the server takes the lock of {opened.path} from {opened.actor.name}")
        return True

    def run(self) -> None:
        """Until every process has ended."""
        self.hub = getcurrent()
        current: Actor | None = None
        while True:
            current, self.next = self.next, None
            if current is None:
                current = self.choose(None)
            if current is None:
                return
            current.waits_for = None
            current.greenlet.switch()

    def switch(self, actor: Actor) -> None:
        """A moment at which somebody else may step."""
        chosen = self.choose(actor)
        if chosen is not actor:
            self.next = chosen
            self.hub.switch()
            if actor.dead or self.stopped:
                raise Crashed

    def sleep(self, actor: Actor, seconds: float) -> None:
        """It sleeps; others step."""
        actor.wake = self.now + seconds
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise Violation(f"after {self.steps} calls nothing comes to an end")
        self.hub.switch()
        if actor.dead or self.stopped:
            raise Crashed

    def stop(self) -> None:
        """Nothing happens any more: let everybody's stack go."""
        self.stopped = True
        for actor in self.actors:
            if not actor.greenlet.dead and actor.greenlet:
                actor.dead = True
                actor.greenlet.throw(Crashed)

    # ---- who dies
    def kill(self, actor: Actor, *, inside: bool) -> None:
        """kill -9: the kernel closes what it had open, and keeps what it had written."""
        self.note(f"--- {actor.name} is killed at {actor.last}")
        actor.dead = True
        for opened in actor.fds.values():
            if isinstance(opened.node, Inode):
                if self.shared:
                    # Closing writes back first, and only then the lock goes.
                    opened.node.flush(opened.host)
                if opened.node.holder is opened:
                    opened.node.holder = None
        actor.fds.clear()
        self._landed()
        if inside:
            raise Crashed
        if actor.greenlet and not actor.greenlet.dead:
            actor.greenlet.throw(Crashed)

    def crash_host(self, host: Host, by: Actor | None = None) -> None:
        """A host loses its power: its processes, and what it had not written back."""
        self.note(f"--- host {host.number} crashes")
        for node in self.nodes:
            writes = node.dirty.get(host.number, [])
            kept = writes[: self.chooser.pick("kept", len(writes) + 1)]
            if kept and self.chooser.pick("torn", 2):
                offset, piece = kept[-1]
                kept[-1] = (offset, piece[: len(piece) // 2])
            node.crash(host.number, kept)
        if not self.shared:
            for folder in self.folders:
                current = folder.current()
                for name in sorted(current.keys() | folder.stable.keys()):
                    if current.get(name) is not folder.stable.get(name) and not self.chooser.pick(
                        "kept", 2
                    ):
                        folder.set(name, folder.stable.get(name), host.number, self.now)
        victims = [one for one in self.actors if one.host is host and one.alive]
        for one in victims:
            one.dead = True
            for opened in one.fds.values():
                locked = opened.node
                if isinstance(locked, Inode) and locked.holder is opened:
                    if self.shared:
                        self.released.append((self.now + LOCK_KEPT_S, locked, opened))
                    else:
                        locked.holder = None
            one.fds.clear()
        host.boots += 1
        if self.audit is not None:
            self.audit.host_crashed()
        self._landed()
        for one in victims:
            if one is not by and one.greenlet and not one.greenlet.dead:
                one.greenlet.throw(Crashed)
        if by is not None:
            raise Crashed

    def cut_off(self, host: Host, seconds: float) -> None:
        """A host's link is cut: its calls hang, and the server gives its locks to others."""
        self.note(f"--- host {host.number} is cut off for {seconds:g} s")
        host.cut_until = self.now + seconds
        for node in self.nodes:
            opened = node.holder
            if opened is not None and opened.host == host.number and seconds > LOCK_KEPT_S:
                self.released.append((self.now + LOCK_KEPT_S, node, opened))

    # ---- what goes wrong
    def before(self, calls: SimulatedCalls, name: str, given: tuple[Any, ...]) -> None:
        """Just before a call: others may step, its process may die or stand still."""
        actor, pick = calls.actor, self.chooser.pick
        if name in MEETINGS or isinstance(self.chooser, Dice):
            self.switch(actor)
        if name not in CHANGES or not actor.mortal:
            return
        if pick("power", 2):
            self.crash_host(actor.host, actor)
        torn = name in ("pwrite", "append")
        how = pick("kill", 3 if torn else 2)
        if how:
            if how == 2:
                fd, piece, *rest = given
                getattr(calls, f"_{name}")(fd, piece[: len(piece) // 2], *rest)
            self.kill(actor, inside=True)
        if pick("pause", 2):
            seconds = self.lease_s * (1.3 + 0.7 * pick("long", 2))
            self.stall(actor, seconds)
        if self.shared and pick("cut", 2):
            self.cut_off(actor.host, (20.0, 100.0)[pick("long", 2)])
            self._away(actor)

    def fault(self, calls: SimulatedCalls, name: str, given: tuple[Any, ...]) -> str:
        """How the call fails; empty if it does not."""
        if not calls.actor.mortal:
            return ""
        kinds = FAULTS.get(name, ())
        about_head = name in ("pwrite", "fdatasync") and calls.is_head(given[0])
        chosen = self.chooser.pick("fail head" if about_head else "fail", 1 + len(kinds))
        return kinds[chosen - 1] if chosen else ""

    def after(self, calls: SimulatedCalls, name: str, given: tuple[Any, ...]) -> None:
        """Just after a call that may have changed the head."""
        if name in ("pwrite", "fdatasync", "unlock", "close", "link"):
            self._landed()

    def stall(self, actor: Actor, seconds: float) -> None:
        """A process stands still, and goes on as if nothing had been."""
        self.note(f"--- {actor.name} stands still for {seconds:g} s")
        actor.paused_until = self.now + seconds
        self._away(actor)

    def _away(self, actor: Actor) -> None:
        self.hub.switch()
        if actor.dead or self.stopped:
            raise Crashed

    def _landed(self) -> None:
        if self.audit is not None:
            self.audit.look()

    # ---- what is told
    def note(self, line: str) -> None:
        """For the replay of a failure."""
        if self.lines is not None:
            self.lines.append(f"{self.now - 1000:9.3f} {line}")

    def fingerprint(self) -> Hashable:
        """Equal for two moments from which the same can happen."""
        disk = 0
        for node in self.nodes:
            holder = node.holder.actor.name if node.holder else ""
            views = tuple(node.view_marks.items()) if len(self.hosts) > 1 else ()
            disk ^= hash((node.key, node.mark, holder, views, len(node.dirty)))
            for host, mark in node.view_marks.items():
                disk ^= hash((node.key, host, mark))
        for folder in self.folders:
            for name, versions in folder.names.items():
                node_now = versions[-1].node
                disk ^= hash((folder.key, name, node_now.key if node_now else None))
        actors = tuple(
            (one.trace, one.wake, one.paused_until, one.dead, one.over, one.last)
            for one in self.actors
        )
        return hash((disk, actors, self.now))


__all__ = [
    "Actor",
    "Crashed",
    "Dice",
    "Host",
    "Path",
    "Pruned",
    "Violation",
    "World",
    "failed",
]

"""Two hosts and more on one folder: are its locks and reads coherent between them?

Each instance of the command writes a beat into a file of its own, so that they find each other
by names, without any lock. Then they share a counter: first they take turns, each waiting to see
the other's write (a host that reads stale bytes waits for ever); then all increment it as fast as
they can, with a pause between reading and writing (without exclusion, increments vanish, or one
is seen inside by another).
"""

from __future__ import annotations

import json
import os
import secrets
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from minionize.cli.doctor_finding import FAIL, OK, WARN, Finding
from minionize.cli.ending import one_line
from minionize.engines.file.calls import Calls

PLACE = "doctor"
TURNS = 50
RACES = 100
_WINDOW_S = 0.002
_BEAT_S = 0.25
_SILENT_S = 20.0
_COUNTER_BYTES = 4096


class Incoherent(Exception):
    """What was read can't be, if locks and reads are coherent."""


class _TimeIsOver(Exception):
    """The others did not do their part in time."""


class Meeting:
    """This host's part."""

    def __init__(
        self, calls: Calls, folder: str, hosts: int, timeout_s: float, say: Callable[[str], None]
    ) -> None:
        self._calls = calls
        self._hosts = hosts
        self._timeout_s = timeout_s
        self._end = calls.monotonic() + timeout_s
        self._say = say
        self._place = os.path.join(folder, PLACE)
        self._host = os.uname().nodename
        self._id = f"{self._host}-{os.getpid()}-{secrets.token_hex(4)}"
        self._mount = ""
        """Kernel and device: who shares both shares the page cache, and proves nothing."""
        self._beats = 0
        self._seen: dict[str, tuple[int, float]] = {}
        """Beats of others, and since when they stand at that."""
        self._moved: dict[str, dict[str, Any]] = {}
        """Others whose beat moved while we looked."""

    def findings(self) -> Iterator[Finding]:
        """Meet the others and test; the findings of this host."""
        calls = self._calls
        calls.mkdir(self._place)
        self._mount = f"{_boot_id()} {calls.device(self._place)}"
        mine = os.path.join(self._place, f"{self._id}.beat")
        counter = ""
        try:
            try:
                ids = self._meet(mine)
            except _TimeIsOver:
                yield Finding(
                    FAIL, "hosts", f"{len(self._moved) + 1} of {self._hosts} came within "
                    f"{self._timeout_s:.0f} s",
                    f"start minion doctor --hosts {self._hosts} on the others meanwhile; if you "
                    "did, this is not the same folder there",
                )  # fmt: skip
                return
            if len(ids) > self._hosts:
                yield Finding(
                    FAIL, "hosts", f"{len(ids)} came instead of {self._hosts}",
                    "give the same --hosts on all of them, and no other test in this folder",
                )  # fmt: skip
                return
            names = sorted({self._host, *(one["host"] for one in self._moved.values())})
            if any(one["mount"] == self._mount for one in self._moved.values()):
                yield Finding(
                    WARN, "hosts", f"several are on one host ({', '.join(map(one_line, names))})",
                    "start the others on other hosts: within one, everything is coherent",
                )  # fmt: skip
            else:
                yield Finding(OK, "hosts", ", ".join(map(one_line, names)))
            key = zlib.crc32("\n".join(ids).encode())
            counter = os.path.join(self._place, f"{key:08x}.counter")
            yield self._tested(counter, ids, mine)
        finally:
            self._leave(mine, counter)

    def _tested(self, counter: str, ids: list[str], mine: str) -> Finding:
        try:
            Counter(self._calls, counter, self._id, ids, lambda: self._beat(mine), self._end).run()
        except Incoherent as found:
            return Finding(
                FAIL, "coherence", str(found),
                "locks or reads are not shared here: use NFS, Lustre (mounted with flock) or "
                "GlusterFS",
            )  # fmt: skip
        except _TimeIsOver as found:
            return Finding(
                FAIL, "coherence", str(found),
                "what another host writes does not arrive, or it was ended: try again with a "
                "longer --timeout; then use another file system",
            )  # fmt: skip
        return Finding(
            OK, "coherence",
            f"{TURNS} turns and {RACES} increments each under the lock: none lost, none stale",
        )  # fmt: skip

    # ---- meeting
    def _meet(self, mine: str) -> list[str]:
        """Wait until as many as there should be have moved; all ids, sorted."""
        told = False
        while True:
            self._beat(mine)
            self._look()
            ids = sorted([self._id, *self._moved])
            if len(ids) >= self._hosts:
                return ids
            if not told:
                told = True
                self._say(
                    f"waiting for {self._hosts - len(ids)} more: start "
                    f"`minion doctor --hosts {self._hosts}` on the same folder there"
                )
            if self._calls.monotonic() > self._end:
                raise _TimeIsOver
            self._calls.sleep(_BEAT_S)

    def _beat(self, mine: str) -> None:
        self._beats += 1
        beat = {"beat": self._beats, "host": self._host, "mount": self._mount}
        fd = self._calls.open(mine, write=True, create=True)
        try:
            self._calls.pwrite(fd, json.dumps(beat).ljust(512).encode(), 0)
            self._calls.sync(fd)
        finally:
            self._calls.close(fd)

    def _look(self) -> None:
        now = self._calls.monotonic()
        for name in self._calls.names(self._place):
            one, ending = os.path.splitext(name)
            if ending != ".beat" or one == self._id:
                continue
            try:
                beat = json.loads(self._calls.read_whole(os.path.join(self._place, name)))
                count = int(beat["beat"])
                beat["host"], beat["mount"] = str(beat["host"]), str(beat["mount"])
            except (OSError, ValueError, KeyError, TypeError):
                continue  # gone, or being written
            before = self._seen.get(one)
            if before is None or before[0] != count:
                self._seen[one] = (count, now)
                if before is not None:
                    self._moved[one] = beat
            elif now - before[1] > _SILENT_S:
                # A test that was killed left it.
                self._moved.pop(one, None)
                self._remove(os.path.join(self._place, name))

    def _leave(self, mine: str, counter: str) -> None:
        """Take away what is ours, and the folder if we were the last."""
        self._remove(mine)
        try:
            others = [name for name in self._calls.names(self._place) if name.endswith(".beat")]
            if not others:
                for name in self._calls.names(self._place):
                    self._remove(os.path.join(self._place, name))
                self._calls.rmdir(self._place)
        except OSError:
            return  # Another host was faster, or is not done yet.

    def _remove(self, path: str) -> None:
        try:
            self._calls.unlink(path)
        except OSError:
            return  # Gone already; at worst an empty file stays.


class Counter:
    """A counter in a file that all change under its lock."""

    def __init__(
        self,
        calls: Calls,
        path: str,
        me: str,
        ids: list[str],
        beat: Callable[[], None],
        end: float,
    ) -> None:
        self._calls = calls
        self._me = me
        self._ids = ids
        self._beat = beat
        self._end = end
        self._failed = f"{path}.failed"
        self._fd = calls.open(path, write=True, create=True)
        self._mine = 0
        self._others: dict[str, int] = {}
        self._beat_due = 0.0

    def run(self) -> None:
        """Take turns, then race. Incoherent or _TimeIsOver say what went wrong."""
        try:
            self._run()
        except Incoherent:
            # The others would wait for us until their time is over.
            self._calls.close(self._calls.open(self._failed, write=True, create=True))
            raise
        finally:
            self._calls.close(self._fd)

    def _run(self) -> None:
        for turn in range(TURNS):
            self._until(lambda turn=turn: self._turn(turn))  # type: ignore[misc]
        self._until(lambda: self._all_have(TURNS))
        for race in range(RACES):
            self._until(lambda race=race: self._race(TURNS + race))  # type: ignore[misc]
        self._until(lambda: self._all_have(TURNS + RACES))

    def _until(self, done: Callable[[], bool]) -> None:
        pause_s = 0.001
        while True:
            now = self._calls.monotonic()
            if now >= self._beat_due:
                # A host that came later has not seen ours move yet.
                self._beat()
                self._beat_due = now + _BEAT_S
                if self._calls.exists(self._failed):
                    raise Incoherent("another host found locks or reads that are not coherent")
            if done():
                return
            if now > self._end:
                slow = min(self._others, key=lambda one: self._others[one], default="the others")
                raise _TimeIsOver(
                    f"waited in vain for the writes of {one_line(slow)} "
                    f"({self._others.get(slow, 0)} of them seen)"
                )
            self._calls.sleep(pause_s * (0.5 + self._calls.jitter()))
            pause_s = min(0.05, pause_s * 2)

    def _turn(self, turn: int) -> bool:
        """Increment if all others did before us, in the order of the ids."""
        if not self._calls.lock(self._fd):
            return False
        try:
            by = self._read()
            place = self._ids.index(self._me)
            ready = all(by.get(one, 0) > turn for one in self._ids[:place])
            ready = ready and all(by.get(one, 0) >= turn for one in self._ids[place + 1 :])
            if ready:
                self._write({**by, self._me: turn + 1}, inside="")
            return ready
        finally:
            self._calls.unlock(self._fd)

    def _race(self, count: int) -> bool:
        """Increment, with others between our read and our write if the lock lets them."""
        if not self._calls.lock(self._fd):
            return False
        try:
            by = self._read()
            self._write(by, inside=self._me)
            self._calls.sleep(_WINDOW_S)
            self._write({**by, self._me: count + 1}, inside="")
            return True
        finally:
            self._calls.unlock(self._fd)

    def _all_have(self, count: int) -> bool:
        if not self._calls.lock(self._fd):
            return False
        try:
            by = self._read()
        finally:
            self._calls.unlock(self._fd)
        return all(by.get(one, 0) >= count for one in self._ids)

    def _read(self) -> dict[str, int]:
        """Counts by id, read afresh under the lock, and compared with what they must be."""
        self._calls.forget(self._fd)
        content = self._calls.pread(self._fd, _COUNTER_BYTES, 0).strip()
        if not content:
            by: dict[str, int] = {}
            inside = ""
        else:
            try:
                found = json.loads(content)
                by, inside = dict(found["by"]), str(found["inside"])
            except (ValueError, KeyError, TypeError):
                raise Incoherent("half of a write was read under the lock") from None
        if inside and inside != self._me:
            raise Incoherent(f"{one_line(inside)} was inside the lock at the same time")
        if by.get(self._me, 0) != self._mine:
            raise Incoherent(
                f"{self._mine} increments were written here and {by.get(self._me, 0)} are there"
            )
        for one, count in self._others.items():
            if by.get(one, 0) < count:
                raise Incoherent(
                    f"a stale read: {by.get(one, 0)} increments of {one_line(one)}, "
                    f"after {count} were seen"
                )
        self._others = {one: by.get(one, 0) for one in self._ids if one != self._me}
        return by

    def _write(self, by: dict[str, int], *, inside: str) -> None:
        content = json.dumps({"by": by, "inside": inside}).ljust(_COUNTER_BYTES - 1) + "\n"
        self._calls.pwrite(self._fd, content.encode(), 0)
        self._calls.sync(self._fd)
        self._mine = by.get(self._me, 0)


def _boot_id() -> str:
    """Tells the running kernels apart; containers of one machine share it."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return os.uname().nodename

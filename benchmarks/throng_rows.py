"""A throng: many more minions than this machine has CPUs, over one queue. It must end drained."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import peers
from benchmarks.redis_rows import valkey, valkey_lacks
from benchmarks.timed import Figure, fresh_folder

SCRIPT = Path(__file__).parent / "scripts" / "timed_minion.py"
PATIENCE_S = 600.0
RUN_S = 1


class Course(NamedTuple):
    """How it went, in seconds, and what the minions took while all of them were idle."""

    joined_s: float
    drained_s: float
    ended_s: float
    """From the moment they were let loose until the last of them ended."""
    pss_mib: float
    processes: int


def throng(rounds: int, scale: float) -> Iterator[Figure]:
    """500 minions of one slot on one queue, paused until all are there: 5,000 runs of sleep 1"""
    many = int(500 * scale) or 1
    count = 10 * many
    yield from _over_a_folder(many, count)
    yield from _over_redis(many, count)


def _over_a_folder(many: int, count: int) -> Iterator[Figure]:
    with fresh_folder() as folder:
        url = f"file:{folder}/minion-queue"
        timed = [peers.minionize_bin("python"), str(SCRIPT), "figures"]
        course = _run(folder, url, [*timed, *_launch(url, many)], many, count)
        told = [json.loads(path.read_text()) for path in folder.glob("figures.*")]
    if len(told) != many:
        raise RuntimeError(f"only {len(told)} of {many} minions told what they did")
    total_s, waited_s, held_s, visits = (
        sum(one[key] for one in told) for key in ("wall_s", "waited_s", "held_s", "visits")
    )
    yield from _of_all("folder", course, many, count)
    wall_s = course.joined_s + course.ended_s
    yield Figure("folder: its lock is held", f"{held_s / wall_s:.0%} of the time")
    yield Figure("folder: minions wait for it", f"{waited_s / total_s:.1%} of their time")
    per_visit = f"{visits / count:.2f} a param, {held_s / visits * 1000:.1f} ms each"
    yield Figure("folder: visits under the lock", per_visit)


def _over_redis(many: int, count: int) -> Iterator[Figure]:
    if lacks := valkey_lacks():
        yield Figure("Redis", lacks, "")
        return
    import redis

    with fresh_folder() as folder, valkey() as port, redis.Redis(port=port, protocol=2) as client:
        url = f"redis://127.0.0.1:{port}/0?stream=q"
        command = [peers.minionize_bin("minion"), *_launch(url, many)]
        watch = _Server(client)
        course = _run(folder, url, command, many, count, watch)
    yield from _of_all("Redis", course, many, count)
    yield Figure("Redis: the server, all idle", watch.share("idle"))
    yield Figure("Redis: the server, all at work", watch.share("work"))


def _launch(url: str, many: int) -> list[str]:
    return ["launch", "local", "-n", str(many), "-q", url, "--", "sleep"]


class _Server:
    """What the server did meanwhile, by its own counters."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._began = self._now()
        self._shares: dict[str, str] = {}

    def begin(self) -> None:
        self._began = self._now()

    def end(self, name: str) -> None:
        seconds, cpu_s, commands = (
            after - before for after, before in zip(self._now(), self._began, strict=True)
        )
        self._shares[name] = f"{cpu_s / seconds:.0%} of a CPU, {commands / seconds:,.0f} commands/s"

    def share(self, name: str) -> str:
        return self._shares[name]

    def _now(self) -> tuple[float, float, float]:
        info = self._client.info()
        cpu_s = info["used_cpu_user"] + info["used_cpu_sys"]
        return time.monotonic(), cpu_s, info["total_commands_processed"]


def _of_all(name: str, course: Course, many: int, count: int) -> Iterator[Figure]:
    yield Figure(f"{name}: all {many} there", f"{course.joined_s:.1f} s")
    least_s = count * RUN_S / many
    yield Figure(f"{name}: {count:,} done", f"{course.drained_s:.1f} s ({least_s:.0f} s at best)")
    yield Figure(f"{name}: all have ended", f"{course.ended_s:.1f} s")
    each = f"{course.pss_mib / many:.1f} MiB ({course.processes} processes)"
    yield Figure(f"{name}: memory of each", each)


def _run(
    folder: Path,
    url: str,
    command: Sequence[str],
    many: int,
    count: int,
    server: _Server | None = None,
) -> Course:
    """RuntimeError if it does not end drained, with all done and the command content."""
    from minionize import open_queue

    with open_queue(url) as queue, open(folder / "said", "ab") as said:
        queue.put_texts([f"{RUN_S}"] * count)
        queue.steer(paused=True)
        begin = time.monotonic()
        running = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=said, stderr=said
        )
        try:
            _until(begin, running, lambda: (queue.stats().minions or 0) >= many, folder)
            joined = time.monotonic()
            pss_mib, processes = _pss_mib(folder)
            if server is not None:
                server.begin()
                time.sleep(10)
                server.end("idle")
                server.begin()
            loose = time.monotonic()
            queue.steer(paused=False)
            _until(loose, running, lambda: queue.stats().drained, folder)
            drained = time.monotonic()
            if server is not None:
                server.end("work")
            status = running.wait(PATIENCE_S)
            ended = time.monotonic()
        finally:
            if running.poll() is None:
                running.terminate()
                running.wait()
        stats = queue.stats()
    if status or (stats.done, stats.dead) != (count, 0):
        raise RuntimeError(f"exit {status}, {stats}: {_tail(folder)}")
    return Course(joined - begin, drained - loose, ended - loose, pss_mib, processes)


def _until(
    begin: float, running: subprocess.Popen[bytes], true: Callable[[], Any], folder: Path
) -> None:
    while not true():
        if running.poll() or time.monotonic() - begin > PATIENCE_S:
            raise RuntimeError(f"exit {running.returncode}, or too slow: {_tail(folder)}")
        time.sleep(0.5)


def _tail(folder: Path) -> str:
    return (folder / "said").read_text(errors="replace")[-1000:]


def _pss_mib(folder: Path) -> tuple[float, int]:
    """Memory of all processes that are at home in `folder`, shared pages divided among those that
    share them; and how many processes that is."""
    kib, processes = 0, 0
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.readlink(path / "cwd") == str(folder):
                lines = (path / "smaps_rollup").read_text().splitlines()
                kib += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
                processes += 1
    return kib / 1024, processes

"""What rows share, and figures that are no pair of commands: latency, idle time, a crowd."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import peers
from benchmarks.measure import Contestant, ratio, run_rounds


class Figure(NamedTuple):
    """One figure of a row."""

    name: str
    value: str
    goal: str = ""


@contextlib.contextmanager
def fresh_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="minionize-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def against_a_plain_client(
    raw: Callable[[Path], Sequence[Sequence[str]]],
    minion: Callable[[Path], Sequence[Sequence[str]]],
    count: int,
    rounds: int,
) -> Iterator[Figure]:
    """What a minion with a no-op function reaches of a loop that only receives and acks. Both make
    the commands that take `count` messages."""
    one, other = Contestant("a plain client", raw), Contestant("a no-op function", minion)
    figures = run_rounds([one, other], rounds)
    for name, mine in figures.items():
        rate = f"{count / mine.median_wall_s():,.0f}/s"
        part = ratio(figures[one.name], mine)
        said = rate if name == one.name else f"{rate}, {part:.2f} of it"
        yield Figure(name, said, "" if name == one.name else ">= 0.7 of a plain client")


def feed_texts(folder: Path, texts: list[str]) -> None:
    """Params, as JSON texts, into the queue that a minion started in `folder` finds."""
    from minionize import open_queue

    with open_queue(f"file:{folder}/minion-queue") as queue:
        queue.put_texts(texts)


def put_to_start(rounds: int, scale: float) -> Iterator[Figure]:
    """A param put on an idle queue starts after (one idle minion on a file queue)"""
    script = "date +%s.%N >> starts"
    waits: list[float] = []
    with fresh_folder() as folder:
        feed_texts(folder, ["0"])
        command = [peers.minionize_bin(), "--quiet", "--until", "forever", "sh", "-c", script]
        minion = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)
        starts = folder / "starts"
        try:
            for number in range(1, 4 * rounds + 1):
                _wait_for_lines(starts, number)
                time.sleep(1.5 + 0.037 * number)  # let it become idle, at another phase each time
                begin = time.time()
                feed_texts(folder, [str(number)])
                _wait_for_lines(starts, number + 1)
                waits.append(float(starts.read_text().split()[number]) - begin)
        finally:
            minion.send_signal(signal.SIGTERM)
            minion.wait()
    median_ms, worst_ms = statistics.median(waits) * 1000, max(waits) * 1000
    value = f"median {median_ms:.0f} ms, worst {worst_ms:.0f} ms"
    yield Figure("put, fsync and start", value, "<= 0.3 s")


def _wait_for_lines(path: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while not path.exists() or len(path.read_text().split()) < count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{path} has not {count} lines after 60 s")
        time.sleep(0.005)


def idle_share(rounds: int, scale: float) -> Iterator[Figure]:
    """8 slots of a 1-second program: share of the time that slots idle"""
    with fresh_folder() as folder:
        feed_texts(folder, [str(number) for number in range(80)])
        command = [peers.minionize_bin(), "--quiet", "-j8", "sh", "-c"]
        script = "date +%s.%N >> begin; sleep 1; date +%s.%N >> end"
        subprocess.run([*command, script], cwd=folder, check=True)
        begin = [float(text) for text in (folder / "begin").read_text().split()]
        end = [float(text) for text in (folder / "end").read_text().split()]
    busy_s = sum(end) - sum(begin)
    idle = 1 - busy_s / (8 * (max(end) - min(begin)))
    yield Figure("from first start to last end", f"{idle:.2%}", "<= 1 %")


def two_busy_loops_gain(rounds: int) -> float:
    """How much more two independent busy loops get done than one, on this machine, now."""
    code = "\n".join(
        (
            "import time",
            "end, n = time.perf_counter() + 1, 0",
            "while time.perf_counter() < end: n += 1",
            "print(n)",
        )
    )
    command = [peers.minionize_bin("python"), "-c", code]

    def loops(many: int) -> int:
        running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(many)]
        return sum(int(one.communicate()[0]) for one in running)

    gains = []
    for _ in range(2 * rounds):
        # The machine's own speed changes from second to second: one before and one after the two.
        before, two, after = loops(1), loops(2), loops(1)
        gains.append(2 * two / (before + after))
    return statistics.median(gains)


def ten_million(rounds: int, scale: float) -> Iterator[Figure]:
    """10 million params: memory of the minion that works them off, and then minion status"""
    count = int(10_000_000 * scale)
    with fresh_folder() as folder:
        feed = f"seq {count} | {peers.minionize_bin('minion')} feed --format lines -"
        subprocess.run(["sh", "-c", feed], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        path = str(Path(__file__).parents[1])
        work = ["env", f"PYTHONPATH={path}", peers.minionize_bin(), "--quiet"]
        minion = subprocess.Popen([*work, "--call", "benchmarks.noop:noop"], cwd=folder)
        _, status, usage = os.wait4(minion.pid, 0)
        minion.returncode = os.waitstatus_to_exitcode(status)
        if minion.returncode:
            raise RuntimeError(f"the minion ended with {minion.returncode}")
        waits, peaks = [], []
        for _ in range(rounds):
            begin = time.perf_counter()
            look = [peers.minionize_bin("minion"), "status", "--json"]
            looking = subprocess.Popen(look, cwd=folder, stdout=subprocess.PIPE)
            assert looking.stdout is not None
            page = json.loads(looking.stdout.read())
            peaks.append(os.wait4(looking.pid, 0)[2].ru_maxrss)
            looking.returncode = 0
            waits.append(time.perf_counter() - begin)
        done = page["done"]
        if done != count:
            raise RuntimeError(f"status says {done} done of {count}")
    yield Figure(f"a minion on {count:,}", f"{usage.ru_maxrss / 1024:.0f} MiB", "<= 40 MiB")
    value = f"{statistics.median(waits):.2f} s, {max(peaks) / 1024:.0f} MiB"
    yield Figure(f"minion status of {count:,} done", value, "<= 1 s")


def crowd(rounds: int, scale: float) -> Iterator[Figure]:
    """200 minions of one slot on one file queue, params of 0.1 s: share of time in locks"""
    many = int(200 * scale) or 1
    script = str(Path(__file__).parent / "scripts" / "timed_minion.py")
    with fresh_folder() as folder:
        feed_texts(folder, [str(number) for number in range(many * 100)])
        command = [peers.minionize_bin("python"), script]
        options = ["--quiet", "--max-time", "30", "sh", "-c", "sleep 0.1"]
        begin = time.perf_counter()
        running = [
            subprocess.Popen(
                [*command, f"figures-{number}", *options], cwd=folder, stderr=subprocess.DEVNULL
            )
            for number in range(many)
        ]
        for minion in running:
            minion.wait()
        wall_s = time.perf_counter() - begin
        from minionize import open_queue

        with open_queue(f"file:{folder}/minion-queue") as queue:
            done = queue.stats().done or 0
        told = [json.loads(path.read_text()) for path in folder.glob("figures-*")]
    total_s, waited_s, held_s, visits = (
        sum(one[key] for one in told) for key in ("wall_s", "waited_s", "held_s", "visits")
    )
    share = done * 0.1 / (wall_s * many)
    yield Figure(f"{len(told)} minions on {os.cpu_count()} CPUs, in programs", f"{share:.0%}")
    yield Figure("waiting for the lock", f"{waited_s / total_s:.2%}")
    yield Figure("holding it", f"{held_s / total_s:.2%}")
    yield Figure("the lock is held", f"{held_s / wall_s:.0%} of the time")
    yield Figure("visits per param", f"{visits / max(done, 1):.2f}")
    yield Figure("one visit holds it for", f"{held_s / visits * 1000:.2f} ms")

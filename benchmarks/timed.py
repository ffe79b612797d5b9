"""Figures that are no pair of commands: latency, idle time, a crowd of minions."""

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
from collections.abc import Iterator
from pathlib import Path

from benchmarks import peers


@contextlib.contextmanager
def fresh_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="minionize-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _feed_texts(folder: Path, texts: list[str]) -> None:
    from minionize import open_queue

    with open_queue(f"file:{folder}/minion-queue") as queue:
        queue.put_texts(texts)


def put_to_start(rounds: int, scale: float) -> tuple[str, str]:
    """A param put on an idle queue starts after (one idle minion on a file queue)"""
    script = "date +%s.%N >> starts"
    waits: list[float] = []
    with fresh_folder() as folder:
        _feed_texts(folder, ["0"])
        command = [peers.minionize_bin(), "--quiet", "--until", "forever", "sh", "-c", script]
        minion = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)
        starts = folder / "starts"
        try:
            for number in range(1, 4 * rounds + 1):
                _wait_for_lines(starts, number)
                time.sleep(1.5 + 0.037 * number)  # let it become idle, at another phase each time
                begin = time.time()
                _feed_texts(folder, [str(number)])
                _wait_for_lines(starts, number + 1)
                waits.append(float(starts.read_text().split()[number]) - begin)
        finally:
            minion.send_signal(signal.SIGTERM)
            minion.wait()
    median_ms, worst_ms = statistics.median(waits) * 1000, max(waits) * 1000
    return "put, fsync and start", f"median {median_ms:.0f} ms, worst {worst_ms:.0f} ms"


def _wait_for_lines(path: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while not path.exists() or len(path.read_text().split()) < count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{path} has not {count} lines after 60 s")
        time.sleep(0.005)


def idle_share(rounds: int, scale: float) -> tuple[str, str]:
    """8 slots of a 1-second program: share of the time that slots idle"""
    with fresh_folder() as folder:
        _feed_texts(folder, [str(number) for number in range(80)])
        command = [peers.minionize_bin(), "--quiet", "-j8", "sh", "-c"]
        script = "date +%s.%N >> begin; sleep 1; date +%s.%N >> end"
        subprocess.run([*command, script], cwd=folder, check=True)
        begin = [float(text) for text in (folder / "begin").read_text().split()]
        end = [float(text) for text in (folder / "end").read_text().split()]
    busy_s = sum(end) - sum(begin)
    idle = 1 - busy_s / (8 * (max(end) - min(begin)))
    return "from first start to last end", f"{idle:.2%}"


def two_busy_loops_gain(rounds: int) -> float:
    """How much more two independent busy loops get done than one, on this machine, now."""
    code = "\n".join(
        (
            "import time",
            "end, n = time.perf_counter() + 2, 0",
            "while time.perf_counter() < end: n += 1",
            "print(n)",
        )
    )
    command = [peers.minionize_bin("python"), "-c", code]

    def loops(many: int) -> int:
        running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(many)]
        return sum(int(one.communicate()[0]) for one in running)

    return statistics.median(loops(2) / loops(1) for _ in range(max(1, rounds // 2)))


def status_of_many(rounds: int, scale: float) -> tuple[str, str]:
    """minion status of 10 million done, events of every one kept"""
    count = int(10_000_000 * scale)
    with fresh_folder() as folder:
        feed = f"seq {count} | {peers.minionize_bin('minion')} feed --format lines -"
        subprocess.run(["sh", "-c", feed], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        path = str(Path(__file__).parents[1])
        work = ["env", f"PYTHONPATH={path}", peers.minionize_bin(), "--quiet"]
        subprocess.run([*work, "--call", "benchmarks.noop:noop"], cwd=folder, check=True)
        waits = []
        for _ in range(rounds):
            begin = time.perf_counter()
            status = [peers.minionize_bin("minion"), "status", "--json"]
            page = subprocess.run(status, cwd=folder, check=True, capture_output=True).stdout
            waits.append(time.perf_counter() - begin)
        done = json.loads(page)
    return f"{count:,} params", f"{statistics.median(waits):.2f} s ({len(done)} keys)"


def crowd(rounds: int, scale: float) -> tuple[str, str]:
    """200 minions of one slot on one file queue, params of 0.1 s: what the crowd costs"""
    many = int(200 * scale) or 1
    with fresh_folder() as folder:
        _feed_texts(folder, [str(number) for number in range(many * 100)])
        command = [peers.minionize_bin(), "--quiet", "--max-time", "30", "sh", "-c", "sleep 0.1"]
        begin = time.perf_counter()
        running = [
            subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL) for _ in range(many)
        ]
        for minion in running:
            minion.wait()
        wall_s = time.perf_counter() - begin
        from minionize import open_queue

        with open_queue(f"file:{folder}/minion-queue") as queue:
            done = queue.stats().done or 0
    share = done * 0.1 / (wall_s * many)
    return f"{many} minions on {os.cpu_count()} CPUs", f"{share:.0%} of their time in programs"

"""The Redis engine against the raw client, and against task queues on the same server."""

from __future__ import annotations

import contextlib
import functools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

from benchmarks import peers
from benchmarks.measure import Contestant, Figures, ratio, run_rounds
from benchmarks.timed import Figure, _wait_for_lines, fresh_folder

CLONE = Path(__file__).parents[1]
SCRIPTS = Path(__file__).parent / "scripts"
PEERS = ("taskiq", "huey", "dramatiq")
Commands = Sequence[Sequence[str]]
Row = Callable[[int, float], Iterator[Figure]]


@functools.cache
def _service() -> ModuleType:
    """How tests start a server."""
    sys.path.insert(0, str(CLONE / "tests"))
    from services import redis

    return redis


def valkey_lacks() -> str:
    """Why there is no server here; empty if there is one."""
    return str(_service().lacking("valkey"))


def _said_if_lacking(row: Row) -> Row:
    """`row` where there is a server; elsewhere a line that says what it lacks."""

    @functools.wraps(row)
    def run(rounds: int, scale: float) -> Iterator[Figure]:
        if lacks := valkey_lacks():
            yield Figure("Valkey", lacks, "")
        else:
            yield from row(rounds, scale)

    return run


@contextlib.contextmanager
def valkey() -> Iterator[int]:
    """The port of a fresh server: Valkey's, from its wheel, in memory."""
    with fresh_folder() as folder, _service().RedisServer(folder, "valkey") as server:
        yield server.port


def _url(port: int) -> str:
    return f"redis://127.0.0.1:{port}/0?stream=q"


def _flush(port: int) -> None:
    import redis

    with redis.Redis(port=port, protocol=2) as client:
        client.flushall()


def _fill(port: int, count: int) -> None:
    """A queue of `count` numbers and nothing else."""
    from minionize import open_queue

    _flush(port)
    with open_queue(_url(port)) as queue:
        queue.put_texts(map(str, range(count)))


def _done(port: int, count: int) -> Callable[[Path], None]:
    def verify(folder: Path) -> None:
        from minionize import open_queue

        with open_queue(_url(port)) as queue:
            done = queue.stats().done
        if done != count:
            raise RuntimeError(f"{done} of {count} params are done")

    return verify


def _minions(port: int, name: str, count: int, *args: str, many: int = 1) -> Contestant:
    # Where it is found in the clone, so is all of minionize, which no pip has compiled there.
    env = ["env", f"PYTHONPATH={CLONE}"] if "--call" in args else []

    def prepare(folder: Path) -> Commands:
        _fill(port, count)
        return [[*env, peers.minionize_bin(), "--quiet", "-q", _url(port), *args]] * many

    return Contestant(name, prepare, verify=_done(port, count))


def _raw(port: int, name: str, count: int, many: int) -> Contestant:
    def prepare(folder: Path) -> Commands:
        _fill(port, count)
        return [[str(peers.python_of_redis_peers()), str(SCRIPTS / "redis_raw.py"), "work",
                 str(port)]] * many  # fmt: skip

    return Contestant(name, prepare)


def _peer(port: int, kind: str, count: int) -> Contestant:
    command = [str(peers.python_of_redis_peers()), str(SCRIPTS / "redis_peer.py"), kind]

    def prepare(folder: Path) -> Commands:
        _flush(port)
        subprocess.run([*command, "fill", str(port), str(count)], check=True)
        return [[*command, "work", str(port), str(count)]]

    return Contestant(kind, prepare)


@_said_if_lacking
def noop(rounds: int, scale: float) -> Iterator[Figure]:
    """Redis: a no-op function in its child process, against the raw client and other task queues"""
    count, few = int(1_000_000 * scale), int(20_000 * scale)
    call = ("--call", "benchmarks.noop:noop", "--reporter", "null")
    with valkey() as port:
        figures = run_rounds(
            [
                _raw(port, "raw", count, 1),
                _minions(port, "minion", count, *call),
                _raw(port, "two raw", count, 2),
                _minions(port, "two minions", count, *call, many=2),
                *(_peer(port, kind, few) for kind in PEERS),
            ],
            rounds,
        )

    def rate(name: str) -> float:
        return (few if name in PEERS else count) / figures[name].median_wall_s()

    for name in figures:
        value, goal = f"{rate(name):,.0f}/s", ""
        if name in ("minion", "two minions"):
            raw = "raw" if name == "minion" else "two raw"
            value += f", {1 / ratio(figures[name], figures[raw]):.2f} of {raw}"
            goal = ">= 0.5"
        elif name in PEERS:
            value += f", a minion is {rate('minion') / rate(name):.0f} times as fast"
            goal = ">= 20"
        yield Figure(name, value, goal)


def _against(figures: dict[str, Figures], base: str, goal: str) -> Iterator[Figure]:
    for name, mine in figures.items():
        value = f"{mine.median_wall_s():.2f} s"
        if name != base:
            value += f", {ratio(mine, figures[base]):.2f}x {base}"
        yield Figure(name, value, "" if name == base else goal)


@_said_if_lacking
def spawn(rounds: int, scale: float) -> Iterator[Figure]:
    """Redis: 2,000 x /bin/true on 2 slots, against xargs"""
    count = int(2_000 * scale)

    def numbers(folder: Path) -> Path:
        path = folder / "numbers.txt"
        path.write_text("".join(f"{number}\n" for number in range(count)))
        return path

    command = [["xargs", "-n1", "-P2", "/bin/true"]]
    xargs = Contestant("xargs -n1 -P2", lambda folder: command, stdin=numbers)
    with valkey() as port:
        minion = _minions(port, "minionize -j2", count, "-j2", "/bin/true")
        figures = run_rounds([xargs, minion], rounds)
    yield from _against(figures, "xargs -n1 -P2", "<= 1.15x")


@_said_if_lacking
def feed(rounds: int, scale: float) -> Iterator[Figure]:
    """Redis: minion feed of 1 million lines, against XADD in pipelines of 1,000"""
    count = int(1_000_000 * scale)

    def lines(folder: Path) -> str:
        with open(folder / "numbers.txt", "w") as out:
            out.writelines(f"{number}\n" for number in range(count))
        return str(folder / "numbers.txt")

    with valkey() as port:

        def minion(folder: Path) -> Commands:
            _flush(port)
            return [[peers.minionize_bin("minion"), "feed", "-q", _url(port), lines(folder)]]

        def raw(folder: Path) -> Commands:
            _flush(port)
            python = str(peers.python_of_redis_peers())
            return [[python, str(SCRIPTS / "redis_raw.py"), "feed", str(port), lines(folder)]]

        def all_put(folder: Path) -> None:
            from minionize import open_queue

            with open_queue(_url(port)) as queue:
                if queue.stats().waiting != count:
                    raise RuntimeError(f"{queue.stats()}")

        contestants = [Contestant("raw", raw), Contestant("minion feed", minion, verify=all_put)]
        figures = run_rounds(contestants, rounds)
    yield from _against(figures, "raw", "<= 1.2x")


@_said_if_lacking
def latency(rounds: int, scale: float) -> Iterator[Figure]:
    """Redis: a param put on an idle queue starts after"""
    from minionize import open_queue

    waits_s: list[float] = []
    with valkey() as port, fresh_folder() as folder, open_queue(_url(port)) as queue:
        queue.put([0])
        options = ["--quiet", "--until", "forever", "-q", _url(port)]
        command = [peers.minionize_bin(), *options, "sh", "-c", "date +%s.%N >>starts"]
        minion = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)
        starts = folder / "starts"
        try:
            for number in range(1, 4 * rounds + 1):
                _wait_for_lines(starts, number)
                time.sleep(0.8 + 0.037 * number)  # let it become idle, at another phase each time
                begin = time.time()
                queue.put([number])
                _wait_for_lines(starts, number + 1)
                waits_s.append(float(starts.read_text().split()[number]) - begin)
        finally:
            minion.terminate()
            minion.wait()
    median_ms, worst_ms = statistics.median(waits_s) * 1000, max(waits_s) * 1000
    yield Figure("put and start", f"median {median_ms:.0f} ms, worst {worst_ms:.0f} ms", "<= 50 ms")


MEASURES = {
    "redis": noop,
    "redis-spawn": spawn,
    "redis-feed": feed,
    "redis-latency": latency,
}
